"""Regions of interest of the data sets, as images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.regions import REGIONS, draw_region
from edge_ad.training.region import Box, RegionOfInterest


@pytest.mark.parametrize("name", REGIONS)
def test_an_image_of_a_region_is_one(name: str, tmp_path: Path) -> None:
    region = RegionOfInterest.read(draw_region(name, (300, 200), tmp_path / "new" / "it.png"), (300, 200))
    _, top, left, bottom, right = REGIONS[name]
    edges = np.array([region.box.top / 300, region.box.left / 200, region.box.bottom / 300, region.box.right / 200])
    np.testing.assert_allclose(edges, [top, left, bottom, right], atol=0.01)


def test_an_ellipse_leaves_the_corners_out(tmp_path: Path) -> None:
    region = RegionOfInterest.read(draw_region("metal_nut", (400, 400), tmp_path / "it.png"), (400, 400))
    assert region.mask[200, 200] and not region.mask[40, 40]
    assert region.mask.mean() == pytest.approx(np.pi * 0.46**2, rel=0.02)
    assert region.box.top == pytest.approx(16, abs=1) and isinstance(region.box, Box)
