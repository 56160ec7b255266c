"""Metrics against hand-worked cases and slow plain forms that share no code with them."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from edge_ad.errors import InspectionFault
from edge_ad.training.metrics import AUPRO_FPR_LIMIT, ImageMetrics, PixelMetrics, image_metrics, pixel_metrics

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]

BINNED = 2e-4  # pixels are counted in fine bins, not sorted


# --- scores of images ---------------------------------------------------------------------------------------------


def test_image_metrics_by_hand() -> None:
    """Sorted: bad 5, good 4, bad 3, bad 2, good 1. Of 6 pairs, 4 are in order. The best F1 takes the upper four."""
    metrics = image_metrics([4, 5, 1, 3, 2], [False, True, False, True, True])
    assert metrics.image_auroc == pytest.approx(4 / 6)
    assert metrics.image_f1max == pytest.approx(2 * 3 / (2 * 3 + 1 + 0))
    assert metrics.image_f1max_threshold == 1.5
    assert metrics.image_average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)


def pairs_in_order(score: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_]) -> float:
    pairs = [(x > y) + 0.5 * (x == y) for x in score[bad] for y in score[~bad]]
    return sum(pairs) / len(pairs)


def f1_above(threshold: float, score: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_]) -> float:
    found = score > threshold
    return float(2 * (found & bad).sum() / (found.sum() + bad.sum()))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [3, 10, 10_000])  # few levels make many ties
def test_image_metrics_are_those_of_the_plain_form(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    bad = rng.random(40) < 0.4
    score = np.floor(levels * np.clip(rng.normal(0.4 + 0.2 * bad, 0.2), 0, 1))
    metrics = image_metrics(score, bad)
    assert metrics.image_auroc == pytest.approx(pairs_in_order(score, bad))
    best = max(f1_above(threshold, score, bad) for threshold in (-1.0, *score))
    assert metrics.image_f1max == pytest.approx(best)
    assert metrics.image_f1max_threshold is not None
    assert f1_above(metrics.image_f1max_threshold, score, bad) == pytest.approx(best), "as Inspection applies it"


@pytest.mark.parametrize(
    ("scores", "bad"),
    [
        ([1.0, 2.0], [True, True, False]),
        ([[1.0], [2.0]], [[True], [False]]),
    ],
)
def test_scores_and_labels_must_pair(scores: list[float], bad: list[bool]) -> None:
    with pytest.raises(ValueError, match="as many scores as labels"):
        image_metrics(scores, bad)


def test_the_f1_threshold_separates_even_neighbouring_floats() -> None:
    low = 0.1
    high = math.nextafter(low, 1)
    metrics = image_metrics([low, high], [False, True])
    assert metrics.image_f1max == 1.0
    assert metrics.image_f1max_threshold is not None
    assert low <= metrics.image_f1max_threshold < high


def test_where_everything_must_be_called_bad_the_threshold_is_below_everything() -> None:
    metrics = image_metrics([3, 2, 1], [False, True, True])
    assert metrics.image_f1max == pytest.approx(0.8)
    assert metrics.image_f1max_threshold is not None
    assert metrics.image_f1max_threshold < 1


@pytest.mark.parametrize("bad", [[], [True, True], [False, False]])
def test_one_class_alone_has_no_metrics(bad: list[bool]) -> None:
    assert image_metrics(np.arange(len(bad)), bad) == ImageMetrics(
        image_auroc=None, image_f1max=None, image_f1max_threshold=None, image_average_precision=None
    )


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
def test_a_fault_is_not_measured(fault: float) -> None:
    with pytest.raises(InspectionFault, match="score"):
        image_metrics([1.0, fault], [False, True])
    spoiled = np.zeros((4, 4), np.float32)
    spoiled[1, 2] = fault
    with pytest.raises(InspectionFault, match="Map 1"):
        pixel_metrics([np.zeros((4, 4), np.float32), spoiled], [np.eye(4, dtype=np.uint8)] * 2)


# --- maps ---------------------------------------------------------------------------------------------------------


def upsampled(small: Map, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Bilinear, pixel centres at half: one pixel after the other."""
    result = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            v = min(max((y + 0.5) * small.shape[0] / size[0] - 0.5, 0), small.shape[0] - 1)
            u = min(max((x + 0.5) * small.shape[1] / size[1] - 0.5, 0), small.shape[1] - 1)
            y0, x0 = int(v), int(u)
            y1, x1 = min(y0 + 1, small.shape[0] - 1), min(x0 + 1, small.shape[1] - 1)
            upper = small[y0, x0] * (1 - (u - x0)) + small[y0, x1] * (u - x0)
            lower = small[y1, x0] * (1 - (u - x0)) + small[y1, x1] * (u - x0)
            result[y, x] = upper * (1 - (v - y0)) + lower * (v - y0)
    return result


