"""How well maps mark defects. A metric that is undefined is None, never NaN.

Pixels are counted in fine bins instead of being sorted, so memory does not grow with the size of the images.
Bins are linear around the median and logarithmic in the tails: a few extreme values cost no resolution elsewhere.

Every metric here is the area under some share of defects found over the false positive rate, and each share is a sum
over images of one histogram: so each image's histograms, kept in fewer bins, give the metrics of any part or
resampling of the images without looking at a pixel again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.training.datasets.masks import GroundTruth
from edge_ad.training.metrics import check_finite

__all__ = ["AUPRO_FPR_LIMIT", "SPRO_FPR_LIMIT", "Localisation", "PixelMetrics", "localise"]

AUPRO_FPR_LIMIT = 0.3  # Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, sec. 5.2
SPRO_FPR_LIMIT = 0.05  # Bergmann et al., Beyond Dents and Scratches, IJCV 2022, sec. 5
BINS = 1 << 18
IMAGE_BINS = 1 << 11
STRIP_PIXELS = 1 << 22

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PixelMetrics:
    """Localisation; None where there is no defective pixel, or no normal one.

    Attributes:
        pixel_auroc: Over all pixels of all images with a known mask.
        aupro: Mean overlap with each connected defect (8-neighbourhood), over false positive rates 0 to 0.3,
            divided by 0.3.
        spro: Mean saturated overlap with each marked defect (sPRO), over false positive rates 0 to 0.05, divided by
            0.05. A defect counts as found whole at its saturation (Bergmann et al., IJCV 2022, sec. 5).
        spro_03: The same up to 0.3.
    """

    pixel_auroc: float | None
    aupro: float | None
    spro: float | None
    spro_03: float | None


METRICS = ("pixel_auroc", "aupro", "spro", "spro_03")


@dataclass(frozen=True, kw_only=True, eq=False)
class Localisation:
    """Pixel metrics of a set of images, and what it takes to know them of any part of it.

    Attributes:
        metrics: Of all images.
        known: (N,) whether an image's defects are marked; the others have no pixels here.
        counts: (4, N, IMAGE_BINS) float32, the histograms of `_count` image by image.
    """

    metrics: PixelMetrics
    known: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.float32]

    def weighted(self, weights: npt.ArrayLike) -> dict[str, FloatArray]:
        """The metrics where image n is there weights[r, n] times: (R, N) to (R,) each, NaN where undefined."""
        weight = np.asarray(weights, np.float32)
        return _areas(*(weight @ count for count in self.counts))


def localise(maps: Sequence[npt.NDArray[np.float32]], truths: Iterable[GroundTruth | None]) -> Localisation:
    """Judge where maps are high.

    Args:
        maps: (h, w) float32 each, at the network's resolution; scaled bilinearly to the masks' size.
        truths: One per map; None leaves the image out. They are used one by one, so a generator that reads files
            keeps one in memory.

    Raises:
        InspectionFault: A map holds NaN or Inf.
    """
    to_bins, first_of = _binning(maps)
    total = np.zeros((4, BINS))
    counts = np.zeros((4, len(maps), IMAGE_BINS), np.float32)
    known = np.zeros(len(maps), bool)
    for index, (anomaly_map, truth) in enumerate(zip(maps, truths, strict=True)):
        if truth is None:
            continue
        known[index] = True
        counted = _count(anomaly_map, truth, to_bins)
        total += counted
        counts[:, index, : len(first_of)] = np.add.reduceat(counted, first_of, axis=1)
    areas = {name: float(area[0]) for name, area in _areas(*total[:, None]).items()}
    metrics = PixelMetrics(**{name: None if np.isnan(area) else area for name, area in areas.items()})
    return Localisation(metrics=metrics, known=known, counts=counts)


def _count(
    anomaly_map: npt.NDArray[np.float32],
    truth: GroundTruth,
    to_bins: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]],
) -> FloatArray:
    """Four histograms over BINS of one image.

    Normal pixels; defective pixels; defective pixels, each as its share of its connected defect; defective pixels,
    each as its share of its marked defect's saturation, up to the whole.
    """
    height, width = truth.defects.shape[1:]
    scaled = cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR)
    merged = truth.merged
    counted = np.zeros((4, BINS))
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = slice(top, top + rows)
        counted[0] += np.bincount(to_bins(scaled[strip][merged[strip] == 0]), minlength=BINS)
    if not len(truth.defects):
        return counted
    inside = merged.astype(bool)
    bins = to_bins(scaled[inside])
    counted[1] = np.bincount(bins, minlength=BINS)
    _, labels = cv2.connectedComponents(merged, connectivity=8)
    labels = labels[inside]
    counted[2] = np.bincount(bins, weights=(1 / np.maximum(np.bincount(labels), 1))[labels], minlength=BINS)
    for defect, saturation in zip(truth.defects, truth.saturations, strict=True):
        highest = np.sort(bins[defect[inside]])[-saturation:]  # more than as many add nothing
        counted[3] += np.bincount(highest, minlength=BINS) / saturation
    return counted


def _binning(
    maps: Sequence[npt.NDArray[np.float32]],
) -> tuple[Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]], npt.NDArray[np.int64]]:
    """A monotone function from map values to 0..BINS-1, fitted to the values that occur; the first bin of each
    of at most IMAGE_BINS groups, which are the finer the higher the values, where false positive rates are low.

    Bilinear scaling makes no value outside the range of the map, so the small maps tell the range.
    """
    for index, anomaly_map in enumerate(maps):
        check_finite(anomaly_map, f"Map {index}")
    values = np.concatenate([anomaly_map.ravel() for anomaly_map in maps] or [np.zeros(1, np.float32)])
    centre, low, high = (float(value) for value in np.quantile(values.astype(np.float64), (0.5, 0.25, 0.75)))
    unit = high - low or float(values.std(dtype=np.float64)) or 1.0
    first, last = np.arcsinh((np.array([values.min(), values.max()], np.float64) - centre) / unit)
    scale = (BINS - 1) / (last - first) if last > first else 0.0

    def to_bins(scaled: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        position = (np.arcsinh((scaled.astype(np.float64) - centre) / unit) - first) * scale
        return np.clip(position, 0, BINS - 1).astype(np.int64)

    occurring = np.bincount(to_bins(values), minlength=BINS)
    at_or_above = np.cumsum(occurring[::-1])[::-1] / len(values)
    group = np.ceil((1 - np.cbrt(at_or_above)) * (IMAGE_BINS - 1))
    return to_bins, np.flatnonzero(np.diff(group, prepend=-1))


def _areas(
    normal: FloatArray, defective: FloatArray, overlap: FloatArray, saturated: FloatArray
) -> dict[str, FloatArray]:
    """The metrics of (R, bins) histograms each: (R,), NaN where there is no defect or nothing else."""
    false_positive_rate = _rate_above(normal)
    return {
        "pixel_auroc": _area(false_positive_rate, _rate_above(defective), 1.0),
        "aupro": _area(false_positive_rate, _rate_above(overlap), AUPRO_FPR_LIMIT),
        "spro": _area(false_positive_rate, _rate_above(saturated), SPRO_FPR_LIMIT),
        "spro_03": _area(false_positive_rate, _rate_above(saturated), AUPRO_FPR_LIMIT),
    }


def _rate_above(histogram: npt.NDArray[np.floating]) -> FloatArray:
    """Share of the histogram at or above each bin, from the highest bin down, starting with 0."""
    counted = np.zeros((*histogram.shape[:-1], histogram.shape[-1] + 1))
    np.cumsum(histogram[..., ::-1], axis=-1, dtype=np.float64, out=counted[..., 1:])
    total = counted[..., -1:]
    return np.divide(counted, total, out=np.full_like(counted, np.nan), where=total > 0)


def _area(x: FloatArray, y: FloatArray, limit: float) -> FloatArray:
    """Area under straight lines through (x, y), x ascending from 0, up to `limit`, divided by it; row by row."""
    start, end = np.minimum(x[..., :-1], limit), np.minimum(x[..., 1:], limit)
    run = x[..., 1:] - x[..., :-1]
    covered = np.divide(end - start, run, out=np.zeros_like(run), where=run > 0)  # share of a line below the limit
    height = y[..., :-1] + (y[..., 1:] - y[..., :-1]) * covered / 2
    area: FloatArray = np.sum((end - start) * height, axis=-1) / limit
    return area
