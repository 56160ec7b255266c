"""Where frames come from. One file per kind of source, picked by what the source is.

with open_camera("genicam://21004117", CameraOptions(trigger=SoftwareTrigger())) as camera:
    number = camera.trigger()
    frame = camera.read()  # its sequence is `number`, or a FrameFault with that number is raised
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edge_ad.cameras.acquisition import CameraState
from edge_ad.cameras.camera import Camera
from edge_ad.cameras.checks import ImageChecks
from edge_ad.cameras.files import ImageFiles, VideoFile
from edge_ad.cameras.opening import KINDS, open_camera, open_files
from edge_ad.cameras.options import (
    Backoff,
    CameraOptions,
    FreeRun,
    HardwareTrigger,
    RegionOfInterest,
    SoftwareTrigger,
    Trigger,
    parse_trigger,
)
from edge_ad.cameras.outcomes import CameraStatistics
from edge_ad.cameras.uri import CameraUri
from edge_ad.frame import Frame

__all__ = [
    "KINDS",
    "Backoff",
    "Camera",
    "CameraOptions",
    "CameraState",
    "CameraStatistics",
    "CameraUri",
    "FreeRun",
    "HardwareTrigger",
    "ImageChecks",
    "ImageFiles",
    "RegionOfInterest",
    "SoftwareTrigger",
    "Source",
    "Trigger",
    "VideoFile",
    "open_camera",
    "open_source",
    "parse_trigger",
]


class Source(Protocol):
    """Frames in order, each borrowed until the next one is read (`Frame.copy()` owns).

    Attributes:
        total: Number of frames, or None where it is not known.
    """

    @property
    def total(self) -> int | None: ...

    def __iter__(self) -> Iterator[Frame]:
        """Frames from the start of the source; `sequence` counts from 0.

        A camera's iterator goes on after it has raised a FrameFault.
        """
        ...

    def close(self) -> None:
        """Release the source; a second call does nothing."""
        ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_source(source: str | Path) -> Source:
    """Open an image file, a folder of images (natural order, without its subfolders), a video file or a camera.

    Raises:
        SourceError: There is nothing at that path, no image in the folder, or the file is no video.
        CameraError: From `open_camera`.
    """
    return open_camera(source) if CameraUri.parse(str(source)).scheme else open_files(Path(source))
