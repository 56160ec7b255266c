"""Video4Linux cameras: UVC and MIPI CSI-2 ones with a kernel driver, through GStreamer's v4l2src."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import replace
from pathlib import Path

from edge_ad.cameras.gstreamer import GStreamerDriver
from edge_ad.cameras.options import CameraOptions
from edge_ad.errors import CameraLost, OptionRefused

__all__ = ["V4l2Driver", "find_video_devices", "pipeline_for"]

_FORMATS = {"Mono8": "GRAY8", "YUV422_8": "YUY2", "YUV422_8_UYVY": "UYVY", "RGB8": "RGB", "BGR8": "BGR"}

# linux/videodev2.h and linux/v4l2-controls.h
_SET_CONTROL = 0xC008561C  # VIDIOC_S_CTRL
_EXPOSURE_AUTO, _MANUAL = 0x009A0901, 1
_EXPOSURE_ABSOLUTE = 0x009A0902  # in units of 100 microseconds


class V4l2Driver(GStreamerDriver):
    """A video device.

    Args:
        device: Such as /dev/video0.
        options: Exposure and pixel format can be set. V4L2 has no decibels, so gain_db is refused.
        width: Pixels; None leaves the size as it is.
        height: Pixels.
        fps: Frames a second; None leaves it as it is.
    """

    def __init__(
        self,
        device: Path,
        options: CameraOptions,
        *,
        width: int | None = None,
        height: int | None = None,
        fps: int | None = None,
    ) -> None:
        name = f"v4l2://{device}"
        options.refuse_all_but("v4l2://", ("exposure_us", "pixel_format"))
        pipeline = pipeline_for(device, options.pixel_format, width, height, fps)
        if not device.exists():
            raise CameraLost(
                f"There is no device {device}.",
                expected="a video device: edge-ad cameras lists them",
                got=", ".join(str(path) for path, _ in find_video_devices()) or "no video device at all",
                fix="check its cable; add the user to the group video",
            )
        if options.exposure_us is not None:
            _set_exposure(device, options.exposure_us)
        super().__init__(pipeline, replace(options, exposure_us=None, pixel_format=None), name=name)


def pipeline_for(device: Path, pixel_format: str | None, width: int | None, height: int | None, fps: int | None) -> str:
    """The pipeline that reads a device; a format or size that it lacks makes it fail.

    Raises:
        OptionRefused: There is no such pixel format here.
    """
    size = f",width={width}" if width else ""
    size += f",height={height}" if height else ""
    size += f",framerate={fps}/1" if fps else ""
    if pixel_format is None:
        caps = f"video/x-raw{size};image/jpeg{size}"
    elif pixel_format in _FORMATS:
        caps = f"video/x-raw,format={_FORMATS[pixel_format]}{size}"
    else:
        raise OptionRefused(
            "v4l2:// cannot honour pixel_format.", expected=", ".join(_FORMATS) + ", or none", got=pixel_format
        )
    return f'v4l2src device={device} ! capsfilter caps="{caps}" ! decodebin'


def find_video_devices() -> list[tuple[Path, str]]:
    """Video devices and their names, in order."""
    entries = Path("/sys/class/video4linux").glob("video*")
    return sorted((Path("/dev") / entry.name, (entry / "name").read_text().strip()) for entry in entries)


def _set_exposure(device: Path, exposure_us: float) -> None:
    controls = ((_EXPOSURE_AUTO, _MANUAL), (_EXPOSURE_ABSOLUTE, max(1, round(exposure_us / 100))))
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK)
        try:
            for control, value in controls:
                fcntl.ioctl(descriptor, _SET_CONTROL, struct.pack("Ii", control, value))
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise OptionRefused(
            f"{device} cannot honour exposure_us.",
            expected="a camera with the controls auto_exposure and exposure_time_absolute: v4l2-ctl --list-ctrls",
            got=exc.strerror,
        ) from exc
