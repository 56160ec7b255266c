"""Frames from files. They tell the same sequence and timestamps every time they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import cv2

from edge_ad.errors import SourceError
from edge_ad.frame import Frame, check_image, list_images, read_image

__all__ = ["ImageFiles", "VideoFile"]

_COUNT_SLACK = 0.01  # containers without an index estimate their frame count from duration and frame rate


class ImageFiles:
    """Image files, one frame each; `camera` is the file's name, `timestamp_ns` its time of modification.

    Attributes:
        paths: Of the files, in order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._closed = False

    @staticmethod
    def of_folder(folder: Path) -> ImageFiles:
        """The images of a folder in natural order (part2 before part10), without those of its subfolders.

        Raises:
            SourceError: It holds none, or cannot be listed.
        """
        try:
            paths = list_images(folder)
            below = sorted(sub.name for sub in folder.iterdir() if sub.is_dir())
        except OSError as exc:
            raise SourceError(f"{folder} cannot be listed.", got=exc.strerror, fix="check the permissions") from exc
        if not paths:
            raise SourceError(
                f"{folder} holds no images.",
                expected="a folder with images directly in it",
                got=f"subfolders {', '.join(below)}" if below else "an empty folder, or files of other kinds",
                fix="give one of the subfolders" if below else "check the path",
            )
        return ImageFiles(paths)

    @property
    def total(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        """Raises UnreadableImage at the first file that cannot be decoded."""
        return map(self.read, range(self.total))

    def read(self, sequence: int) -> Frame:
        """The frame of the file with this number; several threads may read at a time.

        Raises:
            UnreadableImage: It is missing, or cannot be decoded.
        """
        path = self.paths[sequence]
        _check_open(self._closed, path)
        image = read_image(path)
        return Frame(image=image, sequence=sequence, timestamp_ns=path.stat().st_mtime_ns, camera=path.name)

    def close(self) -> None:
        """Stop reading; a second call does nothing."""
        self._closed = True

    def __enter__(self) -> ImageFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class VideoFile:
    """A video that OpenCV can decode, frame by frame.

    `timestamp_ns` is the file's time of modification plus the frame's time in the video.

    Raises:
        SourceError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._closed = False
        self._capture = self._open()
        self._expected = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise SourceError(
                f"{self.path} cannot be opened as a video.",
                expected="a whole video file, with a codec OpenCV knows",
                got=f"{self.path.stat().st_size} bytes that do not open",
                fix="play the file to see if it is whole; ffmpeg can convert it to H.264 in MP4",
            )
        return capture

    @property
    def total(self) -> int | None:
        """As the container says, so an estimate for some formats."""
        return self._expected if self._expected > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        """From the first frame; raises SourceError where the video breaks off before its announced end."""
        _check_open(self._closed, self.path)
        self._capture.release()
        self._capture = self._open()
        recorded_ns = self.path.stat().st_mtime_ns
        sequence = 0
        while True:
            _check_open(self._closed, self.path)
            is_read, image = self._capture.read()
            if not is_read:
                break
            position_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            yield Frame(
                image=check_image(image),
                sequence=sequence,
                timestamp_ns=recorded_ns + round(position_ms * 1e6),
                camera=self.path.name,
            )
            sequence += 1
        self._check_end(sequence)

    def _check_end(self, count: int) -> None:
        if count == 0 or count < self._expected - max(1, self._expected * _COUNT_SLACK):
            raise SourceError(
                f"{self.path} breaks off after frame {count}.",
                expected=f"{self.total or 'some'} frames, as its header says",
                got=f"{count} frames that decode",
                fix="copy or record the video again; the frames so far are sound",
            )

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        self._closed = True
        self._capture.release()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_open(closed: bool, path: Path) -> None:
    if closed:
        raise SourceError(f"{path} is read after its source was closed.", fix="open the source again")
