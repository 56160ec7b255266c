"""How far a metric would move with other images: 95 % bootstrap intervals.

The percentile bootstrap (Efron, Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13): images are drawn with
replacement, good and defective ones each as many as there are, the metric is taken of every draw, and the interval
reaches from the 2.5th to the 97.5th percentile. It covers the choice of test images, not that of training images or
of the training's seed. Of few images it is too narrow: with ten of a class, rather 90 % than 95 %. Where the scores
separate the classes perfectly, so do those of every draw, and the interval has no width: that says that the images
at hand cannot tell how often others fail, not that none will.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edge_ad.training.localisation import METRICS, Localisation

__all__ = ["image_intervals", "pixel_intervals", "weighted_image_metrics"]

IMAGE_DRAWS = 2000
PIXEL_DRAWS = 1000
PERCENTILES = (2.5, 97.5)
_CHUNK = 100  # draws at a time: bounds memory

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]


def image_intervals(scores: npt.ArrayLike, is_defective: npt.ArrayLike, *, seed: int = 0) -> dict[str, Interval]:
    """Intervals of image_auroc, image_average_precision and image_f1max; none where one class is missing.

    Args:
        scores: (N,) numbers, higher is more anomalous.
        is_defective: (N,) booleans.
    """
    score, label = np.asarray(scores, np.float64), np.asarray(is_defective, bool)
    if label.all() or not label.any():
        return {}
    draws = [weighted_image_metrics(score, label, weight) for weight in _draws(label, IMAGE_DRAWS, seed)]
    return {name: _interval(np.concatenate([one[name] for one in draws])) for name in draws[0]}


def pixel_intervals(localisation: Localisation, is_defective: npt.ArrayLike, *, seed: int = 0) -> dict[str, Interval]:
    """Intervals of the PixelMetrics; none where they are undefined.

    Draws are taken of images with a known mask, and of coarser bins than the metrics themselves. What the bins change
    (some 1e-6) is taken off, so that the interval is that of the metric.

    Args:
        is_defective: (N,) booleans, one per image of `localisation`.
    """
    known = localisation.known
    label = np.asarray(is_defective, bool)[known]
    exact = {name: getattr(localisation.metrics, name) for name in METRICS}
    if None in exact.values():
        return {}
    every = localisation.weighted(known[None])
    draws = []
    for drawn in _draws(label, PIXEL_DRAWS, seed):
        weight = np.zeros((len(drawn), len(known)), np.float32)
        weight[:, known] = drawn
        draws.append(localisation.weighted(weight))
    return {
        name: _interval(np.clip(np.concatenate([one[name] for one in draws]) + (exact[name] - every[name]), 0, 1))
        for name in METRICS
    }


def weighted_image_metrics(
    score: FloatArray, label: npt.NDArray[np.bool_], weight: npt.NDArray[np.integer]
) -> dict[str, FloatArray]:
    """The metrics where image n is there weight[r, n] times: (R, N) to (R,) each. Both classes must have weight."""
    order = np.argsort(-score, kind="stable")
    last_of_ties = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    found = np.cumsum(weight[:, order] * label[order], axis=1)[:, last_of_ties].astype(np.float64)
    wrong = np.cumsum(weight[:, order] * ~label[order], axis=1)[:, last_of_ties].astype(np.float64)
    bad, good = found[:, -1:], wrong[:, -1:]
    more_found, more_wrong = np.diff(found, axis=1, prepend=0), np.diff(wrong, axis=1, prepend=0)
    precision = found / np.maximum(found + wrong, 1)
    return {
        "image_auroc": np.sum(more_wrong * (found - more_found / 2), axis=1) / (bad * good)[:, 0],
        "image_average_precision": np.sum(more_found * precision, axis=1) / bad[:, 0],
        "image_f1max": np.max(2 * found / (found + wrong + bad), axis=1),
    }


def _draws(label: npt.NDArray[np.bool_], draws: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """How often each image is drawn, chunk by chunk of (R, N): of either class as many as there are."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _CHUNK):
        weight = np.zeros((min(_CHUNK, draws - start), len(label)), np.int64)
        for one in (label, ~label):
            if one.any():
                weight[:, one] = rng.multinomial(one.sum(), np.full(one.sum(), 1 / one.sum()), size=len(weight))
        yield weight


def _interval(values: FloatArray) -> Interval:
    low, high = np.nanpercentile(values, PERCENTILES)
    return float(low), float(high)
