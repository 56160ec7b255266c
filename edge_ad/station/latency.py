"""How long things take, in histograms of fixed buckets: constant memory for any number of verdicts, and no loss."""

from __future__ import annotations

import math
import threading
from typing import Any

__all__ = ["BOUNDS_MS", "STAGES", "Histogram", "Latencies"]

_PER_DECADE = 20
_DECADES = 7
BOUNDS_MS = tuple(0.01 * 10 ** (step / _PER_DECADE) for step in range(_PER_DECADE * _DECADES + 1))
"""Upper bounds of the buckets, 0.01 ms to 100 s, each 12 % above the one before; one more takes what is beyond."""

STAGES = ("capture", "wait", "inspect", "record", "total")
"""From the trigger to the frame, to the inspector, to its answer, to the disk; and all of that, also of faults."""

_QUANTILES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}


class Histogram:
    """Counts of durations. Threads may share it."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_MS) + 1)
        self._sum_ms = self._most_ms = 0.0
        self._lock = threading.Lock()

    def add(self, duration_ms: float) -> None:
        """Count one."""
        place = 0
        if duration_ms > BOUNDS_MS[0]:
            place = min(math.ceil(math.log10(duration_ms / BOUNDS_MS[0]) * _PER_DECADE - 1e-9), len(BOUNDS_MS))
        with self._lock:
            self._counts[place] += 1
            self._sum_ms += duration_ms
            self._most_ms = max(self._most_ms, duration_ms)

    def counts(self) -> tuple[list[int], float]:
        """Durations in each bucket, and the sum of all in milliseconds."""
        with self._lock:
            return list(self._counts), self._sum_ms

    def quantile_ms(self, share: float) -> float | None:
        """The upper bound of the bucket that the quantile falls in, so at most 12 % too high; None without durations.

        The largest duration itself where the quantile falls in its bucket.
        """
        with self._lock:
            total, below = sum(self._counts), 0
            for place, count in enumerate(self._counts):
                below += count
                if count and below >= share * total:
                    bound = BOUNDS_MS[place] if place < len(BOUNDS_MS) else math.inf
                    return min(bound, self._most_ms)
        return None

    def to_json(self) -> dict[str, Any]:
        """Count, median, 99 % and 99.9 % quantiles and largest, in milliseconds."""
        shares = {name: self.quantile_ms(share) for name, share in _QUANTILES.items()}
        rounded = {name: None if value is None else round(value, 3) for name, value in shares.items()}
        return {"count": sum(self.counts()[0]), **rounded, "most_ms": round(self._most_ms, 3)}


class Latencies:
    """A histogram for each camera and stage."""

    def __init__(self, cameras: tuple[str, ...]) -> None:
        self._of = {camera: {stage: Histogram() for stage in STAGES} for camera in cameras}

    def add(self, camera: str, stages: dict[str, float | None]) -> None:
        """Count one verdict's stages, in milliseconds; a stage it did not reach is None."""
        for stage, duration_ms in stages.items():
            if duration_ms is not None:
                self._of[camera][stage].add(duration_ms)

    def histograms(self) -> dict[str, dict[str, Histogram]]:
        """By camera and stage."""
        return self._of

    def to_json(self) -> dict[str, Any]:
        """Figures by camera and stage."""
        return {name: {stage: h.to_json() for stage, h in stages.items()} for name, stages in self._of.items()}
