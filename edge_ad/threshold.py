"""From scores of normal images to the threshold above which a part is rejected."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from edge_ad.errors import CalibrationError

__all__ = ["DEFAULT_FALSE_REJECT_RATE", "FittedThreshold", "fit_threshold"]

DEFAULT_FALSE_REJECT_RATE = 0.01


@dataclass(frozen=True, kw_only=True)
class FittedThreshold:
    """A threshold and what it rests on.

    Attributes:
        score_spread: Standard deviation of the normal scores, the unit in which score errors are judged.
        score_mean: Mean of the normal scores, from which drift is judged.
    """

    threshold: float
    false_reject_rate: float
    normal_images: int
    score_spread: float
    score_mean: float


def fit_threshold(scores: npt.ArrayLike, false_reject_rate: float = DEFAULT_FALSE_REJECT_RATE) -> FittedThreshold:
    """The score that a share of `false_reject_rate` of normal parts exceeds.

    With at least 1 / rate images it is the empirical quantile. With fewer, the sample does not reach the tail:
    then it is the quantile of a normal distribution fitted to the scores, but never below the highest score seen.

    Raises:
        CalibrationError: A rate outside (0, 0.5], no scores, or scores that are not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not 0 < false_reject_rate <= 0.5:
        raise CalibrationError(
            "The false-reject rate is out of range.", expected="0 < rate <= 0.5", got=false_reject_rate
        )
    if values.size == 0 or not np.isfinite(values).all():
        raise CalibrationError("The normal scores do not give a threshold.", expected="finite scores", got=values)
    mean, spread = float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0
    if values.size * false_reject_rate >= 1:
        threshold = float(np.quantile(values, 1 - false_reject_rate))
    else:
        tail = mean + NormalDist().inv_cdf(1 - false_reject_rate) * spread
        threshold = max(float(values.max()), tail)
    return FittedThreshold(
        threshold=threshold,
        false_reject_rate=false_reject_rate,
        normal_images=values.size,
        score_spread=max(spread, 1e-6 * abs(threshold), 1e-12),
        score_mean=mean,
    )
