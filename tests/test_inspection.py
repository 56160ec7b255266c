"""Regions in camera pixels, and verdicts as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_ad import Inspection, Region
from edge_ad.inspection import find_regions

# 4 x 6 cells for a camera of 40 x 90 pixels: one cell is 10 high and 15 wide, so swapped axes show.
MAP = np.array(
    [
        [9, 0, 0, 0, 0, 5],
        [0, 7, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 6, 6, 0],
    ],
    np.float32,
)


def test_regions_touch_at_corners_and_come_highest_first() -> None:
    assert find_regions(MAP, 1.0, (40, 90)) == (
        Region(x=0, y=0, width=30, height=20, score=9.0),
        Region(x=45, y=30, width=30, height=10, score=6.0),
        Region(x=75, y=0, width=15, height=10, score=5.0),
    )


def test_a_region_is_strictly_above_the_threshold() -> None:
    assert [region.score for region in find_regions(MAP, 6.0, (40, 90))] == [9.0]
    assert find_regions(MAP, 9.0, (40, 90)) == ()


def test_the_peak_of_a_region_is_its_own() -> None:
    """The box of the ring holds a higher peak that is not connected to it."""
    ring = np.full((7, 7), 2, np.float32)
    ring[1:6, 1:6] = 0
    ring[3, 3] = 8
    assert [(r.score, r.width) for r in find_regions(ring, 1.0, (7, 7))] == [(8.0, 1), (2.0, 7)]


@pytest.mark.parametrize("camera", [(5, 7), (50, 61), (1200, 1920)])
def test_boxes_stay_inside_the_camera_image(camera: tuple[int, int]) -> None:
    [region] = find_regions(np.ones((4, 6), np.float32), 0.5, camera)
    assert (region.x, region.y, region.width, region.height) == (0, 0, camera[1], camera[0])


def test_a_verdict_as_json() -> None:
    inspection = Inspection(
        score=2.0,
        threshold=1.5,
        anomaly_map=MAP,
        regions=find_regions(MAP, 8.0, (40, 90)),
        latency_ms=1.23456,
        precision="int8",
        backend="onnxruntime-cpu",
    )
    assert json.loads(json.dumps(inspection.to_json())) == {
        "is_anomalous": True,
        "score": 2.0,
        "threshold": 1.5,
        "regions": [{"x": 0, "y": 0, "width": 15, "height": 10, "score": 9.0}],
        "latency_ms": 1.235,
        "precision": "int8",
        "backend": "onnxruntime-cpu",
    }
