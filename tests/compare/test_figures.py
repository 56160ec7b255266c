"""Which figures are best, and which cannot be told from the best."""

from __future__ import annotations

import pytest

from edge_ad.compare.figures import FIGURES, standings
from tests.compare.rows import row

AUROC, LATENCY, SIZE = FIGURES[0], FIGURES[-2], FIGURES[-1]


@pytest.mark.parametrize(
    ("values", "intervals", "expected"),
    [
        ([0.90, 0.95, 0.99], [(0.85, 0.93), (0.93, 0.97), (0.96, 1.0)], [None, "tied", "best"]),
        # The first overlaps the second, the second the best; the first does not overlap the best.
        ([0.90, 0.95, 0.99], [(0.85, 0.94), (0.93, 0.97), (0.96, 1.0)], [None, "tied", "best"]),
        ([0.90, 0.99], [(0.85, 0.96), (0.96, 1.0)], ["tied", "best"]),  # ends that touch are within both
        ([0.99, 0.99, 0.5], [(0.9, 1.0), (0.98, 1.0), (0.4, 0.95)], ["best", "best", "tied"]),
        ([0.90, 0.99], [None, (0.8, 1.0)], [None, "best"]),
        ([0.98, 0.99], [(0.9, 1.0), None], [None, "best"]),
        ([None, 0.8, 0.7], [None, (0.7, 0.9), (0.6, 0.75)], [None, "best", "tied"]),
        ([1.0, 0.97], [(1.0, 1.0), (0.9, 1.0)], ["best", "tied"]),  # a perfect separation has no width
        ([None, 0.8], [None, (0.7, 0.9)], [None, None]),
        ([None, None], [None, None], [None, None]),
        ([], [], []),
    ],
)
def test_best_and_what_overlaps_it(values, intervals, expected):
    assert standings(values, intervals) == expected


def test_smallest_can_be_best():
    assert standings([10.0, 12.0, 30.0], [(9.0, 11.0), (10.5, 14.0), (25.0, 40.0)], min) == ["best", "tied", None]


def test_the_order_of_rows_changes_nothing():
    values, intervals = [0.90, 0.95, 0.99], [(0.85, 0.93), (0.93, 0.97), (0.96, 1.0)]
    assert standings(values[::-1], intervals[::-1]) == standings(values, intervals)[::-1]


def test_accuracy_goes_up_and_costs_go_down():
    rows = [row("a", image_auroc=0.9, latency_p50_ms=50.0, graph_bytes=100), row("b", image_auroc=0.5)]
    rows[1] = row("b", image_auroc=0.5, latency_p50_ms=5.0, graph_bytes=10)
    assert AUROC.standings(rows) == ["best", None]
    assert LATENCY.standings(rows) == SIZE.standings(rows) == [None, "best"]


def test_latency_ties_by_its_quartiles():
    slow = row("a", latency_p50_ms=11.0, latency_quartiles_ms=(9.5, 12.0))
    fast = row("b", latency_p50_ms=10.0, latency_quartiles_ms=(9.0, 10.0))
    assert LATENCY.standings([slow, fast]) == ["tied", "best"]
    assert LATENCY.interval_text(slow) == "9.50\N{EN DASH}12.0"
