"""What a camera is asked for. None leaves a setting as the camera has it; what a source cannot honour is refused."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias

from edge_ad.cameras.checks import ImageChecks
from edge_ad.errors import OptionRefused

__all__ = [
    "Backoff",
    "CameraOptions",
    "FreeRun",
    "HardwareTrigger",
    "RegionOfInterest",
    "SoftwareTrigger",
    "Trigger",
    "parse_trigger",
]


@dataclass(frozen=True, kw_only=True)
class FreeRun:
    """The camera exposes at its own pace."""


@dataclass(frozen=True, kw_only=True)
class SoftwareTrigger:
    """`Camera.trigger()` exposes.

    Attributes:
        overlap: Whether the next trigger may be sent before the frame of the one before is in. A camera that ignores a
            trigger then shows the wrong part for it, so this is for cameras known to answer every one. Without it, a
            trigger that comes too early is a FrameOverrun.
        latest_ms: A trigger that could not be sent within this time is a FrameTimeout: the part has moved on.
    """

    overlap: bool = False
    latest_ms: float = 50.0


@dataclass(frozen=True, kw_only=True)
class HardwareTrigger:
    """An electrical edge at the camera's input line exposes."""

    line: int
    edge: Literal["rising", "falling"] = "rising"


Trigger: TypeAlias = FreeRun | SoftwareTrigger | HardwareTrigger


def parse_trigger(text: str) -> Trigger:
    """ "free-run", "software", "software-overlap", "line0", "line1-rising" or "line1-falling".

    Raises:
        OptionRefused: It is none of these.
    """
    match text:
        case "free-run":
            return FreeRun()
        case "software":
            return SoftwareTrigger()
        case "software-overlap":
            return SoftwareTrigger(overlap=True)
    found = re.fullmatch(r"line([0-9]{1,2})(?:-(rising|falling))?", text)
    if not found:
        raise OptionRefused(
            f"There is no trigger {text!r}.",
            expected="free-run, software, software-overlap, or a line and its edge such as line0-rising",
            got=text,
        )
    return HardwareTrigger(line=int(found[1]), edge="falling" if found[2] == "falling" else "rising")


@dataclass(frozen=True, kw_only=True)
class RegionOfInterest:
    """The part of the sensor that is read out, in pixels from its upper left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How often a lost camera is tried again: after `first_s`, then twice as long each time, at most `cap_s`."""

    first_s: float = 0.25
    cap_s: float = 5.0

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait before attempt number `attempt`, which counts from 0."""
        return min(self.cap_s, self.first_s * 2.0 ** min(attempt, 32))


@dataclass(frozen=True, kw_only=True)
class CameraOptions:
    """Settings of a camera. None leaves a setting as the camera has it.

    Attributes:
        exposure_us: Exposure time in microseconds; automatic exposure is switched off.
        gain_db: Gain in decibels; automatic gain is switched off.
        pixel_format: What the camera sends, in GenICam's names (edge_ad.cameras.pixels); frames are BGR in any case.
        region: The part of the sensor that is read out.
        trigger: What makes it expose.
        timeout_ms: How long after a trigger its frame may take, and how long reading waits where nothing is due.
        backlog: Frames kept for the reader. One more is, in free run, the end of the oldest; with triggers, a fault.
        reconnect: How a lost camera is tried again; None to end with CameraLost.
        checks: What makes an image unfit to judge; None to take every image.
    """

    exposure_us: float | None = None
    gain_db: float | None = None
    pixel_format: str | None = None
    region: RegionOfInterest | None = None
    trigger: Trigger = field(default_factory=FreeRun)
    timeout_ms: float = 1000.0
    backlog: int = 8
    reconnect: Backoff | None = field(default_factory=Backoff)
    checks: ImageChecks | None = field(default_factory=ImageChecks)

    def refuse_all_but(self, source: str, honoured: Collection[str], triggers: Collection[type] = (FreeRun,)) -> None:
        """Raise OptionRefused if a setting is given that `source` has none of; the last four are never refused.

        Args:
            source: The source's kind, such as "rtsp://".
            honoured: Names of the settings it has.
            triggers: The kinds of trigger it has.
        """
        wanted = {item.name for item in fields(self)[:4] if getattr(self, item.name) is not None}
        offered = ", ".join(sorted(honoured)) or "none"
        for name in sorted(wanted - set(honoured)):
            raise OptionRefused(
                f"{source} has no setting {name}.",
                expected=f"settings it has: {offered}",
                got=f"{name}={getattr(self, name)}",
                fix=f"leave {name} out",
            )
        if not isinstance(self.trigger, tuple(triggers)):
            raise OptionRefused(
                f"{source} cannot be triggered like that.",
                expected=" or ".join(kind.__name__ for kind in triggers),
                got=self.trigger,
                fix="leave the trigger out, or use a genicam:// camera",
            )
