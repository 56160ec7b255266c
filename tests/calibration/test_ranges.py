"""Where activations are clipped: each way against a slow plain form of itself."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.observe import Observation
from calibration.ranges import CLIPPING, ENTROPY_BINS, LEVELS, PERCENTILE, clip_entropy, clip_mse, clip_percentile


def squared_error(values: np.ndarray, clip: float) -> float:
    """Of rounding to the 255 multiples of clip / 127."""
    width = clip / LEVELS
    return float(np.square(np.clip(np.round(values / width), -LEVELS, LEVELS) * width - values).mean())


def seen(values: np.ndarray) -> Observation:
    observation = Observation()
    observation.add(values.astype(np.float32), rectified=False, share=1.0)
    return observation


def draw(distribution: str, size: int) -> np.ndarray:
    arguments = {"uniform": (-3.0, 3.0), "standard_t": (3,)}.get(distribution, (0.0, 2.0))
    return getattr(np.random.default_rng(0), distribution)(*arguments, size=size)


@pytest.mark.parametrize("distribution", ["uniform", "normal", "laplace", "standard_t"])
def test_the_mse_clip_is_as_good_as_the_best_of_a_brute_force_search(distribution: str) -> None:
    values = draw(distribution, 50_000)
    largest = float(np.abs(values).max())
    best = min(squared_error(values, clip) for clip in np.linspace(0.03, 1, 400) * largest)
    assert squared_error(values, clip_mse(seen(values).histogram, largest)) <= 1.02 * best


def test_a_rare_large_value_does_not_cost_the_others_their_steps() -> None:
    values = np.random.default_rng(0).normal(size=60_000)
    values[0] = 10.0
    clip = clip_mse(seen(values).histogram, 10.0)
    assert squared_error(values, clip) < 0.8 * squared_error(values, 10.0)


def test_uniform_values_are_not_clipped() -> None:
    values = np.linspace(-1, 1, 10_001)
    assert clip_mse(seen(values).histogram, 1.0) == 1.0


@pytest.mark.parametrize("distribution", ["uniform", "normal", "laplace", "standard_t"])
def test_the_percentile_is_numpys(distribution: str) -> None:
    values = draw(distribution, 60_000)
    expected = np.quantile(np.abs(values), PERCENTILE, method="inverted_cdf")
    assert clip_percentile(seen(values).histogram, float(np.abs(values).max())) == pytest.approx(expected, rel=0.011)


def divergence_by_hand(counts: np.ndarray, size: int) -> float:
    """Loops, as in the slides: outliers join the last bin of P; Q spreads each level over its occupied bins."""
    p = counts[:size].astype(float).copy()
    p[-1] += counts[size:].sum()
    q = np.zeros(size)
    for level in range(LEVELS + 1):
        members = [index for index in range(size) if index * (LEVELS + 1) // size == level and counts[index] > 0]
        for index in members:
            q[index] = sum(counts[member] for member in members) / len(members)
    p, q = p / p.sum(), q / q.sum()
    return sum(p[i] * np.log(p[i] / max(q[i], 1e-12)) for i in range(size) if p[i] > 0)


@pytest.mark.parametrize("distribution", ["normal", "standard_t"])
def test_the_entropy_clip_diverges_as_little_as_the_best_found_by_hand(distribution: str) -> None:
    values = np.abs(draw(distribution, 60_000))
    largest = float(values.max())
    counts, _ = np.histogram(values, ENTROPY_BINS, (0, largest))
    counts[0] = 0
    clip = clip_entropy(seen(values).histogram, largest)
    best = min(divergence_by_hand(counts, size) for size in range(128, ENTROPY_BINS + 1, 128))
    found = divergence_by_hand(counts, round(clip / largest * ENTROPY_BINS))
    assert found <= 1.15 * best + 1e-3
    assert distribution == "normal" or clip < 0.9 * largest, "a heavy tail is clipped"


@pytest.mark.parametrize("name", list(CLIPPING))
def test_zeros_may_have_any_range(name: str) -> None:
    assert CLIPPING[name](seen(np.zeros(100))) == 1.0


def test_minmax_is_the_largest_value() -> None:
    assert CLIPPING["minmax"](seen(np.array([1.0, -3.5, 2.0]))) == 3.5
