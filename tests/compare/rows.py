"""Comparisons made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_ad.compare.findings import Comparison, Example, Failure, Row, View
from edge_ad.inspection import Inspection
from edge_ad.training.evaluate import DefectMetrics

FACTS = {"Data": "parts: 12 good images", "Thresholds": "10 normal images", "Machine": "a processor"}


def row(method: str, precision: str = "int8", **figures: Any) -> Row:
    """A row whose figures are None, or what is given."""
    plain: dict[str, Any] = {
        "backend": "onnxruntime-cpu",
        "images": 7,
        "good_images": 3,
        "defective_images": 4,
        **dict.fromkeys(("image_auroc", "image_average_precision", "image_f1max", "pixel_auroc", "aupro", "spro")),
        "intervals": {},
        "per_defect": {},
        "threshold": 1.0,
        "false_rejects": 0,
        "missed_defects": 0,
        "latency_p50_ms": 20.0,
        "latency_quartiles_ms": (figures.get("latency_p50_ms", 20.0) - 1, figures.get("latency_p50_ms", 20.0) + 1),
        "graph_bytes": 2_500_000,
        "parameters": 1_200_000,
        "training_seconds": 61.0,
        "training_images": 12,
        "changed_options": {},
    }
    if precision == "int8":
        plain |= {"float_layers": 1, "convolutions": 4, "within_limits": True}
    return Row(method=method, precision=precision, **plain | figures)


def view(method: str, score: float) -> View:
    inspection = Inspection(
        score=score,
        threshold=1.0,
        anomaly_map=np.zeros((4, 4), np.float32),
        regions=(),
        latency_ms=5.0,
        precision="int8",
        backend="onnxruntime-cpu",
    )
    return View(method=method, overlay=np.full((12, 16, 3), 90, np.uint8), inspection=inspection)


def example(why: str, name: str, is_defective: bool, scores: dict[str, float]) -> Example:
    return Example(
        why=why,
        name=name,
        is_defective=is_defective,
        image=np.full((12, 16, 3), 120, np.uint8),
        views=tuple(view(method, score) for method, score in scores.items()),
    )


def comparison(rows: list[Row], failures: tuple[Failure, ...] = (), examples: tuple[Example, ...] = ()) -> Comparison:
    return Comparison(
        dataset="parts",
        rows=tuple(rows),
        failures=failures,
        examples=examples,
        shown="int8",
        machine={"cores": 2},
        facts=FACTS,
    )


def defect(images: int, image_auroc: float | None, pixel_auroc: float | None = None) -> DefectMetrics:
    return DefectMetrics(images=images, image_auroc=image_auroc, pixel_auroc=pixel_auroc)
