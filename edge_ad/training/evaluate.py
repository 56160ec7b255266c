"""Accuracy and latency of anything that answers frames, on a labelled data set."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from edge_ad.errors import DatasetLayoutError, FrameError
from edge_ad.frame import check_image, read_image
from edge_ad.golden import Run
from edge_ad.progress import Progress
from edge_ad.training.dataset import Dataset, TestImage, read_mask
from edge_ad.training.metrics import image_metrics, pixel_metrics

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics, None where undefined (one class only, no masks); `scores` in the order of the data set's test images.

    Attributes:
        latency_p50_ms, latency_p99_ms: Of `run` alone, one frame at a time.
    """

    images: int
    image_auroc: float | None
    image_f1max: float | None
    image_f1max_threshold: float | None
    image_average_precision: float | None
    pixel_auroc: float | None
    aupro: float | None
    latency_p50_ms: float
    latency_p99_ms: float
    scores: tuple[float, ...]


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
    of_images = image_metrics(scores, [item.is_defective for item in dataset.test])
    of_pixels = pixel_metrics(maps, (read_mask(item, size) for item in dataset.test))
    p50, p99 = np.percentile(np.array(seconds) * 1e3, (50, 99))
    return Evaluation(
        images=len(scores),
        **vars(of_images),
        **vars(of_pixels),
        latency_p50_ms=float(p50),
        latency_p99_ms=float(p99),
        scores=tuple(scores),
    )


def _frame(item: TestImage, size: tuple[int, int]) -> np.ndarray:
    try:
        return check_image(read_image(item.path), size)
    except FrameError as exc:
        raise FrameError(f"{item.path}: {exc.what}", expected=exc.expected, got=exc.got, fix=exc.fix) from exc
