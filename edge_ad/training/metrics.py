"""How well scores separate good from bad. A metric that is undefined is None, never NaN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from edge_ad.errors import InspectionFault

__all__ = ["ImageMetrics", "check_finite", "image_metrics"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ImageMetrics:
    """One number per question about scores; None where only one class was given.

    Attributes:
        image_auroc: Probability that a defective part scores higher than a good one.
        image_f1max: Best F1 over all thresholds.
        image_f1max_threshold: Where it is reached: scores above it count as anomalous, as in Inspection.
        image_average_precision: Area under precision over recall, by steps.
    """

    image_auroc: float | None
    image_f1max: float | None
    image_f1max_threshold: float | None
    image_average_precision: float | None


def image_metrics(scores: npt.ArrayLike, is_defective: npt.ArrayLike) -> ImageMetrics:
    """Judge the scores of labelled images.

    Args:
        scores: (N,) numbers, higher is more anomalous.
        is_defective: (N,) booleans.

    Raises:
        InspectionFault: A score is NaN or infinite.
    """
    score, label = np.asarray(scores, np.float64), np.asarray(is_defective, bool)
    if score.shape != label.shape or score.ndim != 1:
        raise ValueError(f"expected as many scores as labels, got shapes {score.shape} and {label.shape}")
    check_finite(score, "A score")
    if label.all() or not label.any():
        return ImageMetrics(
            image_auroc=None, image_f1max=None, image_f1max_threshold=None, image_average_precision=None
        )
    f1max, threshold = _f1max(score, label)
    return ImageMetrics(
        image_auroc=float(roc_auc_score(label, score)),
        image_f1max=f1max,
        image_f1max_threshold=threshold,
        image_average_precision=float(average_precision_score(label, score)),
    )


def _f1max(score: FloatArray, label: npt.NDArray[np.bool_]) -> tuple[float, float]:
    precision, recall, lowest_positive = precision_recall_curve(label, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = int(np.argmax(f1[:-1]))
    above = float(lowest_positive[best])
    lower = score[score < above]
    if not lower.size:
        return float(f1[best]), float(np.nextafter(above, -np.inf))
    below = float(lower.max())
    middle = below + (above - below) / 2
    return float(f1[best]), middle if middle < above else below


def check_finite(values: npt.NDArray[np.floating], what: str) -> None:
    """Raise InspectionFault, naming `what`, where a value is NaN or infinite."""
    if not np.isfinite(values).all():
        raise InspectionFault(f"{what} holds NaN or Inf, so nothing can be measured.", expected="finite values")
