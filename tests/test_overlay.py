"""Overlays: quiet where the part is normal, coloured where it is not, legible at any size."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from edge_ad.errors import FrameError
from edge_ad.inspection import Inspection, find_regions
from edge_ad.overlay import draw_heat, draw_overlay

GREY = 120


def plain(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def inspection(image: np.ndarray, *, peak: float, threshold: float = 1.0, shift: float = 0.0) -> Inspection:
    """A map that is 0 but for a bump of height `peak` in its upper left quarter, all moved by `shift`."""
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[16, 16] = 1
    anomaly_map = cv2.GaussianBlur(anomaly_map, (0, 0), 3)
    anomaly_map = (anomaly_map * (peak / anomaly_map.max()) + shift).astype(np.float32)
    regions = find_regions(anomaly_map, threshold + shift, image.shape[:2])
    return Inspection(
        score=float(anomaly_map.max()),
        threshold=threshold + shift,
        anomaly_map=anomaly_map,
        regions=regions,
        latency_ms=1.0,
        precision="int8",
        backend="onnxruntime-cpu",
    )


def quarters(image: np.ndarray) -> list[float]:
    """Share of changed pixels in the upper left quarter and in the rest."""
    changed = (image != GREY).any(axis=2)
    height, width = changed.shape
    corner = changed[: height // 2, : width // 2]
    return [float(corner.mean()), float((changed.sum() - corner.sum()) / (changed.size - corner.size))]


@pytest.mark.parametrize("peak", [0.0, 0.3, 0.5])
def test_up_to_half_the_threshold_nothing_is_coloured(peak):
    image = plain(200, 300)
    assert np.array_equal(draw_heat(image, inspection(image, peak=peak)), image)


def test_just_below_the_threshold_colour_is_faint():
    image = plain(200, 300)
    drawn = draw_heat(image, inspection(image, peak=0.95))
    change = np.abs(drawn.astype(int) - image)
    assert 0 < change.max() < 60  # no outline, which would be white on black
    assert (change.max(axis=2) > 0).mean() < 0.05


def test_above_the_threshold_the_region_is_red_and_nothing_else_is_touched():
    image = plain(200, 300)
    drawn = draw_heat(image, inspection(image, peak=4.0))
    inside, elsewhere = quarters(drawn)
    assert inside > 0.1 and elsewhere == 0
    blue, green, red = (int(value) for value in drawn[51, 77])
    assert red > GREY + 30 and green < GREY - 30 and blue < GREY - 30


@pytest.mark.parametrize("peak", [0.2, 0.9])
def test_a_rejected_part_whose_map_stays_below_the_threshold_shows_its_hottest_place(peak):
    """The score is of the map before its blur, or of a head of its own."""
    image = plain(200, 300)
    told = dataclasses.replace(inspection(image, peak=peak), score=4.0)
    assert np.array_equal(
        draw_heat(image, told), draw_heat(image, dataclasses.replace(inspection(image, peak=4.0), regions=()))
    )
    nowhere = dataclasses.replace(told, anomaly_map=np.zeros_like(told.anomaly_map))
    assert np.array_equal(draw_heat(image, nowhere), image)


def test_the_outline_lies_on_the_threshold():
    image = plain(640, 640)
    found = inspection(image, peak=4.0)
    white = (draw_heat(image, found) > 180).all(axis=2)
    level = cv2.resize(found.anomaly_map, (640, 640), interpolation=cv2.INTER_LINEAR)
    # The region is 32 cells of 10 pixels across; its outline crosses the row of the peak at level 1, within 3 pixels.
    crossings = np.flatnonzero(white[165, :400])
    edges = np.flatnonzero(np.diff((level[165, :400] > 1).astype(int)))
    assert len(edges) == 2
    assert all(np.abs(crossings - edge).min() <= 3 for edge in edges)


@pytest.mark.parametrize("shift", [-5.0, 1000.0])
def test_colour_does_not_depend_on_the_zero_of_the_score(shift):
    image = plain(200, 300)
    expected = draw_heat(image, inspection(image, peak=4.0)).astype(int)
    got = draw_heat(image, inspection(image, peak=4.0, shift=shift))
    assert np.abs(got - expected).max(axis=2).mean() < 0.5


def test_a_wholly_anomalous_map_is_coloured_everywhere():
    image = plain(100, 400)
    found = inspection(image, peak=0.0, shift=3.0, threshold=-1.0)
    assert (draw_heat(image, found) != GREY).any(axis=2).all()


@pytest.mark.parametrize("height, width", [(75, 100), (480, 640), (1200, 200), (90, 2000), (3000, 4000)])
@pytest.mark.parametrize("peak", [0.2, 4.0])
def test_the_strip_is_legible_and_hides_nothing(height, width, peak):
    image = plain(height, width)
    drawn = draw_overlay(image, inspection(image, peak=peak))
    factor = drawn.shape[1] // width
    strip = drawn[height * factor :]
    assert drawn.shape[1] == width * factor >= 480
    assert len(strip) >= 36
    lettered = (strip.min(axis=2) > 150).any(axis=1).nonzero()[0]
    assert np.ptp(lettered) >= 10  # letters at least 11 pixels tall
    assert np.ptp(lettered) < 0.8 * len(strip)  # and not cut off
    assert quarters(drawn[: height * factor])[1] == 0


def test_good_and_anomalous_differ_in_colour():
    image = plain(480, 640)
    good, bad = (draw_overlay(image, inspection(image, peak=peak))[482, 2].astype(int) for peak in (0.2, 4.0))
    assert good[1] > good[2] + 50 and bad[2] > bad[1] + 50


def test_the_image_that_came_is_not_drawn_on():
    image = plain(100, 100)
    draw_overlay(image, inspection(image, peak=4.0))
    assert (image == GREY).all()


def test_a_grey_image_is_refused():
    image = plain(100, 100)
    with pytest.raises(FrameError, match="GRAY2BGR"):
        draw_overlay(image[..., 0], inspection(image, peak=4.0))


@pytest.mark.parametrize(
    "score, threshold, expected",
    [(0.812, 0.5, ("0.812", "0.500")), (0.50004, 0.5, ("0.50004", "0.50000")), (3608.1, 1234.5, ("3608", "1234"))],
)
def test_figures_tell_score_and_threshold_apart(score, threshold, expected):
    from edge_ad.overlay import _figures

    assert _figures(score, threshold) == expected
