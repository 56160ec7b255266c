"""A trigger on its way: it ends exactly once, in a verdict or in a fault."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from edge_ad.errors import EdgeAdError
from edge_ad.frame import Frame
from edge_ad.inspection import Inspection
from edge_ad.station.recipes import LoadedRecipe
from edge_ad.station.verdict import ANOMALOUS, FAULT, GOOD, Verdict

__all__ = ["Ticket"]

_OLDEST_S = 10.0  # what is older was recorded, or is told by a clock that is wrong


@dataclass(eq=False, kw_only=True)
class Ticket:
    """One trigger of one camera, under the recipe that it named or that was in use when it came.

    Attributes:
        time_ns: When it came, nanoseconds since the epoch.
        start_s, captured_s, begun_s, judged_s: The same clock (time.perf_counter) at each step; None before it.
        frame: What the camera gave.
    """

    run: int
    number: int
    camera: str
    recipe: LoadedRecipe
    part_id: str | None = None
    time_ns: int = field(default_factory=time.time_ns)
    start_s: float = field(default_factory=time.perf_counter)
    captured_s: float | None = None
    begun_s: float | None = None
    judged_s: float | None = None
    frame: Frame | None = None
    verdict: Verdict | None = None
    _settled: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _recorded: threading.Event = field(default_factory=threading.Event)

    @property
    def id(self) -> str:
        """As `Verdict.trigger_id`."""
        return f"{self.run}-{self.number}"

    @property
    def is_settled(self) -> bool:
        """Its end is decided, though perhaps not yet recorded."""
        return self._settled

    def settle(self) -> bool:
        """Decide its end; True for the first who asks, False for all who come later: theirs is void."""
        with self._lock:
            was_settled, self._settled = self._settled, True
            return not was_settled

    def take_in(self, frame: Frame) -> None:
        """The frame is here."""
        self.frame, self.captured_s = frame, time.perf_counter()

    def date_back_to(self, frame: Frame) -> None:
        """The trigger was the frame's exposure, which nobody had announced."""
        age_s = (time.time_ns() - frame.timestamp_ns) / 1e9
        if 0 < age_s < _OLDEST_S:
            self.time_ns, self.start_s = frame.timestamp_ns, time.perf_counter() - age_s

    def judged(self, inspection: Inspection) -> Verdict:
        """The verdict that an inspection comes to."""
        self.judged_s = time.perf_counter()
        return self._verdict(
            verdict=ANOMALOUS if inspection.is_anomalous else GOOD,
            model=self.recipe.models[self.camera],
            score=inspection.score,
            regions=inspection.regions,
        )

    def fault(self, reason: str | EdgeAdError) -> Verdict:
        """The fault that it ends in."""
        return self._verdict(verdict=FAULT, reason=_on_one_line(reason))

    def _verdict(self, **fields: object) -> Verdict:
        return Verdict(
            run=self.run,
            number=self.number,
            time_ns=self.time_ns,
            camera=self.camera,
            recipe=self.recipe.name,
            part_id=self.part_id,
            sequence=self.frame.sequence if self.frame else None,
            captured_ns=self.frame.timestamp_ns if self.frame else None,
            capture_ms=_between_ms(self.start_s, self.captured_s),
            wait_ms=_between_ms(self.captured_s, self.begun_s),
            inspect_ms=_between_ms(self.begun_s, self.judged_s),
            **fields,  # type: ignore[arg-type]
        )

    def recorded(self, verdict: Verdict) -> dict[str, float | None]:
        """It is on the disk: whoever waits may know. Returns the stages' durations in milliseconds."""
        now_s = time.perf_counter()
        self.verdict = verdict
        self._recorded.set()
        return {
            "capture": verdict.capture_ms,
            "wait": verdict.wait_ms,
            "inspect": verdict.inspect_ms,
            "record": _between_ms(self.judged_s, now_s),
            "total": _between_ms(self.start_s, now_s),
        }

    def wait(self, timeout_s: float) -> Verdict | None:
        """Wait for its end on the disk; None if that did not come within the time."""
        self._recorded.wait(timeout_s)
        return self.verdict


def _between_ms(first_s: float | None, last_s: float | None) -> float | None:
    return None if first_s is None or last_s is None else (last_s - first_s) * 1e3


def _on_one_line(reason: str | EdgeAdError) -> str:
    """A fault's reason as it is recorded: what happened, and what came where the error says so."""
    if isinstance(reason, EdgeAdError):
        reason = reason.what if reason.got is None else f"{reason.what} (got: {reason.got})"
    return reason.encode(errors="backslashreplace").decode()  # a file's name may be no text
