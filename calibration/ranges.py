"""Where to clip an activation: four answers to one question, all from the same histogram.

The largest value ever seen is rare, and every other value pays for it with a coarser step; clipping lower loses the
large values, which defects produce. Which compromise serves a graph best is measured (search.py), not believed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from calibration.observe import CENTRES, EDGES, Histogram, Observation

__all__ = ["CLIPPING", "LEVELS", "clip_entropy", "clip_mse", "clip_percentile"]

LEVELS = 127  # of symmetric INT8, on each side of 0
PERCENTILE = 0.9999
MSE_CLIPS = 2.0 ** -(np.arange(65) / 16)  # of the largest value: down to a sixteenth of it
ENTROPY_BINS = 2048
ENTROPY_STEP = 16


def clip_mse(histogram: Histogram, largest: float) -> float:
    """The clip of least mean squared error (Banner et al., "Post Training 4-bit Quantization", NeurIPS 2019, sec. 3).

    Args:
        histogram: Counts of the magnitudes CENTRES.
        largest: Largest magnitude, with which the search begins.
    """
    present = histogram.nonzero()[0]
    count, value = histogram[present], np.minimum(CENTRES[present], largest)
    errors = [float(count @ _squared_error(value, largest * clip)) for clip in MSE_CLIPS]
    return float(largest * MSE_CLIPS[int(np.argmin(errors))])


def _squared_error(value: npt.NDArray[np.float64], clip: float) -> npt.NDArray[np.float64]:
    """Expected error of rounding magnitudes to multiples of clip / 127, at most clip."""
    width = clip / LEVELS
    rounding = np.where(value < width / 2, value**2, width**2 / 12)
    return np.where(value > clip, (value - clip) ** 2, rounding)


def clip_percentile(histogram: Histogram, largest: float) -> float:
    """The magnitude that 99.99 % of the values do not exceed."""
    reached = np.cumsum(histogram) >= PERCENTILE * histogram.sum()
    return float(min(largest, EDGES[1 + int(np.argmax(reached))]))


def clip_entropy(histogram: Histogram, largest: float) -> float:
    """The clip whose quantised distribution diverges least from the clipped one (Kullback-Leibler).

    Migacz, "8-bit Inference with TensorRT", GTC 2017: the method of TensorRT's former entropy calibrator, over 2,048
    equal bins up to `largest`.
    """
    counts = _linear_counts(histogram, largest)
    counts[0] = 0  # zeros are exact in any range; after ReLU they would drown the rest
    if not counts.any():
        return largest
    sizes = range(LEVELS + 1, ENTROPY_BINS + 1, ENTROPY_STEP)
    divergences = [_divergence(counts, size) for size in sizes]
    return largest * sizes[int(np.argmin(divergences))] / ENTROPY_BINS


def _linear_counts(histogram: Histogram, largest: float) -> npt.NDArray[np.float64]:
    """The same counts over ENTROPY_BINS equal bins of [0, largest]."""
    cumulative = np.concatenate([[0.0], np.cumsum(histogram, dtype=np.float64)])
    edges = np.concatenate([[0.0], EDGES[1:]])
    at = np.interp(np.linspace(0, largest, ENTROPY_BINS + 1), edges, cumulative)
    at[-1] = cumulative[-1]
    return np.diff(at)


def _divergence(counts: npt.NDArray[np.float64], size: int) -> float:
    """KL of the first `size` bins, the tail added to the last, from themselves in LEVELS + 1 steps."""
    kept = counts[:size]
    reference = kept.copy()
    reference[-1] += counts[size:].sum()
    step = np.arange(size) * (LEVELS + 1) // size
    occupied = kept > 0
    totals = np.bincount(step, weights=kept, minlength=LEVELS + 1)
    members = np.bincount(step, weights=occupied, minlength=LEVELS + 1)
    quantised = np.where(occupied, totals[step] / np.maximum(members[step], 1), 0)
    p, q = reference / reference.sum(), quantised / max(quantised.sum(), 1e-300)
    present = p > 0
    return float(np.sum(p[present] * np.log(p[present] / np.maximum(q[present], 1e-12))))


def _clip_largest(histogram: Histogram, largest: float) -> float:
    return largest


def _of(clip: Callable[[Histogram, float], float]) -> Callable[[Observation], float]:
    return lambda seen: clip(seen.histogram, seen.largest) or 1.0  # of a tensor of zeros any range will do


CLIPPING: dict[str, Callable[[Observation], float]] = {
    "mse": _of(clip_mse),
    "percentile": _of(clip_percentile),
    "entropy": _of(clip_entropy),
    "minmax": _of(_clip_largest),
}
"""By name: from an Observation to the magnitude at which to clip; always above 0."""
