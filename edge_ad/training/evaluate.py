"""Accuracy and latency of anything that answers frames, on a labelled data set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_ad.errors import DatasetLayoutError, FrameError
from edge_ad.frame import check_image, read_image
from edge_ad.golden import Run
from edge_ad.progress import Progress
from edge_ad.training.dataset import GOOD, Dataset, TestImage, read_truth
from edge_ad.training.intervals import image_intervals, pixel_intervals
from edge_ad.training.localisation import Localisation, localise
from edge_ad.training.metrics import image_metrics

__all__ = ["DefectMetrics", "Evaluation", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class DefectMetrics:
    """One type of defect against all good images; None where there is no good one, or nothing of it is marked."""

    images: int
    image_auroc: float | None
    pixel_auroc: float | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics, None where undefined (one class only, no masks); `scores` in the order of the data set's test images.

    Attributes:
        aupro: PRO up to a false positive rate of 0.3.
        spro, spro_03: Saturated PRO up to a false positive rate of 0.05 and of 0.3.
        latency_p50_ms, latency_p99_ms: Of `run` alone, one frame at a time.
        intervals: 95 % bootstrap intervals (low, high) of the metrics of the same names; see intervals.py for what
            they mean. A metric that is None has none.
        per_defect: By type of defect.
    """

    images: int
    image_auroc: float | None
    image_f1max: float | None
    image_f1max_threshold: float | None
    image_average_precision: float | None
    pixel_auroc: float | None
    aupro: float | None
    spro: float | None
    spro_03: float | None
    latency_p50_ms: float
    latency_p99_ms: float
    scores: tuple[float, ...]
    intervals: dict[str, tuple[float, float]]
    per_defect: dict[str, DefectMetrics]


def evaluate(run: Run, dataset: Dataset, size: tuple[int, int], what: str) -> Evaluation:
    """Judge `run` on the test images, each of `size` (height, width).

    Raises:
        DatasetLayoutError: The data set has no test images.
        FrameError: An image has another size.
    """
    if not dataset.test:
        raise DatasetLayoutError(
            f"{dataset.root} has no test images.",
            expected="test/good and test/<defect> with images",
            fix="give a data set with labelled test images",
        )
    maps, scores, seconds = [], [], []
    with Progress(what, len(dataset.test)) as progress:
        for item in dataset.test:
            image = _frame(item, size)
            start = time.perf_counter()
            anomaly_map, score = run(image[None])
            seconds.append(time.perf_counter() - start)
            maps.append(anomaly_map[0])
            scores.append(float(score[0]))
            progress.step()
    defective = [item.is_defective for item in dataset.test]
    located = localise(maps, (read_truth(item, size, dataset.saturations) for item in dataset.test))
    p50, p99 = np.percentile(np.array(seconds) * 1e3, (50, 99))
    return Evaluation(
        images=len(scores),
        **vars(image_metrics(scores, defective)),
        **vars(located.metrics),
        latency_p50_ms=float(p50),
        latency_p99_ms=float(p99),
        scores=tuple(scores),
        intervals=image_intervals(scores, defective) | pixel_intervals(located, defective),
        per_defect=_per_defect(dataset.test, np.array(scores), located),
    )


def _per_defect(test: Sequence[TestImage], scores: np.ndarray, located: Localisation) -> dict[str, DefectMetrics]:
    kinds = np.array([item.defect for item in test])
    metrics = {}
    for kind in dict.fromkeys(item.defect for item in test if item.is_defective):
        of_kind = kinds == kind
        compared = of_kind | (kinds == GOOD)
        pixel_auroc = float(located.weighted(compared[None])["pixel_auroc"][0])
        metrics[kind] = DefectMetrics(
            images=int(of_kind.sum()),
            image_auroc=image_metrics(scores[compared], of_kind[compared]).image_auroc,
            pixel_auroc=None if np.isnan(pixel_auroc) else pixel_auroc,
        )
    return metrics


def _frame(item: TestImage, size: tuple[int, int]) -> np.ndarray:
    try:
        return check_image(read_image(item.path), size)
    except FrameError as exc:
        raise FrameError(f"{item.path}: {exc.what}", expected=exc.expected, got=exc.got, fix=exc.fix) from exc
