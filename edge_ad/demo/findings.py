"""What the report shows: the inspected parts, the precisions, the engines and where they come from."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_ad.errors import DataError
from edge_ad.frame import Image
from edge_ad.inspection import Inspection

__all__ = ["GOOD", "EngineRow", "InspectedPart", "PrecisionRow", "Report"]

GOOD = "good"


@dataclass(frozen=True, kw_only=True, eq=False)
class InspectedPart:
    """One part of the inspected stream.

    Attributes:
        name: As the operator knows it, for example a file name.
        truth: "good", or the name of the defect.
        image: (H, W, 3) uint8 BGR, as the camera gave it.
        overlay: The same with its heat; of the image's size (`edge_ad.overlay.draw_heat`).
    """

    name: str
    truth: str
    image: Image
    overlay: Image
    inspection: Inspection

    @property
    def is_defective(self) -> bool:
        return self.truth != GOOD

    @property
    def is_right(self) -> bool:
        return self.is_defective == self.inspection.is_anomalous


@dataclass(frozen=True, kw_only=True)
class PrecisionRow:
    """What one precision costs.

    Attributes:
        image_auroc, pixel_auroc: 0 to 1 on labelled test images; None where there are none.
        score_shift: Largest |score - float32 score| beyond the mean of good parts, relative to the spread of normal
            scores. 0 for float32 itself.
        map_error: Mean |map - float32 map|, relative to the threshold. 0 for float32 itself.
        threshold: Refitted for this precision.
        graph_bytes: Size of the ONNX file.
        latency_ms: Median of one inspection on this machine.
    """

    precision: str
    image_auroc: float | None
    pixel_auroc: float | None
    score_shift: float
    map_error: float
    threshold: float
    graph_bytes: int
    latency_ms: float


@dataclass(frozen=True, kw_only=True)
class EngineRow:
    """One compiled engine.

    Attributes:
        flavour: "rtx" (TensorRT-RTX) or "trt" (TensorRT), with its `version`.
        target: "sm89", or "portable".
        engine_bytes: Size of the file.
        build_s: Seconds its compilation took; None where an engine already there was kept.
    """

    precision: str
    target: str
    flavour: str
    version: str
    engine_bytes: int
    build_s: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything on the page.

    Attributes:
        title: What was inspected, for example "Machined flange".
        subtitle: How, in one line: method, precision, backend.
        parts: In the order they were inspected; at least one.
        provenance: Label and value, in the order to show: method, options, hashes, machine, versions.
    """

    title: str
    subtitle: str
    parts: tuple[InspectedPart, ...]
    precisions: tuple[PrecisionRow, ...] = ()
    engines: tuple[EngineRow, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parts:
            raise DataError("There is nothing to report.", expected="at least one inspected part", got="none")

    @property
    def good(self) -> list[InspectedPart]:
        return [part for part in self.parts if not part.is_defective]

    @property
    def defective(self) -> list[InspectedPart]:
        return [part for part in self.parts if part.is_defective]

    @property
    def threshold(self) -> float:
        """Of the stream's first part; one bundle and precision have one threshold."""
        return self.parts[0].inspection.threshold

    @property
    def median_latency_ms(self) -> float:
        return statistics.median(part.inspection.latency_ms for part in self.parts)
