"""Late verdicts and what met them."""

from __future__ import annotations

import argparse
import gc
import mmap
from collections.abc import Callable

import numpy as np

from benchmarks.tail import COUNTED, _explained, _happened, as_text, measure
from edge_ad.bundle import Bundle


def test_late_verdicts_are_told_from_the_others_by_hand() -> None:
    """The median is 10 ms, so 15.1 and 40 ms are late."""
    milliseconds = np.array([10.0, 15.1, 10.0, 9.0, 40.0, 11.0, 10.0])
    cpu_ms = np.array([19.0, 21.0, 20.0, 18.0, 25.0, 22.0, 20.0])
    counts = np.array([[0, 0, 0], [2, 0, 1], [1, 0, 0], [0, 5, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]])
    counts = np.hstack([counts, [[0], [0], [0], [0], [3], [0], [0]]])
    rows = _explained(milliseconds, cpu_ms, counts)
    medians = ("median ms", "median ms of CPU time")
    late, in_time = dict(zip(medians, (27.55, 23.0), strict=True)), dict(zip(medians, (10.0, 20.0), strict=True))
    assert rows["late"] == {"verdicts": 2, **late, **dict(zip(COUNTED, (1, 0, 1, 1), strict=True))}
    assert rows["in_time"] == {"verdicts": 5, **in_time, **dict(zip(COUNTED, (1, 2, 0, 0), strict=True))}


def test_page_faults_and_collections_are_counted() -> None:
    before = _happened()
    with mmap.mmap(-1, 8 << 20) as pages:
        pages.write(b"1" * len(pages))
    gc.collect()
    _, faults, collections, stolen = _happened() - before
    assert faults > 0 and collections >= 1 and stolen >= 0


def test_the_whole_on_a_trained_bundle(calibrated: Callable[[str], Bundle]) -> None:
    bundle = calibrated("efficientad-s")
    result = measure(argparse.Namespace(method="efficientad-s", bundle=bundle.path, verdicts=30))
    assert result["late"]["verdicts"] + result["in_time"]["verdicts"] == 30
    low, *_, high = result["percentiles_ms"].values()
    assert 0 < low <= high <= result["slowest_ms"]
    assert result["allocated_bytes"]["the map of a verdict"] == 128 * 128 * 4
    assert result["allocated_bytes"]["at most, during a verdict"] >= 128 * 128 * 4
    text = as_text(result)
    assert "p99.9" in text and "| late |" in text
