"""What a trigger ends in: a verdict, or a fault that says why there is none."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias

from edge_ad.inspection import Region

__all__ = ["ANOMALOUS", "FAULT", "GOOD", "VERDICTS", "ServedModel", "Verdict", "VerdictName", "utc"]

VerdictName: TypeAlias = Literal["good", "anomalous", "fault"]
GOOD: VerdictName = "good"
ANOMALOUS: VerdictName = "anomalous"
FAULT: VerdictName = "fault"
VERDICTS: tuple[VerdictName, ...] = (GOOD, ANOMALOUS, FAULT)


def utc(time_ns: int) -> str:
    """Nanoseconds since the epoch as ISO 8601 in UTC, to the microsecond: 2026-11-21T08:00:00.123456Z."""
    seconds, fraction_ns = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=fraction_ns // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What judged a frame, exactly: enough to find it again a year later.

    Attributes:
        bundle: The bundle's name.
        bundle_sha256: Of its manifest, which holds the hash of every file and the thresholds.
        model_sha256: Of the graph or engine that ran.
    """

    bundle: str
    bundle_sha256: str
    model_sha256: str
    precision: str
    backend: str
    threshold: float
    threshold_version: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One trigger's end, as it is recorded and published.

    Attributes:
        id: Running number in the record, without gaps; 0 until it is recorded.
        run, number: The station's start, and the trigger of that start; together they are the trigger's name.
        time_ns: When it was triggered, nanoseconds since the epoch.
        recipe: The recipe it was triggered under.
        part_id: As the line gave it.
        sequence: The camera's frame number; None where no frame came.
        captured_ns: The frame's own time, nanoseconds since the epoch.
        reason: Why there is no verdict; "" unless it is a fault.
        model, score: None where nothing was judged.
        capture_ms: From the trigger until the frame was here; None where none came.
        wait_ms, inspect_ms: Waiting for the inspector, and in it.
    """

    run: int
    number: int
    time_ns: int
    camera: str
    recipe: str
    verdict: VerdictName
    reason: str = ""
    part_id: str | None = None
    sequence: int | None = None
    captured_ns: int | None = None
    model: ServedModel | None = None
    score: float | None = None
    regions: tuple[Region, ...] = ()
    capture_ms: float | None = None
    wait_ms: float | None = None
    inspect_ms: float | None = None
    id: int = 0

    @property
    def trigger_id(self) -> str:
        """The trigger's name, never given twice in one record: "12-345"."""
        return f"{self.run}-{self.number}"

    def to_json(self) -> dict[str, Any]:
        """A flat JSON-ready dict; times in UTC, latencies in milliseconds."""
        model = dataclasses.asdict(self.model) if self.model else dict.fromkeys(_MODEL_FIELDS)
        return {
            "id": self.id,
            "trigger_id": self.trigger_id,
            "time": utc(self.time_ns),
            "camera": self.camera,
            "recipe": self.recipe,
            "part_id": self.part_id,
            "verdict": self.verdict,
            "reason": self.reason or None,
            "score": self.score,
            **model,
            "sequence": self.sequence,
            "captured": None if self.captured_ns is None else utc(self.captured_ns),
            "regions": [vars(region) for region in self.regions],
            "capture_ms": _rounded(self.capture_ms),
            "wait_ms": _rounded(self.wait_ms),
            "inspect_ms": _rounded(self.inspect_ms),
        }


_MODEL_FIELDS = tuple(field.name for field in dataclasses.fields(ServedModel))


def _rounded(duration_ms: float | None) -> float | None:
    return None if duration_ms is None else round(duration_ms, 3)
