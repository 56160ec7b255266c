"""Files as a camera, and the drawn one: what is shown twice is the same."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad.cameras import CameraOptions, SoftwareTrigger, open_camera, open_source
from edge_ad.cameras.synthetic import SyntheticScene, draw_part
from edge_ad.errors import EndOfFrames, FrameLost, UnreadableImage
from tests.cameras.scripted import outcomes

COUNT = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(COUNT):
        cv2.imwrite(str(tmp_path / f"part{number}.png"), np.full((8, 8, 3), 20 + number, np.uint8))
    return tmp_path


def levels(frames: list[object]) -> list[int]:
    return [int(frame.image[0, 0, 0]) - 20 for frame in frames]  # type: ignore[attr-defined]


def test_every_file_once_however_slow_the_reader(folder: Path) -> None:
    with open_camera(folder, CameraOptions(backlog=2)) as camera:
        assert camera.total == COUNT
        time.sleep(0.1)
        frames = [camera.read() for _ in range(5)]
        frames += [camera.read_latest() for _ in range(COUNT - 5)]  # a recorded source waits, so nothing is skipped
        for _ in range(2):
            with pytest.raises(EndOfFrames):
                camera.read()
        assert camera.statistics.frames == COUNT
    assert levels(frames) == list(range(COUNT))
    assert [frame.camera for frame in frames] == [f"part{number}.png" for number in range(COUNT)]


def test_a_camera_tells_what_the_plain_source_tells(folder: Path) -> None:
    with open_source(folder) as plain, open_source(f"file://{folder}") as camera:
        for one, other in zip(plain, camera, strict=True):
            assert (one.sequence, one.timestamp_ns, one.camera) == (other.sequence, other.timestamp_ns, other.camera)
            np.testing.assert_array_equal(one.image, other.image)


def test_one_file_a_trigger_until_there_is_none(folder: Path) -> None:
    with open_camera(folder, CameraOptions(trigger=SoftwareTrigger(), backlog=COUNT)) as camera:
        for _ in range(COUNT + 2):
            camera.trigger()
        found = outcomes(camera, COUNT + 2)
        assert levels(found[:COUNT]) == list(range(COUNT))  # type: ignore[arg-type]
        assert [type(fault) for fault in found[COUNT:]] == [FrameLost, FrameLost]
        with pytest.raises(EndOfFrames):
            camera.read()


def test_over_and_over_at_a_frame_rate(folder: Path) -> None:
    with open_camera(f"file://{folder}?fps=100&loop=1") as camera:
        assert camera.total is None
        started_s = time.monotonic()
        frames = [camera.read() for _ in range(2 * COUNT + 1)]
        elapsed_s = time.monotonic() - started_s
    assert levels(frames) == [number % COUNT for number in range(2 * COUNT + 1)]
    assert [frame.sequence for frame in frames] == list(range(2 * COUNT + 1))
    assert elapsed_s > 2 * COUNT / 100 * 0.9


def test_the_same_picture_again_and_again_is_not_frozen(folder: Path) -> None:
    with open_camera(f"file://{folder / 'part3.png'}?fps=500&loop=1") as camera:
        assert levels([camera.read() for _ in range(20)]) == [3] * 20


def test_a_broken_file_ends_the_source_by_name(folder: Path) -> None:
    (folder / "part2.png").write_bytes(b"broken")
    with open_camera(folder) as camera:
        assert levels([camera.read(), camera.read()]) == [0, 1]
        with pytest.raises(UnreadableImage, match=r"part2\.png"):
            camera.read()


def test_drawn_parts_depend_on_their_number_and_the_seed_alone() -> None:
    uri = "synthetic://96x64?seed=3&fps=1000"
    runs = []
    for _ in range(2):
        with open_camera(uri, CameraOptions(trigger=SoftwareTrigger())) as camera:
            for _ in range(4):
                camera.trigger()
            runs.append([camera.read().image for _ in range(4)])
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({image.tobytes() for image in runs[0]}) == 4


def test_the_share_of_defects_is_as_asked_and_they_can_be_seen() -> None:
    perfect, mixed = SyntheticScene(defects=0, seed=5), SyntheticScene(defects=0.3, seed=5)
    marked = 0
    for number in range(60):
        difference = cv2.absdiff(draw_part(perfect, number), draw_part(mixed, number)).max()
        assert difference == 0 or difference > 60
        marked += difference > 0
    assert 10 <= marked <= 26  # 18 expected, sigma 3.5
