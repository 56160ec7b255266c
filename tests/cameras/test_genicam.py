"""GigE Vision for real: Aravis's camera on loopback answers over UDP. Its image is (x + y + frame id) % 255."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
import pytest

from edge_ad.cameras import (
    CameraOptions,
    HardwareTrigger,
    RegionOfInterest,
    SoftwareTrigger,
    open_camera,
)
from edge_ad.cameras.genicam import FrameNumbers
from edge_ad.cli import main
from edge_ad.errors import CameraLost, NoFrame, OptionRefused
from tests.cameras.gige import GigeCamera, gige_camera

ONCE = {"reconnect": None, "timeout_ms": 3000.0}


@pytest.fixture(scope="module")
def camera() -> Iterator[GigeCamera]:
    with gige_camera() as running:
        yield running


def test_triggered_with_every_setting(camera: GigeCamera) -> None:
    options = CameraOptions(
        trigger=SoftwareTrigger(),
        exposure_us=10_000,
        pixel_format="Mono8",
        region=RegionOfInterest(x=64, y=32, width=320, height=240),
        **ONCE,
    )
    with open_camera(camera.uri, options) as opened:
        assert opened.description == "Aravis Fake GV01, 320x240 Mono8"
        frames = []
        for expected in range(25):
            assert opened.trigger() == expected
            frames.append(opened.read())
        with pytest.raises(NoFrame):
            opened.read(30)
        assert opened.statistics.frames == 25
        assert opened.statistics.faults == 0
    ramp = np.add.outer(np.arange(240), np.arange(320))
    shifts = []
    for expected, frame in enumerate(frames):
        assert (frame.sequence, frame.camera) == (expected, camera.uri)
        assert abs(time.time_ns() - frame.timestamp_ns) < 20 * 10**9
        shifts.append(int(frame.image[0, 0, 0]))
        expected_image = (ramp + shifts[-1]) % 255
        np.testing.assert_array_equal(frame.image, np.stack([expected_image] * 3, axis=2))
    assert all((after - before) % 255 == 1 for before, after in pairwise(shifts))


def test_free_run_in_colour(camera: GigeCamera) -> None:
    """The same scene as Bayer and as RGB: demosaiced, it is nearly the same, and blue is not red."""
    images = []
    for name in ("RGB8", "BayerRG8"):
        with open_camera(camera.uri, CameraOptions(pixel_format=name, exposure_us=10_000, **ONCE)) as opened:
            taken = [opened.read() for _ in range(3)]
            assert [frame.sequence for frame in taken] == [0, 1, 2]
            assert opened.read_latest().sequence >= 3
            images.append(taken[0].image)
    rgb, bayer = images
    assert rgb.shape == bayer.shape == (240, 320, 3)
    blue_first = np.argmax(rgb[..., 0] > 200)  # the ramp's colours run from blue to red
    assert blue_first >= 0
    hue_counts = [cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[..., 0] for image in images]
    histograms = [np.bincount(hue.ravel() // 20, minlength=9) / hue.size for hue in hue_counts]
    np.testing.assert_allclose(histograms[0], histograms[1], atol=0.06)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (CameraOptions(gain_db=3, **ONCE), "gain_db"),
        (CameraOptions(exposure_us=1e9, **ONCE), "exposure_us"),
        (CameraOptions(pixel_format="BGR8", **ONCE), "Mono8, RGB8"),
        (CameraOptions(region=RegionOfInterest(x=0, y=0, width=9000, height=240), **ONCE), "region"),
        (CameraOptions(trigger=HardwareTrigger(line=7), **ONCE), "Line0, Software"),
        (CameraOptions(trigger=HardwareTrigger(line=0, edge="falling"), **ONCE), "RisingEdge"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_camera_lacks_is_refused(camera: GigeCamera, options: CameraOptions, told: str) -> None:
    with pytest.raises(OptionRefused) as caught:
        open_camera(camera.uri, options).close()
    assert told in str(caught.value)


def test_an_unknown_camera_is_said_with_those_that_are_there(camera: GigeCamera) -> None:
    with pytest.raises(CameraLost, match="no camera 4711") as caught:
        open_camera("genicam://4711", CameraOptions(**ONCE))
    assert "Fake GV01 at 127.0.0.1" in str(caught.value)


@pytest.mark.slow
def test_a_camera_in_use_is_said(camera: GigeCamera) -> None:
    """Slow: this one does not refuse a second controller, but keeps silent."""
    with open_camera(camera.uri, CameraOptions(trigger=HardwareTrigger(line=0), **ONCE)) as opened:
        with pytest.raises(NoFrame):
            opened.read(20)
        with pytest.raises(CameraLost, match="no answer from Aravis Fake GV01") as caught:
            open_camera("genicam://*", CameraOptions(**ONCE)).close()
        assert caught.value.got == "in use"


def test_the_command_line_lists_and_looks(camera: GigeCamera, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cameras", "--json"]) == 0
    assert {"uri": f"genicam://{camera.serial}", "what": "Aravis Fake, GigEVision at 127.0.0.1"} in json.loads(
        capsys.readouterr().out
    )
    command = ["camera", camera.uri, "-n", "3", "--trigger", "software", "--exposure-us", "10000", "--json"]
    assert main(command) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["frames"], row["triggers"], row["pending"], row["fault_kinds"]) == (3, 3, 0, [])


def test_frame_ids_become_numbers_that_only_rise() -> None:
    gige = FrameNumbers(first=1)
    assert [gige.number(frame_id) for frame_id in (1, 2, 5, 4, 6)] == [0, 1, 4, 3, 5]
    wrapping = FrameNumbers(first=1)
    assert [wrapping.number(frame_id) for frame_id in (65534, 65535, 1, 4)] == [65533, 65534, 65535, 65538]
    extended = FrameNumbers(first=1)
    assert [extended.number(frame_id) for frame_id in (65535, 65536, 2**40)] == [65534, 65535, 2**40 - 1]
    usb3 = FrameNumbers(first=0)
    assert [usb3.number(frame_id) for frame_id in (0, 1, 3)] == [0, 1, 3]
    anew = FrameNumbers(first=1)
    assert [anew.number(frame_id) for frame_id in (900, 901, 1, 2)] == [899, 900, 901, 902]
