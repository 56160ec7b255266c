"""What became of every trigger and frame, in order, until it is read."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from edge_ad.errors import (
    EdgeAdError,
    FrameFault,
    FrameGap,
    FrameIncomplete,
    FrameLost,
    FrameOverrun,
    FrameTimeout,
    ImageFault,
)
from edge_ad.frame import Frame

__all__ = ["CameraStatistics", "Outcome", "Outcomes", "Slot"]

Outcome: TypeAlias = Frame | FrameFault

_COUNTED_AS: dict[type, str] = {
    Frame: "frames",
    FrameTimeout: "timeouts",
    FrameIncomplete: "incomplete",
    FrameGap: "gaps",
    FrameOverrun: "overruns",
    FrameLost: "lost",
    ImageFault: "unfit",
}


@dataclass(frozen=True, kw_only=True)
class CameraStatistics:
    """Counts since the camera was first opened; losing and finding it again does not reset them.

    With a trigger, `triggers == frames + faults + pending` holds at every moment.

    Attributes:
        triggers: Software triggers asked for.
        frames: Frames that were ready to be read.
        pending: Triggers that have not ended yet.
        timeouts: FrameTimeout faults.
        incomplete: Frames with a part missing.
        gaps: Frames that the camera made and that never arrived.
        overruns: Frames and triggers that came too fast.
        lost: Triggers that ended because the camera was lost.
        unfit: Frozen, black and overexposed images.
        late: Frames that came after their trigger had ended, or after a later frame; nobody saw them.
        skipped: Frames in free run that nobody read in time: `read_latest` passed over them, or the backlog was full.
        losses: How often the camera was lost.
        reconnects: How often it was found again.
    """

    triggers: int = 0
    frames: int = 0
    pending: int = 0
    timeouts: int = 0
    incomplete: int = 0
    gaps: int = 0
    overruns: int = 0
    lost: int = 0
    unfit: int = 0
    late: int = 0
    skipped: int = 0
    losses: int = 0
    reconnects: int = 0

    @property
    def faults(self) -> int:
        """Triggers and frames that ended in a FrameFault; in free run also frames that never arrived."""
        return self.timeouts + self.incomplete + self.gaps + self.overruns + self.lost + self.unfit


@dataclass(eq=False)
class Slot:
    """One trigger or frame: its number, and what became of it."""

    sequence: int
    asked_s: float = field(default_factory=time.monotonic)
    deadline_s: float = float("inf")
    outcome: Outcome | None = None


class Outcomes:
    """Slots in the order of their numbers. Each ends once; the reader takes them in order.

    Args:
        backlog: Frames kept for the reader.
        drops_oldest: What gives way to one frame more: the oldest frame (free run), or the new one, as a fault.
    """

    def __init__(self, backlog: int, *, drops_oldest: bool) -> None:
        self._backlog, self._drops_oldest = backlog, drops_oldest
        self._slots: deque[Slot] = deque()
        self._changed = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._next_sequence = 0
        self._end: EdgeAdError | None = None

    def expect(self) -> Slot:
        """A slot for a trigger, which is settled later."""
        with self._changed:
            slot = Slot(self._next_sequence)
            self._next_sequence += 1
            self._slots.append(slot)
            self._counts.update(triggers=1, pending=1)
            return slot

    def settle(self, slot: Slot, outcome: Outcome) -> None:
        """End the slot's trigger."""
        with self._changed:
            slot.outcome = self._within_backlog(outcome)
            self._counts[_COUNTED_AS[type(slot.outcome)]] += 1
            self._counts["pending"] -= 1
            self._changed.notify_all()

    def add(self, make: Callable[[int], Outcome]) -> None:
        """Append what ended without having been asked for; `make` is given its number."""
        with self._changed:
            slot = Slot(self._next_sequence)
            self._next_sequence += 1
            if self._drops_oldest and len(self._slots) >= self._backlog:
                self._slots.popleft()
                self._counts["skipped"] += 1
            slot.outcome = self._within_backlog(make(slot.sequence))
            self._counts[_COUNTED_AS[type(slot.outcome)]] += 1
            self._slots.append(slot)
            self._changed.notify_all()

    def _within_backlog(self, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Frame) or sum(isinstance(s.outcome, Frame) for s in self._slots) < self._backlog:
            return outcome
        return FrameOverrun(
            f"Frames of {outcome.camera} come faster than they are read.",
            camera=outcome.camera,
            sequence=outcome.sequence,
            timestamp_ns=outcome.timestamp_ns,
            expected=f"at most {self._backlog} frames waiting to be read",
            got="one more",
            fix="trigger slower, inspect faster, or raise the option backlog",
        )

    def skip(self, count: int) -> None:
        """Leave numbers out: frames in free run that never arrived."""
        with self._changed:
            self._next_sequence += count
            self._counts["gaps"] += count

    def count(self, name: str) -> None:
        """Count an event by its name in CameraStatistics."""
        with self._changed:
            self._counts[name] += 1

    def end(self, error: EdgeAdError) -> None:
        """Nothing comes any more: readers get what is there, and then `error`."""
        with self._changed:
            self._end = self._end or error
            self._changed.notify_all()

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until a recorded source may be read on; False if there is no room yet."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._slots) < self._backlog, timeout_s)

    def take(self, timeout_s: float | None, *, latest: bool = False) -> Outcome | None:
        """The next outcome, or with `latest` the newest; None if there is none within the time.

        Args:
            timeout_s: Seconds to wait; None waits for as long as a trigger is pending.
            latest: Pass over what is older, and count it.

        Raises:
            EdgeAdError: There is nothing left and nothing comes; it says why.
        """
        with self._changed:
            self._changed.wait_for(self._is_settled_or_ended, timeout_s)
            if not self._slots or self._slots[0].outcome is None:
                if self._end is not None:
                    raise self._end
                return None
            while latest and len(self._slots) > 1:
                self._slots.popleft()
                self._counts["skipped"] += 1
            outcome = self._slots.popleft().outcome
            self._changed.notify_all()
            return outcome

    def _is_settled_or_ended(self) -> bool:
        return self._slots[0].outcome is not None if self._slots else self._end is not None

    @property
    def is_pending(self) -> bool:
        """Whether the next outcome to be read is a trigger's that has not ended yet."""
        with self._changed:
            return bool(self._slots) and self._slots[0].outcome is None

    @property
    def statistics(self) -> CameraStatistics:
        """The counts at this moment."""
        with self._changed:
            return CameraStatistics(**self._counts)
