"""The seam between a camera and what drives it. One file per kind of source implements it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_ad.frame import Image

__all__ = ["Capture", "Driver"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Capture:
    """What a driver got, copied out of its buffers.

    Attributes:
        image: (H, W, 3) uint8 BGR of its own, or None where part of it never arrived.
        number: The source's running number. 0 is certainly the first since the driver was opened or restarted.
        timestamp_ns: Capture time, nanoseconds since the epoch.
        name: What the frame is called; None for the camera's name.
    """

    image: Image | None
    number: int
    timestamp_ns: int
    name: str | None = None


class Driver(Protocol):
    """An opened source that has its options applied and is exposing, or waiting for its trigger.

    Attributes:
        description: What it is, on one line: model, size, pixel format.
        is_live: Whether frames come at their own pace. A recorded source waits for its reader.
        may_repeat: Whether images of the same bytes in a row are nothing unusual.
        answers_every_trigger: Whether no trigger can be ignored, so that several may be sent ahead.
        total: Number of frames, or None where it is not known.
    """

    @property
    def description(self) -> str: ...
    @property
    def is_live(self) -> bool: ...
    @property
    def may_repeat(self) -> bool: ...
    @property
    def answers_every_trigger(self) -> bool: ...
    @property
    def total(self) -> int | None: ...

    def grab(self, timeout_ms: float) -> Capture | None:
        """The next frame, or None if there was none within the time.

        Raises:
            CameraLost: It has gone; only `close` is called after that.
            EndOfFrames: A recorded source is at its end.
            DataError: A recorded source is broken.
        """
        ...

    def trigger(self) -> None:
        """Expose now. Called from another thread than `grab`, and only with SoftwareTrigger.

        Raises:
            CameraLost: It could not be sent.
        """
        ...

    def restart(self) -> None:
        """Give up every exposure under way: what was triggered before never arrives after. Numbers start anew.

        Raises:
            CameraLost: It has gone.
        """
        ...

    def close(self) -> None:
        """Release the source; a second call does nothing."""
        ...