def plain_aupro(maps: list[npt.NDArray[np.float64]], masks: list[Mask]) -> float:
    """Bergmann et al.: every threshold; the mean over regions of the share found, over the share of false alarms."""
    normal = np.concatenate([one[mask == 0] for one, mask in zip(maps, masks, strict=True)])
    regions = []
    for one, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [one[labels == label] for label in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted({float(value) for one in maps for value in one.ravel()}, reverse=True):
        overlap = sum(float((region >= threshold).mean()) for region in regions) / len(regions)
        points.append((float((normal >= threshold).mean()), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 < AUPRO_FPR_LIMIT and x1 > x0:
            end = min(x1, AUPRO_FPR_LIMIT)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    return area / AUPRO_FPR_LIMIT


def random_case(seed: int, *, size: tuple[int, int] = (24, 31)) -> tuple[list[Map], list[Mask]]:
    """Small maps, larger masks with several defects of different sizes, and one good image."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(4):
        mask = np.zeros(size, np.uint8)
        small = rng.normal(size=(9, 12)).astype(np.float32)
        for _ in range(index):
            y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
            mask[y : y + rng.integers(1, 8), x : x + rng.integers(1, 8)] = 255
            small[int(y * 9 / size[0]), int(x * 12 / size[1])] += 3
        maps.append(small)
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize("seed", range(6))
def test_pixel_metrics_are_those_of_the_plain_form(seed: int) -> None:
    maps, masks = random_case(seed)
    large = [upsampled(small, mask.shape) for small, mask in zip(maps, masks, strict=True)]
    metrics = pixel_metrics(maps, masks)
    label = np.concatenate([mask.ravel() > 0 for mask in masks])
    auroc = roc_auc_score(label, np.concatenate([one.ravel() for one in large]))
    assert 0.5 < auroc < 0.99, "a case that can tell right from wrong"
    assert metrics.pixel_auroc == pytest.approx(auroc, abs=BINNED)
    assert metrics.aupro == pytest.approx(plain_aupro(large, masks), abs=BINNED)


def test_aupro_by_hand() -> None:
    """Ten normal pixels and two defects, of 4 pixels and of 1, on a map of the mask's size.

    From the top: three of the four pixels (9), a false alarm (8), the single pixel (7), a false alarm (6), and then
    everything else at once (1). So the mean overlap is 3/8 up to a rate of 0.1, 7/8 up to 0.2, and from there it
    rises by 1/8 on the way to 1.0, of which 0.1 in 0.8 lies below the limit.
    """
    anomaly_map = np.array([[9, 9, 9, 1, 1], [8, 6, 1, 1, 1], [1, 1, 1, 1, 7]], np.float32)
    mask = np.array([[1, 1, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], np.uint8)
    by_hand = (0.1 * 3 / 8 + 0.1 * 7 / 8 + 0.1 * (7 / 8 + 1 / 128)) / 0.3
    assert pixel_metrics([anomaly_map], [mask]).aupro == pytest.approx(by_hand)
    assert plain_aupro([anomaly_map.astype(np.float64)], [mask]) == pytest.approx(by_hand)


def test_defects_that_touch_at_a_corner_are_one() -> None:
    """Two pixels that touch at a corner are found, a third is not: half of the defects, not two thirds."""
    mask = np.zeros((4, 5), np.uint8)
    mask[0, 0] = mask[1, 1] = mask[3, 4] = 1
    anomaly_map = np.zeros((4, 5), np.float32)
    anomaly_map[0, 0] = anomaly_map[1, 1] = 1
    # Overlap 1/2 at rate 0, then straight to 1 at rate 1: at 0.3 it is 0.65, so the mean up to there is 0.575.
    assert pixel_metrics([anomaly_map], [mask]).aupro == pytest.approx((0.5 + 0.65) / 2)


def test_large_and_small_defects_weigh_the_same() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:10, :10] = 1
    mask[15, 15] = 1
    only_large, only_small = (np.zeros((20, 20), np.float32) for _ in range(2))
    only_large[:10, :10] = 1
    only_small[15, 15] = 1
    large, small = pixel_metrics([only_large], [mask]), pixel_metrics([only_small], [mask])
    assert large.aupro == pytest.approx(small.aupro)
    assert large.pixel_auroc == pytest.approx(0.5 + 0.5 * 100 / 101, abs=BINNED)
    assert small.pixel_auroc == pytest.approx(0.5 + 0.5 * 1 / 101, abs=BINNED)


def test_a_perfect_map_scores_one_and_a_flat_map_as_chance() -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[3:9, 5:8] = 255
    perfect = pixel_metrics([(mask / 255).astype(np.float32)], [mask])
    assert perfect == PixelMetrics(pixel_auroc=pytest.approx(1), aupro=pytest.approx(1))  # type: ignore[arg-type]
    flat = pixel_metrics([np.full((3, 4), 7, np.float32)], [mask])
    # The line from (0, 0) to (1, 1): its mean height up to 0.3 is 0.15.
    assert flat == PixelMetrics(pixel_auroc=pytest.approx(0.5), aupro=pytest.approx(0.15))  # type: ignore[arg-type]


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0), (1e6, 0), (1, 1000), (1e-3, -5)])
def test_units_do_not_matter(scale: float, offset: float) -> None:
    """An offset of 1000 leaves float32 steps of 6e-5: some ties, none that matter."""
    maps, masks = random_case(1)
    expected = pixel_metrics(maps, masks)
    moved = pixel_metrics([(one * np.float32(scale) + np.float32(offset)) for one in maps], masks)
    assert moved.pixel_auroc == pytest.approx(expected.pixel_auroc, abs=BINNED)
    assert moved.aupro == pytest.approx(expected.aupro, abs=BINNED)


@pytest.mark.parametrize("outlier", [1e3, 1e12, -1e12, 3e38])
def test_an_extreme_value_costs_no_resolution(outlier: float) -> None:
    maps, masks = random_case(2, size=(9, 12))
    maps[0][0, 0] = outlier  # a normal pixel of the good image
    label = np.concatenate([mask.ravel() > 0 for mask in masks])
    metrics = pixel_metrics(maps, masks)
    values = np.concatenate([one.ravel() for one in maps])
    assert metrics.pixel_auroc == pytest.approx(roc_auc_score(label, values), abs=BINNED)
    assert metrics.aupro == pytest.approx(plain_aupro([one.astype(np.float64) for one in maps], masks), abs=BINNED)


def test_mostly_constant_maps_keep_their_differences() -> None:
    """More than three quarters are exactly 0, so the middle half of the values has no width."""
    maps, masks = random_case(3, size=(9, 12))
    maps = [np.where(one > 1.2, one, 0).astype(np.float32) for one in maps]
    label = np.concatenate([mask.ravel() > 0 for mask in masks])
    values = np.concatenate([one.ravel() for one in maps])
    assert (values == 0).mean() > 0.75
    assert pixel_metrics(maps, masks).pixel_auroc == pytest.approx(roc_auc_score(label, values), abs=BINNED)


def test_images_without_a_mask_are_left_out() -> None:
    maps, masks = random_case(4)
    wild = np.full((9, 12), 100, np.float32)
    assert pixel_metrics([wild, *maps], [None, *masks]).aupro == pytest.approx(
        pixel_metrics(maps, masks).aupro, abs=BINNED
    )


def test_what_is_undefined_is_none() -> None:
    one = np.zeros((4, 4), np.float32)
    undefined = PixelMetrics(pixel_auroc=None, aupro=None)
    assert pixel_metrics([], []) == undefined
    assert pixel_metrics([one], [None]) == undefined
    assert pixel_metrics([one], [np.zeros((8, 8), np.uint8)]) == undefined
    assert pixel_metrics([one], [np.ones((8, 8), np.uint8)]) == undefined


def test_maps_and_masks_must_pair() -> None:
    one, mask = np.zeros((4, 4), np.float32), np.eye(4, dtype=np.uint8)
    for maps, masks in (([one, one], [mask]), ([one], [mask, mask])):
        with pytest.raises(ValueError, match="zip"):
            pixel_metrics(maps, masks)


def test_memory_does_not_grow_with_the_images() -> None:
    def masks(count: int) -> Iterator[Mask]:
        for _ in range(count):
            mask = np.zeros((300, 400), np.uint8)
            mask[10:30, 20:60] = 1
            yield mask

    def peak_bytes(count: int) -> int:
        maps = [np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32) for _ in range(count)]
        tracemalloc.start()
        pixel_metrics(maps, masks(count))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(20) < 1.1 * peak_bytes(2)
