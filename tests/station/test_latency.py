"""Histograms: their quantiles against exact ones."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge_ad.station.latency import BOUNDS_MS, Histogram, Latencies


@pytest.mark.parametrize("share", [0.5, 0.99, 0.999])
def test_a_quantile_is_at_most_one_bucket_too_high(share: float) -> None:
    durations_ms = np.random.default_rng(0).lognormal(2.0, 1.0, 20_000)
    histogram = Histogram()
    for duration_ms in durations_ms:
        histogram.add(float(duration_ms))
    exact = float(np.quantile(durations_ms, share, method="inverted_cdf"))
    assert exact <= (histogram.quantile_ms(share) or 0) <= exact * 10 ** (1 / 20) * 1.0001


def test_each_bound_belongs_to_the_bucket_below_it() -> None:
    for place, bound_ms in enumerate(BOUNDS_MS):
        histogram = Histogram()
        histogram.add(bound_ms)
        assert histogram.counts()[0][place] == 1
        histogram.add(bound_ms * 1.001)
        assert histogram.counts()[0][place + 1] == 1


def test_the_extremes_have_buckets_and_the_largest_is_exact() -> None:
    histogram = Histogram()
    assert histogram.quantile_ms(0.5) is None
    for duration_ms in (0.0, 1e-6, 1e9):
        histogram.add(duration_ms)
    assert histogram.counts()[0][0] == 2 and histogram.counts()[0][-1] == 1
    assert histogram.to_json() == {"count": 3, "p50_ms": 0.01, "p99_ms": 1e9, "p999_ms": 1e9, "most_ms": 1e9}


def test_threads_lose_no_counts() -> None:
    histogram = Histogram()
    threads = [threading.Thread(target=lambda: [histogram.add(1.0) for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(histogram.counts()[0]) == 20_000


def test_a_stage_that_was_not_reached_is_not_counted() -> None:
    latencies = Latencies(("top", "side"))
    latencies.add("top", {"capture": None, "total": 5.0})
    figures = latencies.to_json()
    assert figures["top"]["total"]["count"] == 1 and figures["top"]["capture"]["count"] == 0
    assert figures["side"]["total"]["count"] == 0
