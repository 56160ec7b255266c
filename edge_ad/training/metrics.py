"""How well maps and scores separate good from bad. A metric that is undefined is None, never NaN.

Pixels are counted in fine bins instead of being sorted, so memory does not grow with the number of images.
Bins are linear around the median and logarithmic in the tails: a few extreme values cost no resolution elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from edge_ad.errors import InspectionFault

__all__ = ["AUPRO_FPR_LIMIT", "ImageMetrics", "PixelMetrics", "image_metrics", "pixel_metrics"]

AUPRO_FPR_LIMIT = 0.3  # Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, sec. 5.2
BINS = 1 << 20

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ImageMetrics:
    """One number per question about scores; None where only one class was given.

    Attributes:
        image_auroc: Probability that a defective part scores higher than a good one.
        image_f1max: Best F1 over all thresholds.
        image_f1max_threshold: Where it is reached: scores above it count as anomalous, as in Inspection.
        image_average_precision: Area under precision over recall, by steps.
    """

    image_auroc: float | None
    image_f1max: float | None
    image_f1max_threshold: float | None
    image_average_precision: float | None


@dataclass(frozen=True, kw_only=True)
class PixelMetrics:
    """Localisation; None where there is no defective pixel, or no normal one.

    Attributes:
        pixel_auroc: Over all pixels of all images with a known mask.
        aupro: Mean overlap with each connected defect (8-neighbourhood), over false positive rates 0 to 0.3,
            divided by 0.3.
    """

    pixel_auroc: float | None
    aupro: float | None


def image_metrics(scores: npt.ArrayLike, is_defective: npt.ArrayLike) -> ImageMetrics:
    """Judge the scores of labelled images.

    Args:
        scores: (N,) numbers, higher is more anomalous.
        is_defective: (N,) booleans.

    Raises:
        InspectionFault: A score is NaN or infinite.
    """
    score, label = np.asarray(scores, np.float64), np.asarray(is_defective, bool)
    if score.shape != label.shape or score.ndim != 1:
        raise ValueError(f"expected as many scores as labels, got shapes {score.shape} and {label.shape}")
    _check_finite(score, "A score")
    if label.all() or not label.any():
        return ImageMetrics(
            image_auroc=None, image_f1max=None, image_f1max_threshold=None, image_average_precision=None
        )
    f1max, threshold = _f1max(score, label)
    return ImageMetrics(
        image_auroc=float(roc_auc_score(label, score)),
        image_f1max=f1max,
        image_f1max_threshold=threshold,
        image_average_precision=float(average_precision_score(label, score)),
    )


def _f1max(score: FloatArray, label: npt.NDArray[np.bool_]) -> tuple[float, float]:
    precision, recall, lowest_positive = precision_recall_curve(label, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = int(np.argmax(f1[:-1]))
    above = float(lowest_positive[best])
    lower = score[score < above]
    if not lower.size:
        return float(f1[best]), float(np.nextafter(above, -np.inf))
    below = float(lower.max())
    middle = below + (above - below) / 2
    return float(f1[best]), middle if middle < above else below


def pixel_metrics(
    maps: Sequence[npt.NDArray[np.float32]], masks: Iterable[npt.NDArray[np.uint8] | None]
) -> PixelMetrics:
    """Judge where maps are high.

    Args:
        maps: (h, w) float32 each, at the network's resolution; scaled bilinearly to the mask's size.
        masks: (H, W) uint8 each, non-zero where defective; None leaves the image out. They are used one by
            one, so a generator that reads files keeps one in memory.

    Raises:
        InspectionFault: A map holds NaN or Inf.
    """
    to_bins = _binning(maps)
    normal, defective, overlap = np.zeros(BINS), np.zeros(BINS), np.zeros(BINS)
    regions = 0
    for anomaly_map, mask in zip(maps, masks, strict=True):
        if mask is None:
            continue
        height, width = mask.shape
        bins = to_bins(cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR))
        count, labels = cv2.connectedComponents((mask != 0).astype(np.uint8), connectivity=8)
        inside = labels > 0
        normal += np.bincount(bins[~inside], minlength=BINS)
        if count > 1:
            share = 1 / np.maximum(np.bincount(labels.ravel()), 1)  # of one pixel in its region
            defective += np.bincount(bins[inside], minlength=BINS)
            overlap += np.bincount(bins[inside], weights=share[labels[inside]], minlength=BINS)
            regions += count - 1
    if not regions or not normal.any():
        return PixelMetrics(pixel_auroc=None, aupro=None)
    false_positive_rate = _rate_above(normal)
    return PixelMetrics(
        pixel_auroc=_area(false_positive_rate, _rate_above(defective), 1.0),
        aupro=_area(false_positive_rate, _rate_above(overlap), AUPRO_FPR_LIMIT),
    )


def _binning(maps: Sequence[npt.NDArray[np.float32]]) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]:
    """A monotone function from map values to 0..BINS-1, fitted to the values that occur.

    Bilinear scaling makes no value outside the range of the map, so the small maps tell the range.
    """
    for index, anomaly_map in enumerate(maps):
        _check_finite(anomaly_map, f"Map {index}")
    values = np.concatenate([anomaly_map.ravel() for anomaly_map in maps] or [np.zeros(1, np.float32)])
    centre, low, high = (float(value) for value in np.quantile(values.astype(np.float64), (0.5, 0.25, 0.75)))
    unit = high - low or float(values.std(dtype=np.float64)) or 1.0
    first, last = np.arcsinh((np.array([values.min(), values.max()], np.float64) - centre) / unit)
    scale = (BINS - 1) / (last - first) if last > first else 0.0

    def to_bins(scaled: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        position = (np.arcsinh((scaled.astype(np.float64) - centre) / unit) - first) * scale
        return np.clip(position, 0, BINS - 1).astype(np.int64)

    return to_bins


def _rate_above(histogram: FloatArray) -> FloatArray:
    """Share of the histogram at or above each bin, from the highest bin down, starting with 0."""
    counted = np.concatenate([[0.0], np.cumsum(histogram[::-1])])
    return counted / counted[-1]


def _area(x: FloatArray, y: FloatArray, limit: float) -> float:
    """Area under straight lines through (x, y), x ascending from 0, up to `limit`, divided by it."""
    inside = x <= limit
    x_inside = np.append(x[inside], limit)
    y_inside = np.append(y[inside], np.interp(limit, x, y))
    return float(np.sum(np.diff(x_inside) * (y_inside[1:] + y_inside[:-1])) / 2 / limit)


def _check_finite(values: npt.NDArray[np.floating], what: str) -> None:
    if not np.isfinite(values).all():
        raise InspectionFault(f"{what} holds NaN or Inf, so nothing can be measured.", expected="finite values")
