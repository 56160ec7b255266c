"""What a precision costs, beside NumPy's and SciPy's own figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from calibration.cost import Reference, measure_cost
from edge_ad.golden import Answer

RNG = np.random.default_rng(0)
WANTED: list[Answer] = [(RNG.normal(size=(1, 1, 6, 5)).astype("f4"), RNG.normal(size=1).astype("f4")) for _ in "12345"]
CAME: list[Answer] = [
    (one + RNG.normal(scale=0.3, size=one.shape).astype("f4"), score + np.float32(shift))
    for (one, score), shift in zip(WANTED, (0.1, -0.3, 0.0, 0.9, 0.2), strict=True)
]
REFERENCE = Reference(
    frames=[np.zeros((4, 4, 3), np.uint8)] * 5,
    defective=[False, True, False, True, True],
    answers=WANTED,
    spread=0.5,
    threshold=-2.0,
)


class Giving:
    """A session that gives these answers, one after the other."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = iter(answers)

    def run(self, outputs: object, feeds: object) -> Any:
        return next(self._answers)


def test_every_figure_is_what_a_library_says() -> None:
    cost = measure_cost(Giving(CAME), REFERENCE)
    correlations = [pearsonr(w.ravel(), c.ravel()).statistic for (w, _), (c, _) in zip(WANTED, CAME, strict=True)]
    assert cost.score_offset == pytest.approx(0.05 / 0.5, rel=1e-4), "the mean of the two good parts"
    assert cost.score_shift == pytest.approx(0.85 / 0.5, rel=1e-5)
    assert cost.score_noise == pytest.approx(np.std([0.1, -0.3, 0.0, 0.9, 0.2]) / 0.5, rel=1e-5)
    assert cost.rank_correlation == pytest.approx(spearmanr([s for _, s in WANTED], [s for _, s in CAME]).statistic)
    errors = [np.abs(w - c).mean() for (w, _), (c, _) in zip(WANTED, CAME, strict=True)]
    assert cost.map_error == pytest.approx(np.mean(errors) / 2.0, rel=1e-5)
    assert cost.map_correlation == pytest.approx(min(correlations[i] for i in (1, 3, 4)), rel=1e-5)


@pytest.mark.parametrize(("frame", "counts"), [(0, False), (2, False), (1, True), (4, True)])
def test_maps_count_where_there_is_something_to_see(frame: int, counts: bool) -> None:
    upside_down = list(WANTED)
    upside_down[frame] = (-WANTED[frame][0], WANTED[frame][1])
    cost = measure_cost(Giving(upside_down), REFERENCE)
    assert cost.map_correlation == pytest.approx(-1.0 if counts else 1.0)
    assert cost.map_error > 0, "the mean error counts everywhere"


def test_maps_count_where_float32_finds_the_defect_or_of_every_defect_where_it_finds_none() -> None:
    scores = {index: float(WANTED[index][1][0]) for index in (1, 3, 4)}
    missed, *_ = sorted(scores, key=lambda index: scores[index])
    upside_down = list(WANTED)
    upside_down[missed] = (-WANTED[missed][0], WANTED[missed][1])

    def map_correlation(threshold: float) -> float:
        return measure_cost(Giving(upside_down), dataclasses.replace(REFERENCE, threshold=threshold)).map_correlation

    assert map_correlation(scores[missed] - 0.01) == pytest.approx(-1.0)
    assert map_correlation(scores[missed] + 0.01) == pytest.approx(1.0)
    assert map_correlation(max(scores.values()) + 0.01) == pytest.approx(-1.0)


def test_constant_maps_agree_where_they_are_equal() -> None:
    flat = [(np.ones((1, 1, 2, 2), "f4"), score) for _, score in WANTED]
    other = [(2 * one, score) for one, score in flat]
    reference = dataclasses.replace(REFERENCE, answers=flat)
    assert measure_cost(Giving(flat), reference).map_correlation == 1
    assert measure_cost(Giving(other), reference).map_correlation == 0


def test_a_constant_shift_is_no_noise() -> None:
    shifted = [(anomaly_map, score + np.float32(7)) for anomaly_map, score in WANTED]
    cost = measure_cost(Giving(shifted), REFERENCE)
    assert cost.score_offset == pytest.approx(14, rel=1e-5)
    assert cost.score_shift == pytest.approx(0, abs=1e-5) and cost.score_noise == pytest.approx(0, abs=1e-5)


def test_where_another_runtime_served_the_threshold_its_offset_counts() -> None:
    shifted = [(anomaly_map, score + np.float32(7)) for anomaly_map, score in WANTED]
    cost = measure_cost(Giving(shifted), REFERENCE, offset=2.0)
    assert cost.score_shift == pytest.approx(12, rel=1e-5)


def test_another_graph_answers_the_same_frames() -> None:
    other = REFERENCE.answered_by(Giving(CAME))
    assert measure_cost(Giving(CAME), other).score_shift == 0
    assert other.frames is REFERENCE.frames and measure_cost(Giving(CAME), REFERENCE).score_shift > 0
