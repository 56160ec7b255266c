"""CSI cameras of NVIDIA Jetson, through nvarguscamerasrc: the image processor debayers, so frames are colour."""

from __future__ import annotations

from dataclasses import replace

from edge_ad.cameras.gstreamer import GStreamerDriver
from edge_ad.cameras.options import CameraOptions

__all__ = ["CsiDriver", "pipeline_for"]


class CsiDriver(GStreamerDriver):
    """A CSI camera.

    Args:
        sensor: Number of the sensor, from 0.
        options: Exposure and gain can be set.
        width: Pixels of the sensor mode.
        height: Pixels of the sensor mode.
        fps: Frames a second of the sensor mode.
    """

    def __init__(
        self, sensor: int, options: CameraOptions, *, width: int = 1920, height: int = 1080, fps: int = 30
    ) -> None:
        options.refuse_all_but("csi://", ("exposure_us", "gain_db"))
        pipeline = pipeline_for(sensor, options, width, height, fps)
        super().__init__(pipeline, replace(options, exposure_us=None, gain_db=None), name=f"csi://{sensor}")


def pipeline_for(sensor: int, options: CameraOptions, width: int, height: int, fps: int) -> str:
    """The pipeline: NV12 stays in NVMM memory until the converter writes BGRx, which is all that the CPU reads.

    Equal ends of a range fix exposure (nanoseconds) and gain (a factor); the digital gain of the image processor is
    then held at 1, so that brightness is what was asked for.
    """
    settings = [f"nvarguscamerasrc sensor-id={sensor}"]
    if options.exposure_us is not None:
        exposure_ns = round(options.exposure_us * 1000)
        settings.append(f'exposuretimerange="{exposure_ns} {exposure_ns}"')
    if options.gain_db is not None:
        gain = 10 ** (options.gain_db / 20)
        settings.append(f'gainrange="{gain:.4g} {gain:.4g}"')
    if len(settings) > 1:
        settings.append('ispdigitalgainrange="1 1"')
    mode = f"video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1,format=NV12"
    return f"{' '.join(settings)} ! {mode} ! nvvidconv ! video/x-raw,format=BGRx"
