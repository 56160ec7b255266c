"""`edge-ad cameras` and `edge-ad camera URI`: which cameras there are, and what one of them shows."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import cv2

from edge_ad.cameras.camera import Camera
from edge_ad.cameras.opening import KINDS, open_camera
from edge_ad.cameras.options import CameraOptions, FreeRun, RegionOfInterest, SoftwareTrigger, Trigger, parse_trigger
from edge_ad.cameras.pixels import PIXEL_FORMATS
from edge_ad.errors import CameraError, EndOfFrames, FrameFault, MissingDependency
from edge_ad.frame import Frame

__all__ = ["add_look_arguments", "list_cameras", "look"]

EPILOG = "what can be opened:\n" + "\n".join(f"  {example:<22} {what}" for example, what in KINDS)

Parsed = TypeVar("Parsed")


def list_cameras(arguments: argparse.Namespace) -> int:
    """Print the cameras that answer, with the URI that opens each."""
    rows = [*_genicam_rows(), *_video_rows()]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(f"{row['uri']:<32} {row['what']}")
        if not rows:
            print("no camera answers")
    return 0


def _genicam_rows() -> list[dict[str, str]]:
    from edge_ad.cameras.aravis import find_devices

    try:
        found = find_devices()
    except MissingDependency as error:
        return [{"uri": "genicam://", "what": f"not looked for: {error.what} {error.fix}"}]
    return [
        {
            "uri": f"genicam://{device.serial}",
            "what": f"{device.vendor} {device.model}, {device.protocol} at {device.address}",
        }
        for device in found
    ]


def _video_rows() -> list[dict[str, str]]:
    from edge_ad.cameras.v4l2 import find_video_devices

    return [{"uri": f"v4l2://{path}", "what": name} for path, name in find_video_devices()]


def add_look_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `look` reads."""
    parser.epilog, parser.formatter_class = EPILOG, argparse.RawDescriptionHelpFormatter
    parser.add_argument("uri", help="what to open")
    parser.add_argument("-n", "--frames", type=int, default=20, help="how many to take (default: 20)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the last one as PNG")
    parser.add_argument("--exposure-us", type=float, metavar="MICROSECONDS", help="exposure time")
    parser.add_argument("--gain-db", type=float, metavar="DECIBELS", help="gain")
    parser.add_argument("--pixel-format", choices=tuple(PIXEL_FORMATS), help="what the camera sends")
    parser.add_argument(
        "--region", type=_checked(_region), metavar="X,Y,WIDTH,HEIGHT", help="part of the sensor to read out"
    )
    parser.add_argument(
        "--trigger",
        type=_checked(parse_trigger),
        default=FreeRun(),
        metavar="TRIGGER",
        help="free-run, software, or a line and its edge such as line0-falling (default: free-run)",
    )
    parser.add_argument("--timeout-ms", type=float, default=1000.0, help="wait for a frame (default: 1000)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _checked(parse: Callable[[str], Parsed]) -> Callable[[str], Parsed]:
    """`parse` with its CameraError as wrong usage."""

    def parse_argument(text: str) -> Parsed:
        try:
            return parse(text)
        except CameraError as error:
            raise argparse.ArgumentTypeError(f"{error.what} Expected {error.expected}.") from error

    return parse_argument


def _region(text: str) -> RegionOfInterest:
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.isdecimal() for number in numbers):
        raise CameraError(f"{text!r} is no region.", expected="X,Y,WIDTH,HEIGHT in pixels")
    x, y, width, height = map(int, numbers)
    return RegionOfInterest(x=x, y=y, width=width, height=height)


def look(arguments: argparse.Namespace) -> int:
    """Take some frames and print what came; returns 1 if none did."""
    options = CameraOptions(
        exposure_us=arguments.exposure_us,
        gain_db=arguments.gain_db,
        pixel_format=arguments.pixel_format,
        region=arguments.region,
        trigger=arguments.trigger,
        timeout_ms=arguments.timeout_ms,
        reconnect=None,
    )
    frames: list[Frame] = []
    faults: list[FrameFault] = []
    with open_camera(arguments.uri, options) as camera:
        started_s = time.monotonic()
        for outcome in _outcomes(camera, options.trigger, arguments.frames):
            if isinstance(outcome, FrameFault):
                faults.append(outcome)
            else:
                frames = [*frames[:1], outcome]
        elapsed_s = time.monotonic() - started_s
        row = _findings(camera, frames, elapsed_s)
    if arguments.save and frames:
        _save(arguments.save, frames[-1])
    if arguments.json:
        print(json.dumps(row | {"fault_kinds": [type(fault).__name__ for fault in faults]}, indent=2))
    else:
        for fault in faults:
            print(f"#{fault.sequence}: {type(fault).__name__}: {fault.what}")
        print("\n".join(f"{key:<14}{value}" for key, value in row.items() if value not in (0, None)))
    return 0 if frames else 1


def _outcomes(camera: Camera, trigger: Trigger, count: int) -> Iterator[Frame | FrameFault]:
    for _ in range(count):
        try:
            if isinstance(trigger, SoftwareTrigger):
                camera.trigger()
            yield camera.read()
        except FrameFault as fault:
            yield fault
        except EndOfFrames:
            return


def _findings(camera: Camera, frames: list[Frame], elapsed_s: float) -> dict[str, Any]:
    statistics = camera.statistics
    height, width = frames[-1].image.shape[:2] if frames else (None, None)
    between_s = (frames[-1].timestamp_ns - frames[0].timestamp_ns) / 1e9 if frames else 0.0
    count = frames[-1].sequence - frames[0].sequence if frames else 0
    return {
        "camera": camera.name,
        "description": camera.description,
        "width": width,
        "height": height,
        "fps": round(count / between_s, 2) if between_s > 0 else None,
        "seconds": round(elapsed_s, 2),
        "mean_grey": round(float(frames[-1].image.mean()), 1) if frames else None,
        **dataclasses.asdict(statistics),
    }


def _save(path: Path, frame: Frame) -> None:
    _, encoded = cv2.imencode(".png", frame.image)
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as exc:
        raise CameraError(f"{path} could not be written.", expected="a writable folder", got=exc.strerror) from exc
