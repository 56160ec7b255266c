"""Images that are unfit to judge, at the edges of the documented limits."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.cameras import CameraOptions, ImageChecks, open_camera
from edge_ad.cameras.checks import ImageWatch
from edge_ad.errors import ImageFault
from edge_ad.frame import Frame, Image

SIDE = 100  # every pixel is looked at, and one pixel is 0.01 %


def frame(image: Image) -> Frame:
    return Frame(image=image, sequence=7, timestamp_ns=11, camera="line 1")


def image(level: int, others: int = 0, other_level: int = 128) -> Image:
    """A grey image of which `others` pixels have another level in one channel."""
    pixels = np.full((SIDE, SIDE, 3), level, np.uint8)
    pixels.reshape(-1, 3)[:others, 2] = other_level
    return pixels


@pytest.mark.parametrize(
    ("picture", "fault"),
    [
        (image(12), "black"),
        (image(12, others=10), "black"),  # 99.9 %
        (image(12, others=11), None),
        (image(13), None),
        (image(0, others=11, other_level=13), None),  # one channel is light enough
        (image(250), "overexposed"),
        (image(249), None),
        (image(0, others=9500, other_level=250), "overexposed"),  # one channel is enough to be clipped
        (image(20, others=9499, other_level=250), None),
        (image(255, others=500, other_level=255), "overexposed"),
    ],
)
def test_black_and_overexposed(picture: Image, fault: str | None) -> None:
    watch = ImageWatch(ImageChecks(), may_repeat=False)
    if fault is None:
        watch.check(frame(picture))
        return
    with pytest.raises(ImageFault, match=f"line 1 is {fault}") as caught:
        watch.check(frame(picture))
    assert caught.value.frame.image is picture
    assert (caught.value.camera, caught.value.sequence, caught.value.timestamp_ns) == ("line 1", 7, 11)


def test_large_images_are_sampled_all_over() -> None:
    """Light in one tenth of a large image, wherever it is, is seen."""
    watch = ImageWatch(ImageChecks(frozen_after=None), may_repeat=False)
    for start in range(0, 1000, 100):
        dark = np.zeros((1000, 1500, 3), np.uint8)
        dark[start : start + 100] = 60
        watch.check(frame(dark))
    with pytest.raises(ImageFault, match="black"):
        watch.check(frame(np.zeros((1000, 1500, 3), np.uint8)))


def test_frozen_from_the_nth_image_on_and_no_longer() -> None:
    watch = ImageWatch(ImageChecks(frozen_after=3), may_repeat=False)
    random = np.random.default_rng(0)
    moving, still = (random.integers(50, 200, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(2))
    nearly = still.copy()
    nearly[-1, -1, -1] += 1
    fates = []
    for picture in (moving, still, still.copy(), still, still, nearly, nearly, still, still):
        try:
            watch.check(frame(picture))
            fates.append("fit")
        except ImageFault as fault:
            assert "frozen" in fault.what
            fates.append("frozen")
    assert fates == ["fit", "fit", "fit", "frozen", "frozen", "fit", "fit", "fit", "fit"]


def test_a_new_size_is_not_frozen() -> None:
    watch = ImageWatch(ImageChecks(frozen_after=2), may_repeat=False)
    for size in (50, 60, 50):
        watch.check(frame(np.full((size, size, 3), 90, np.uint8)))


def test_checks_can_be_switched_off() -> None:
    none = ImageChecks(frozen_after=None, black_level=None, overexposed_level=None)
    for checks, may_repeat in ((none, False), (ImageChecks(black_level=None, overexposed_level=None), True)):
        watch = ImageWatch(checks, may_repeat=may_repeat)
        for picture in (image(0), image(255)):
            for _ in range(10):
                watch.check(frame(picture))


def test_a_live_camera_is_checked_and_its_noise_passes() -> None:
    with open_camera("synthetic://64x48?fps=200", CameraOptions(checks=ImageChecks(frozen_after=2))) as camera:
        for _ in range(20):
            camera.read()
        assert camera.statistics.unfit == 0
