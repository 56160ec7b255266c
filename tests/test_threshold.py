"""From normal scores to a threshold."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.errors import CalibrationError
from edge_ad.threshold import fit_threshold


@pytest.mark.parametrize(("count", "rate"), [(100, 0.01), (1000, 0.01), (10, 0.1), (3, 0.5)])
def test_many_images_give_the_empirical_quantile(count: int, rate: float) -> None:
    scores = np.random.default_rng(0).exponential(size=count)
    fitted = fit_threshold(scores, rate)
    assert fitted.threshold == pytest.approx(np.quantile(scores, 1 - rate))
    assert (scores > fitted.threshold).mean() <= rate
    assert (fitted.normal_images, fitted.false_reject_rate) == (count, rate)
    assert fitted.score_mean == pytest.approx(sum(scores) / count)


def test_few_images_give_the_tail_of_a_normal_distribution() -> None:
    """Mean 3, standard deviation (n - 1) the root of 2.5, 1 % quantile at 2.326: 6.678."""
    fitted = fit_threshold([1, 2, 3, 4, 5])
    assert fitted.threshold == pytest.approx(3 + 2.3263479 * 2.5**0.5)
    assert fitted.score_spread == pytest.approx(2.5**0.5)
    assert fitted.score_mean == 3.0


def test_few_images_never_fall_below_the_highest_score() -> None:
    scores = [0.0] * 40 + [10.0]  # mean + 2.326 standard deviations is 3.9
    assert fit_threshold(scores).threshold == 10.0
    assert fit_threshold([7.0]).threshold == 7.0


def test_equal_scores_still_have_a_spread_to_divide_by() -> None:
    assert fit_threshold([2.0] * 5).score_spread == pytest.approx(2e-6)
    assert fit_threshold([0.0] * 5).score_spread > 0


@pytest.mark.parametrize("rate", [0.0, -0.1, 0.51, float("nan")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(CalibrationError, match="out of range"):
        fit_threshold([1.0, 2.0], rate)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_scores_that_are_none_or_not_finite_are_refused(scores: list[float]) -> None:
    with pytest.raises(CalibrationError, match="do not give a threshold"):
        fit_threshold(scores)
