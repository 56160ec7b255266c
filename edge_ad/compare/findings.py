"""What a comparison finds: rows of figures, the images that tell methods apart, and the methods that failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_ad.frame import Image
from edge_ad.inspection import Inspection
from edge_ad.training.evaluate import DefectMetrics

__all__ = ["Comparison", "Example", "Failure", "Row", "View"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method in one precision, judged on the test images.

    Attributes:
        backend: What ran it, for example "onnxruntime-cpu".
        image_auroc, image_average_precision, image_f1max, pixel_auroc, aupro, spro: As `Evaluation` has them.
        intervals: 95 % intervals by the name of the figure.
        per_defect: By type of defect.
        threshold: Fitted to normal images, for this precision.
        false_rejects, missed_defects: Of `good_images` and of `defective_images`, at that threshold.
        latency_p50_ms: Median of one frame, measured in turn with all other rows.
        latency_quartiles_ms: Between which half of the frames lie.
        graph_bytes: Size of the ONNX file.
        parameters: Numbers in the trained network's file, with memory banks and statistics.
        training_seconds, training_images: Of its run.
        changed_options: What the run did not leave at the method's defaults.
        float_layers: Convolutions that INT8 leaves in float16 or float32; None for other precisions.
        convolutions: How many there are; None for other precisions than INT8.
        within_limits: Whether INT8 keeps to calibration's budget; None for other precisions.
        plain_image_auroc: With every convolution in INT8; None where calibration saw no labels.
        work: Multiply-accumulates as a share of float32's, where ranks were lowered.
    """

    method: str
    precision: str
    backend: str
    images: int
    good_images: int
    defective_images: int
    image_auroc: float | None
    image_average_precision: float | None
    image_f1max: float | None
    pixel_auroc: float | None
    aupro: float | None
    spro: float | None
    intervals: Mapping[str, tuple[float, float]]
    per_defect: Mapping[str, DefectMetrics]
    threshold: float
    false_rejects: int
    missed_defects: int
    latency_p50_ms: float
    latency_quartiles_ms: tuple[float, float]
    graph_bytes: int
    parameters: int
    training_seconds: float
    training_images: int
    changed_options: Mapping[str, Any]
    float_layers: int | None = None
    convolutions: int | None = None
    within_limits: bool | None = None
    plain_image_auroc: float | None = None
    work: float | None = None

    def interval(self, figure: str) -> tuple[float, float] | None:
        """Within which a figure lies: 95 % of an accuracy, half of the frames of the latency; None where unknown."""
        return self.latency_quartiles_ms if figure == "latency_p50_ms" else self.intervals.get(figure)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A method that could not be compared, and why."""

    method: str
    error: str


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One method's answer to an image; `overlay` is the image with its heat."""

    method: str
    overlay: Image
    inspection: Inspection


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One test image as every method sees it.

    Attributes:
        why: Why it was chosen, for example "Hardest good part".
        name: TYPE/FILE.
        image: As the camera gave it, at the size of the overlays.
        views: One per method, in the order of the rows.
    """

    why: str
    name: str
    is_defective: bool
    image: Image
    views: tuple[View, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Everything on the page.

    Attributes:
        dataset: Its name.
        rows: The precisions of a method together, the most accurate method first.
        shown: The precision of the examples.
        facts: Label and value: what was measured on what.
    """

    dataset: str
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    examples: tuple[Example, ...]
    shown: str
    machine: Mapping[str, Any]
    facts: Mapping[str, str]

    @property
    def methods(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row.method for row in self.rows))

    def to_json(self) -> dict[str, Any]:
        """All of it but the pictures."""
        return {
            "dataset": self.dataset,
            "machine": dict(self.machine),
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "failures": [dataclasses.asdict(failure) for failure in self.failures],
        }
