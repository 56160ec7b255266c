"""Metrics against hand-worked cases and slow plain forms that share no code with them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from edge_ad.errors import InspectionFault
from edge_ad.training.metrics import ImageMetrics, image_metrics


def test_image_metrics_by_hand() -> None:
    """Sorted: bad 5, good 4, bad 3, bad 2, good 1. Of 6 pairs, 4 are in order. The best F1 takes the upper four."""
    metrics = image_metrics([4, 5, 1, 3, 2], [False, True, False, True, True])
    assert metrics.image_auroc == pytest.approx(4 / 6)
    assert metrics.image_f1max == pytest.approx(2 * 3 / (2 * 3 + 1 + 0))
    assert metrics.image_f1max_threshold == 1.5
    assert metrics.image_average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)


def pairs_in_order(score: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_]) -> float:
    pairs = [(x > y) + 0.5 * (x == y) for x in score[bad] for y in score[~bad]]
    return sum(pairs) / len(pairs)


def f1_above(threshold: float, score: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_]) -> float:
    found = score > threshold
    return float(2 * (found & bad).sum() / (found.sum() + bad.sum()))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [3, 10, 10_000])  # few levels make many ties
def test_image_metrics_are_those_of_the_plain_form(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    bad = rng.random(40) < 0.4
    score = np.floor(levels * np.clip(rng.normal(0.4 + 0.2 * bad, 0.2), 0, 1))
    metrics = image_metrics(score, bad)
    assert metrics.image_auroc == pytest.approx(pairs_in_order(score, bad))
    best = max(f1_above(threshold, score, bad) for threshold in (-1.0, *score))
    assert metrics.image_f1max == pytest.approx(best)
    assert metrics.image_f1max_threshold is not None
    assert f1_above(metrics.image_f1max_threshold, score, bad) == pytest.approx(best), "as Inspection applies it"


@pytest.mark.parametrize(
    ("scores", "bad"),
    [
        ([1.0, 2.0], [True, True, False]),
        ([[1.0], [2.0]], [[True], [False]]),
    ],
)
def test_scores_and_labels_must_pair(scores: list[float], bad: list[bool]) -> None:
    with pytest.raises(ValueError, match="as many scores as labels"):
        image_metrics(scores, bad)


def test_the_f1_threshold_separates_even_neighbouring_floats() -> None:
    low = 0.1
    high = math.nextafter(low, 1)
    metrics = image_metrics([low, high], [False, True])
    assert metrics.image_f1max == 1.0
    assert metrics.image_f1max_threshold is not None
    assert low <= metrics.image_f1max_threshold < high


def test_where_everything_must_be_called_bad_the_threshold_is_below_everything() -> None:
    metrics = image_metrics([3, 2, 1], [False, True, True])
    assert metrics.image_f1max == pytest.approx(0.8)
    assert metrics.image_f1max_threshold is not None
    assert metrics.image_f1max_threshold < 1


@pytest.mark.parametrize("bad", [[], [True, True], [False, False]])
def test_one_class_alone_has_no_metrics(bad: list[bool]) -> None:
    assert image_metrics(np.arange(len(bad)), bad) == ImageMetrics(
        image_auroc=None, image_f1max=None, image_f1max_threshold=None, image_average_precision=None
    )


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
def test_a_fault_is_not_measured(fault: float) -> None:
    with pytest.raises(InspectionFault, match="score"):
        image_metrics([1.0, fault], [False, True])
