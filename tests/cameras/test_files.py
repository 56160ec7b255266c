"""Frames from files: order, numbers and names, and every way in which a source can be unfit."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad.cameras import ImageFiles, VideoFile, open_source
from edge_ad.errors import SourceError, UnreadableImage

HEIGHT, WIDTH, FRAMES, FPS = 48, 64, 30, 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images 1, 2 and 10, each of the grey level of its number."""
    images = tmp_path / "images"
    (images / "below").mkdir(parents=True)
    for number in (10, 2, 1):
        path = images / f"part{number}.png"
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), number, np.uint8))
        os.utime(path, ns=(0, number * 10**9))
    (images / "notes.txt").write_text("not an image")
    cv2.imwrite(str(images / "below" / "part3.png"), np.zeros((2, 2, 3), np.uint8))
    return images


@pytest.fixture(params=["avi", "mkv", "mp4"])
def video(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Frame n has the grey level 8 * n; codecs lose a little."""
    path = tmp_path / f"line.{request.param}"
    codec = cv2.VideoWriter.fourcc(*("MJPG" if request.param == "avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), codec, FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {request.param}")
    # A little noise, so that frames are big enough to be cut in the middle.
    noise = np.random.default_rng(0).integers(0, 8, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for number in range(FRAMES):
        writer.write(noise[number] + np.uint8(8 * number))
    writer.release()
    os.utime(path, ns=(0, 10**18))
    return path


def test_a_folder_in_natural_order(folder: Path) -> None:
    with open_source(folder) as source:
        assert source.total == 3
        frames = list(source)
    assert [frame.camera for frame in frames] == ["part1.png", "part2.png", "part10.png"]
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    assert [frame.timestamp_ns for frame in frames] == [10**9, 2 * 10**9, 10 * 10**9]
    assert [frame.image[0, 0].tolist() for frame in frames] == [[1] * 3, [2] * 3, [10] * 3]


def test_an_image_file(folder: Path) -> None:
    with open_source(str(folder / "part2.png")) as source:
        assert source.total == 1
        [frame] = source
    assert (frame.sequence, frame.camera, frame.image.shape) == (0, "part2.png", (HEIGHT, WIDTH, 3))


def test_a_source_tells_the_same_every_time(folder: Path) -> None:
    with open_source(folder) as source:
        first, second = list(source), list(source)
    for one, other in zip(first, second, strict=True):
        assert (one.sequence, one.camera, one.timestamp_ns) == (other.sequence, other.camera, other.timestamp_ns)
        np.testing.assert_array_equal(one.image, other.image)


def test_a_broken_image_in_a_folder_is_named_when_its_turn_comes(folder: Path) -> None:
    (folder / "part2.png").write_bytes(b"broken")
    with open_source(folder) as source:
        frames = iter(source)
        assert next(frames).camera == "part1.png"
        with pytest.raises(UnreadableImage, match=r"part2\.png"):
            next(frames)


def test_a_video(video: Path) -> None:
    with open_source(video) as source:
        assert source.total == FRAMES
        frames = [frame.copy() for frame in source]
        again = [frame.sequence for frame in source]
    assert [frame.sequence for frame in frames] == again == list(range(FRAMES))
    assert {frame.camera for frame in frames} == {video.name}
    assert {frame.image.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    assert {frame.image.dtype for frame in frames} == {np.dtype(np.uint8)}
    for frame in frames:
        assert frame.image.mean() == pytest.approx(8 * frame.sequence + 3.5, abs=4)
        assert frame.timestamp_ns == pytest.approx(10**18 + frame.sequence * 10**9 / FPS, abs=2e6)


@pytest.mark.parametrize("share", [0.55, 0.65])  # the last fifth may be only the index
def test_a_truncated_video_is_not_taken_for_a_whole_one(video: Path, share: float) -> None:
    whole = video.read_bytes()
    video.write_bytes(whole[: int(len(whole) * share)])
    seen: list[int] = []
    with pytest.raises(SourceError, match=r"breaks off after frame|cannot be opened") as caught:
        seen.extend(frame.sequence for frame in open_source(video))
    if video.suffix != ".mp4":  # whose index is at its end
        assert 0 < len(seen) < FRAMES
        assert f"after frame {len(seen)}." in caught.value.what
        assert caught.value.expected == f"{FRAMES} frames, as its header says"


@pytest.mark.parametrize("name", ["video.mp4", "notes.txt", "file%02d.avi", "nosuffix"])
@pytest.mark.parametrize("content", [b"", b"hello"])
def test_what_is_no_video_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match="cannot be opened as a video") as caught:
        open_source(tmp_path / name)
    assert str(tmp_path / name) in caught.value.what


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no source") as caught:
        open_source(tmp_path / "missing")
    assert str(tmp_path / "missing") in caught.value.what


def test_an_empty_folder(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="empty holds no images"):
        open_source(tmp_path / "empty")
    with pytest.raises(SourceError, match="holds no images") as caught:
        open_source(folder.parent)
    assert caught.value.got == "subfolders empty, images"


def test_closing_twice_and_reading_after_closing(folder: Path, video: Path) -> None:
    for source in (ImageFiles([folder / "part1.png"]), VideoFile(video)):
        frames = iter(source)
        source.close()
        source.close()
        for late in (frames, iter(source)):
            with pytest.raises(SourceError, match="closed"):
                next(late)


def test_closing_in_the_middle_of_a_video(video: Path) -> None:
    source = VideoFile(video)
    frames = iter(source)
    next(frames)
    source.close()
    with pytest.raises(SourceError, match="closed"):
        next(frames)
