"""From the text that names a source to the source. Each kind's file is imported when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_ad.cameras.camera import Camera
from edge_ad.cameras.driver import Driver
from edge_ad.cameras.files import ImageFiles, VideoFile
from edge_ad.cameras.options import CameraOptions
from edge_ad.cameras.uri import CameraUri
from edge_ad.errors import CameraError, SourceError
from edge_ad.frame import IMAGE_SUFFIXES

__all__ = ["KINDS", "open_camera", "open_files"]

KINDS = (
    ("genicam://SERIAL", "GigE Vision or USB3 Vision: serial number, model or address, * for any; ?fps="),
    ("v4l2:///dev/video0", "Video4Linux; ?width= height= fps="),
    ("rtsp://host/path", "a network camera"),
    ("csi://0", "a CSI camera of a Jetson; ?width= height= fps="),
    ("gst:PIPELINE", "a GStreamer pipeline without its sink"),
    ("synthetic://640x480", "drawn parts; ?fps= defects= seed= and faults on demand"),
    ("PATH or file://PATH", "a folder of images, an image or a video; file:// takes ?fps= loop="),
)
"""What can be opened, and what it is."""


def open_camera(uri: str | Path, options: CameraOptions | None = None) -> Camera:
    """Open a camera by its URI; KINDS shows one of each.

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


def open_files(path: Path) -> ImageFiles | VideoFile:
    """Open an image file, a folder of images (natural order, without its subfolders) or a video file.

    Raises:
        SourceError: There is nothing at that path, no image in the folder, or the file is no video.
    """
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


def _driver_of(uri: CameraUri, options: CameraOptions) -> Callable[[], Driver]:
    make = {
        "": _recorded,
        "file": _recorded,
        "genicam": _genicam,
        "v4l2": _v4l2,
        "rtsp": _rtsp,
        "rtsps": _rtsp,
        "csi": _csi,
        "gst": _gst,
        "synthetic": _synthetic,
    }.get(uri.scheme)
    if make is None:
        kinds = "\n".join(f"            {example:<22} {what}" for example, what in KINDS)
        raise CameraError(f"There is no kind of camera {uri.scheme}://", expected=kinds.lstrip(), got=uri.name)
    return make(uri, options)


def _recorded(uri: CameraUri, options: CameraOptions) -> Callable[[], Driver]:
    from edge_ad.cameras.recorded import RecordedDriver

    values: dict[str, Any] = uri.numbers(fps=float, loop=int)
    fps, loop = values.get("fps"), bool(values.get("loop", 0))
    return lambda: RecordedDriver(Path(uri.place), open_files, options, fps=fps, loop=loop)


def _genicam(uri: CameraUri, options: CameraOptions) -> Callable[[], Driver]:
    from edge_ad.cameras.genicam import GenicamDriver

    values: dict[str, Any] = uri.numbers(fps=float, packet_size=int, packet_delay_ns=int)
    return lambda: GenicamDriver(uri.place.rstrip("/"), options, **values)


def _v4l2(uri: CameraUri, options: CameraOptions) -> Callable[[], Driver]:
    from edge_ad.cameras.v4l2 import V4l2Driver

    values: dict[str, Any] = uri.numbers(width=int, height=int, fps=int)
    return lambda: V4l2Driver(Path(uri.place), options, **values)


def _rtsp(uri: CameraUri, options: CameraOptions) -> Callable[[], Driver]:
    from edge_ad.cameras.rtsp import RtspDriver

    return lambda: RtspDriver(uri.text, uri.name, options)


def _csi(uri: CameraUri, options: CameraOptions) -> Callable[[], Driver]:
    from edge_ad.cameras.csi import CsiDriver

    sensor = int(_matched(uri, "([0-9]{1,2})", "csi://NUMBER of the sensor")[1])
    values: dict[str, Any] = uri.numbers(width=int, height=int, fps=int)
    return lambda: CsiDriver(sensor, options, **values)


def _gst(uri: CameraUri, options: CameraOptions) -> Callable[[], Driver]:
    from edge_ad.cameras.gstreamer import GStreamerDriver

    return lambda: GStreamerDriver(uri.place, options)


def _synthetic(uri: CameraUri, options: CameraOptions) -> Callable[[], Driver]:
    from edge_ad.cameras.synthetic import SyntheticDriver, SyntheticScene

    size = _matched(uri, "([1-9][0-9]{1,4})x([1-9][0-9]{1,4})", "synthetic://WIDTHxHEIGHT in pixels")
    shares = dict.fromkeys(("fps", "defects", "gaps", "incomplete", "silent", "latency_ms"), float)
    values: dict[str, Any] = uri.numbers(seed=int, lost_after=int, **shares)
    scene = SyntheticScene(width=int(size[1]), height=int(size[2]), **values)
    return lambda: SyntheticDriver(scene, options)


def _matched(uri: CameraUri, pattern: str, expected: str) -> re.Match[str]:
    found = re.fullmatch(pattern, uri.place.rstrip("/"))
    if found is None:
        raise CameraError(f"{uri.name} names no camera.", expected=expected, got=uri.place)
    return found
