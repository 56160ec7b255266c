"""Recorded parts through another bundle: what would have been judged differently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_ad.errors import EdgeAdError
from edge_ad.frame import read_image
from edge_ad.inspector import Inspector
from edge_ad.station.images import image_path
from edge_ad.station.verdict import ANOMALOUS, GOOD, Verdict, VerdictName

__all__ = ["Replayed", "replay", "summary"]


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A recorded verdict and what another bundle says.

    Attributes:
        score, threshold: Of the other bundle; None where it gave no verdict.
        reason: Why there is none.
    """

    before: Verdict
    verdict: VerdictName | None
    score: float | None
    threshold: float
    reason: str = ""

    @property
    def is_flip(self) -> bool:
        """Judged before and now, and differently."""
        judged = self.before.verdict in (GOOD, ANOMALOUS) and self.verdict is not None
        return judged and self.before.verdict != self.verdict

    def to_json(self) -> dict[str, Any]:
        """Both answers side by side; scores of two bundles have no common unit."""
        before = self.before
        return {
            "id": before.id,
            "part_id": before.part_id,
            "camera": before.camera,
            "time": before.to_json()["time"],
            "before": {
                "verdict": before.verdict,
                "score": before.score,
                "threshold": before.model.threshold if before.model else None,
            },
            "now": {"verdict": self.verdict, "score": self.score, "threshold": self.threshold},
            "difference": None if self.score is None or before.score is None else self.score - before.score,
            "is_flip": self.is_flip,
            "reason": self.reason or None,
        }


def replay(verdicts: Iterable[Verdict], folder: Path, uid: str, inspector: Inspector) -> Iterator[Replayed]:
    """Judge the kept images of verdicts again. Those without an image are left out.

    Args:
        folder, uid: Of the record.
    """
    for verdict in verdicts:
        path = image_path(folder, uid, verdict)
        if not path.exists():
            continue
        try:
            inspection = inspector.inspect(read_image(path))
        except EdgeAdError as error:
            yield Replayed(
                before=verdict, verdict=None, score=None, threshold=inspector.threshold, reason=_on_one_line(error)
            )
        else:
            name = ANOMALOUS if inspection.is_anomalous else GOOD
            yield Replayed(before=verdict, verdict=name, score=inspection.score, threshold=inspection.threshold)


def summary(rows: Iterable[Replayed]) -> dict[str, int]:
    """How many were judged again, how many were not, and how many verdicts turned, each way."""
    rows = list(rows)
    flips = [row for row in rows if row.is_flip]
    return {
        "replayed": sum(row.verdict is not None for row in rows),
        "not_judged": sum(row.verdict is None for row in rows),
        "good_to_anomalous": sum(row.verdict == ANOMALOUS for row in flips),
        "anomalous_to_good": sum(row.verdict == GOOD for row in flips),
    }


def _on_one_line(error: EdgeAdError) -> str:
    return error.what if error.got is None else f"{error.what} (got: {error.got})"
