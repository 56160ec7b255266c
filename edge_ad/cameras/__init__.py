"""Where frames come from. One file per kind of source, picked by what the source is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from edge_ad.cameras.acquisition import CameraState
from edge_ad.cameras.camera import Camera
from edge_ad.cameras.checks import ImageChecks
from edge_ad.cameras.driver import Driver
from edge_ad.cameras.files import ImageFiles, VideoFile
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
from edge_ad.errors import CameraError, SourceError
from edge_ad.frame import IMAGE_SUFFIXES, Frame

__all__ = [
    "SCHEMES",
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

SCHEMES = {
    "genicam": "genicam://SERIAL: a GigE Vision or USB3 Vision camera by serial number, model or address; * for any",
    "synthetic": "synthetic://640x480?fps=10&defects=0.1: drawn parts",
    "file": "a path, or file:///folder?fps=10&loop=1: a folder of images, an image or a video",
}
"""Scheme to an example and what it is."""


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
    """Open an image file, a folder of images (natural order, without its subfolders), a video file or a camera's URI.

    Raises:
        SourceError: There is nothing at that path, no image in the folder, or the file is no video.
        CameraError: From `open_camera`.
    """
    if CameraUri.parse(str(source)).scheme:
        return open_camera(str(source))
    return _open_files(Path(source))


def _open_files(path: Path) -> ImageFiles | VideoFile:
    if path.is_dir():
        return ImageFiles.of_folder(path)
    if not path.exists():
        raise SourceError(
            f"There is no source {path}.",
            expected="an image file, a folder of images or a video file",
            got="nothing at that path",
            fix="check the path",
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFiles([path])
    return VideoFile(path)


def open_camera(uri: str | Path, options: CameraOptions | None = None) -> Camera:
    """Open a camera by its URI; SCHEMES shows one of each kind.

    Raises:
        CameraError: There is no such kind of camera, or the URI has an option that it does not take.
        OptionRefused: It cannot honour one of the options.
        CameraLost: It is not there, and options.reconnect is None.
        MissingDependency: What it is driven with is not installed.
        SourceError: A recorded source cannot be read.
    """
    parsed = CameraUri.parse(str(uri))
    options = options or CameraOptions()
    return Camera(parsed.name, _driver_of(parsed, options), options)


def _driver_of(uri: CameraUri, options: CameraOptions) -> Callable[[], Driver]:
    match uri.scheme:
        case "synthetic":
            from edge_ad.cameras.synthetic import SyntheticDriver

            scene = _scene(uri)
            return lambda: SyntheticDriver(scene, options)
        case "genicam":
            from edge_ad.cameras.genicam import GenicamDriver

            settings: dict[str, Any] = uri.numbers(fps=float, packet_size=int, packet_delay_ns=int)
            return lambda: GenicamDriver(uri.place.rstrip("/"), options, **settings)
        case "gst":
            from edge_ad.cameras.gstreamer import GStreamerDriver

            return lambda: GStreamerDriver(uri.place, options)
        case "" | "file":
            from edge_ad.cameras.recorded import RecordedDriver

            values: dict[str, Any] = uri.numbers(fps=float, loop=int)
            fps, loop = values.get("fps"), bool(values.get("loop", 0))
            return lambda: RecordedDriver(Path(uri.place), _open_files, options, fps=fps, loop=loop)
    raise CameraError(
        f"There is no kind of camera {uri.scheme}://.", expected="\n            ".join(SCHEMES.values()), got=uri.name
    )


def _scene(uri: CameraUri) -> Any:
    from edge_ad.cameras.synthetic import SyntheticScene

    size = re.fullmatch(r"([0-9]{2,5})x([0-9]{2,5})/?", uri.place)
    if not size:
        raise CameraError(f"{uri.text} has no size.", expected="synthetic://WIDTHxHEIGHT in pixels", got=uri.place)
    shares = dict.fromkeys(("fps", "defects", "gaps", "incomplete", "silent", "latency_ms"), float)
    values: dict[str, Any] = uri.numbers(seed=int, lost_after=int, **shares)
    return SyntheticScene(width=int(size[1]), height=int(size[2]), **values)
