"""The answer to one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Inspection", "Region", "find_regions"]


@dataclass(frozen=True, kw_only=True)
class Region:
    """A connected area of the map above the threshold, as a box in camera pixels.

    Attributes:
        x, y: Left and top.
        width, height: Size in pixels.
        score: Highest map value inside.
    """

    x: int
    y: int
    width: int
    height: int
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """Verdict, score and map of one frame.

    Attributes:
        score: Higher is more anomalous, always. Finite.
        threshold: The bundle's threshold for `precision`; above it the frame is anomalous.
        anomaly_map: (h, w) float32 at the network's resolution; its maximum is the score of map-scored methods.
        regions: Where the map exceeds the threshold, highest first, in camera pixels.
        latency_ms: From the frame's bytes to this object, in milliseconds.
        precision: "fp32", "fp16", "int8" or "fp8": what was actually used.
        backend: The runtime that was actually used, for example "onnxruntime-cpu".
    """

    score: float
    threshold: float
    anomaly_map: npt.NDArray[np.float32]
    regions: tuple[Region, ...]
    latency_ms: float
    precision: str
    backend: str

    @property
    def is_anomalous(self) -> bool:
        """The score is above the threshold."""
        return self.score > self.threshold

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict without the map."""
        return {
            "is_anomalous": self.is_anomalous,
            "score": self.score,
            "threshold": self.threshold,
            "regions": [vars(region) for region in self.regions],
            "latency_ms": round(self.latency_ms, 3),
            "precision": self.precision,
            "backend": self.backend,
        }


def find_regions(
    anomaly_map: npt.NDArray[np.float32], threshold: float, camera_size: tuple[int, int]
) -> tuple[Region, ...]:
    """Boxes around the connected areas of a (h, w) map above `threshold`, scaled to (height, width) of the camera."""
    above = (anomaly_map > threshold).view(np.uint8)
    first_x, first_y, wide, tall = cv2.boundingRect(above)
    if not wide:
        return ()
    # Labels take four bytes a cell: of a large map only where they are needed.
    around = np.s_[first_y : first_y + tall, first_x : first_x + wide]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above[around], connectivity=8)
    scale_y, scale_x = camera_size[0] / anomaly_map.shape[0], camera_size[1] / anomaly_map.shape[1]
    regions = []
    for label in range(1, count):
        left, top, width, height = (int(value) for value in stats[label, :4])
        window = np.s_[top : top + height, left : left + width]
        peak = float(anomaly_map[around][window][labels[window] == label].max())
        left, top = left + first_x, top + first_y
        x, y = int(left * scale_x), int(top * scale_y)
        right, bottom = int(np.ceil((left + width) * scale_x)), int(np.ceil((top + height) * scale_y))
        regions.append(Region(x=x, y=y, width=right - x, height=bottom - y, score=peak))
    return tuple(sorted(regions, key=lambda region: -region.score))
