"""From recorded scores and marked parts to another threshold, and to what it would have changed.

Scores are those of one model, so they are comparable. A part is rejected if its score is above the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad.errors import StationError
from edge_ad.station.teach import Mark
from edge_ad.threshold import FittedThreshold, fit_threshold

__all__ = ["Effects", "Evidence", "Refit", "effects", "refit"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of the parts that a model judged.

    Attributes:
        record: Whose ids these are.
        ids: (N,) int64 of the recorded verdicts.
        scores: (N,) float64, finite, beside them.
        marks: Of parts of that model, in this record or in one before.
        threshold: The one in use.
    """

    record: str
    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    marks: Sequence[Mark]
    threshold: float

    def marked(self, name: str) -> list[Mark]:
        """The marks of that name."""
        return [mark for mark in self.marks if mark.mark == name]


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What a threshold would have changed.

    Attributes:
        parts: Recorded parts that were looked at.
        rejected_now, rejected_then: Of these, with the threshold in use and with the other.
        newly_rejected, newly_accepted: The differences, part by part.
        missed_defects: Parts that are marked as defects, and would be accepted.
        missed_now: How many of the marked defects the threshold in use accepts.
        rejected_good: Parts that are marked as good, and would be rejected.
    """

    parts: int
    rejected_now: int
    rejected_then: int
    newly_rejected: int
    newly_accepted: int
    missed_defects: tuple[Mark, ...]
    missed_now: int
    rejected_good: tuple[Mark, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        marks = {name: [mark.to_json() for mark in getattr(self, name)] for name in ("missed_defects", "rejected_good")}
        return {**vars(self), **marks}


def effects(evidence: Evidence, threshold: float) -> Effects:
    """Judge the recorded parts again, by their scores."""
    now, then = evidence.scores > evidence.threshold, evidence.scores > threshold
    defects = evidence.marked("defect")
    return Effects(
        parts=len(evidence.scores),
        rejected_now=int(now.sum()),
        rejected_then=int(then.sum()),
        newly_rejected=int((then & ~now).sum()),
        newly_accepted=int((now & ~then).sum()),
        missed_defects=tuple(mark for mark in defects if mark.score <= threshold),
        missed_now=sum(mark.score <= evidence.threshold for mark in defects),
        rejected_good=tuple(mark for mark in evidence.marked("good") if mark.score > threshold),
    )


@dataclass(frozen=True, kw_only=True)
class Refit:
    """A proposal.

    Attributes:
        fitted: The threshold of the known good parts alone, before marked parts and the one in use bound it; None where
            no part is marked as good.
    """

    threshold: float
    fitted: FittedThreshold | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {"threshold": self.threshold, "fitted": self.fitted and vars(self.fitted)}


def refit(evidence: Evidence, false_reject_rate: float) -> Refit:
    """The threshold that accepted parts and marked ones ask for.

    At first, the one that a share of `false_reject_rate` of the known good parts exceeds: those that the threshold in
    use accepts and nobody marked, and those marked as good. It is raised until every part that is marked as good
    passes, and never falls below the one in use on the word of accepted parts, for all of these lie below it. Then it
    is lowered until every part that is marked as a defect is rejected: where marks contradict each other, this wins.

    Raises:
        StationError: Nothing is marked.
        CalibrationError: The rate is out of range.
    """
    good, defects = evidence.marked("good"), evidence.marked("defect")
    if not evidence.marks:
        raise StationError(
            "There is nothing to learn from.",
            expected="parts that are marked",
            fix="mark rejected parts as good, or parts as defects",
        )
    threshold, fitted = evidence.threshold, None
    if good:
        marked_ids = [mark.verdict_id for mark in evidence.marks if mark.record == evidence.record]
        is_accepted = (evidence.scores <= evidence.threshold) & ~np.isin(evidence.ids, marked_ids)
        of_good = [mark.score for mark in good]
        fitted = fit_threshold(np.concatenate([evidence.scores[is_accepted], of_good]), false_reject_rate)
        threshold = max(threshold, fitted.threshold, *of_good)
    if defects:
        threshold = min(threshold, _just_below(min(mark.score for mark in defects)))
    return Refit(threshold=threshold, fitted=fitted)


def _just_below(score: float) -> float:
    """The next float32: scores and maps are of that type, and so regions are found as the verdict is."""
    return float(np.nextafter(np.float32(score), np.float32(-np.inf)))
