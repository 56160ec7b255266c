"""Where frames come from. One file per kind of source, picked by what the source is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edge_ad.cameras.files import ImageFiles, VideoFile
from edge_ad.errors import SourceError
from edge_ad.frame import IMAGE_SUFFIXES, Frame

__all__ = ["ImageFiles", "Source", "VideoFile", "open_source"]


class Source(Protocol):
    """Frames in order, each borrowed until the next one is read (`Frame.copy()` owns).

    Attributes:
        total: Number of frames, or None where it is not known.
    """

    @property
    def total(self) -> int | None: ...

    def __iter__(self) -> Iterator[Frame]:
        """Frames from the start of the source; `sequence` counts from 0."""
        ...

    def close(self) -> None:
        """Release the source; a second call does nothing."""
        ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_source(source: str | Path) -> Source:
    """Open an image file, a folder of images (natural order, without its subfolders) or a video file.

    Raises:
        SourceError: There is nothing at that path, no image in the folder, or the file is no video.
    """
    path = Path(source)
    if path.is_dir():
        return ImageFiles.of_folder(path)
    if not path.exists():
        raise SourceError(
            f"There is no source {source}.",
            expected="an image file, a folder of images or a video file",
            got="nothing at that path",
            fix="check the path",
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFiles([path])
    return VideoFile(path)
