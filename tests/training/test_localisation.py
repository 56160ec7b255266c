"""Pixel metrics against hand-worked cases and slow plain forms that share no code with them."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from edge_ad.errors import InspectionFault
from edge_ad.training.datasets.masks import GroundTruth
from edge_ad.training.localisation import AUPRO_FPR_LIMIT, METRICS, SPRO_FPR_LIMIT, PixelMetrics, localise

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]

BINNED = 2e-4  # pixels are counted in fine bins, not sorted


def pixel_metrics(maps: Sequence[Map], masks: Iterable[Mask | None]) -> PixelMetrics:
    """Of images with one marked defect each, which may lie in pieces."""
    return localise(maps, (None if mask is None else GroundTruth.of(mask) for mask in masks)).metrics


def metrics_of(**values: float) -> PixelMetrics:
    return PixelMetrics(**{name: pytest.approx(value) for name, value in values.items()})


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
    regions = []
    for one, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(one[labels == label], int((labels == label).sum())) for label in range(1, count + 1)]
    return plain_area(maps, masks, regions, AUPRO_FPR_LIMIT)


def plain_area(
    maps: list[npt.NDArray[np.float64]],
    masks: list[Mask],
    regions: list[tuple[npt.NDArray[np.float64], int]],
    limit: float,
) -> float:
    """Every threshold; min(pixels found / saturation, 1) over the regions, over the share of false alarms."""
    normal = np.concatenate([one[mask == 0] for one, mask in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for threshold in sorted({float(value) for one in maps for value in one.ravel()}, reverse=True):
        found = [min(float((region >= threshold).sum()) / saturation, 1.0) for region, saturation in regions]
        points.append((float((normal >= threshold).mean()), sum(found) / len(found)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    return area / limit


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


def loco_case(seed: int) -> tuple[list[Map], list[GroundTruth]]:
    """Several marked defects an image, in pieces and overlapping, each with a saturation of its own; a good image."""
    rng = np.random.default_rng(seed)
    maps, truths = [], []
    for index in range(4):
        defects = np.zeros((index, 24, 31), bool)
        small = rng.normal(size=(24, 31)).astype(np.float32)
        for defect in defects:
            for _ in range(2):
                y, x = rng.integers(0, 16), rng.integers(0, 23)
                defect[y : y + rng.integers(2, 8), x : x + rng.integers(2, 8)] = True
            small[defect] += rng.normal(1.5, 1)
        maps.append(small)
        truths.append(GroundTruth(defects=defects, saturations=tuple(rng.integers(1, d.sum() + 1) for d in defects)))
    return maps, truths


@pytest.mark.parametrize("seed", range(6))
def test_spro_is_that_of_the_plain_form(seed: int) -> None:
    maps, truths = loco_case(seed)
    metrics = localise(maps, truths).metrics
    large = [one.astype(np.float64) for one in maps]
    merged = [truth.merged for truth in truths]
    regions = [
        (one[defect], saturation)
        for one, truth in zip(large, truths, strict=True)
        for defect, saturation in zip(truth.defects, truth.saturations, strict=True)
    ]
    for value, limit in ((metrics.spro, SPRO_FPR_LIMIT), (metrics.spro_03, AUPRO_FPR_LIMIT)):
        assert 0.1 < value < 0.99, "a case that can tell right from wrong"
        assert value == pytest.approx(plain_area(large, merged, regions, limit), abs=BINNED)


def test_a_defect_is_found_whole_at_its_saturation() -> None:
    """Two pixels of the six stand out: without a saturation a third is found, at a saturation of 2 everything."""
    anomaly_map = np.zeros((10, 10), np.float32)
    anomaly_map[2, 2:4] = 1
    defect = np.zeros((1, 10, 10), bool)
    defect[0, 2, 2:8] = True
    for saturation, found in ((2, 1.0), (4, 0.5), (6, 1 / 3)):
        metrics = localise([anomaly_map], [GroundTruth(defects=defect, saturations=(saturation,))]).metrics
        # From `found` at rate 0 straight to 1 at rate 1.
        assert metrics.spro == pytest.approx(found + (1 - found) * 0.025)
        assert metrics.spro_03 == pytest.approx(found + (1 - found) * 0.15)


def test_metrics_of_a_part_of_the_images_need_no_second_look() -> None:
    maps, truths = loco_case(0)
    located = localise([*maps, maps[0]], [*truths, None])
    parts = [(0, 1, 2, 3), (0, 2), (0, 3, 3)]
    weights = [[part.count(index) for index in range(5)] for part in parts]
    weighted = located.weighted(weights)
    for row, part in enumerate(parts):
        expected = localise([maps[index] for index in part], [truths[index] for index in part]).metrics
        for name in METRICS:
            assert weighted[name][row] == pytest.approx(getattr(expected, name), abs=1e-3), "in fewer bins"
    assert np.isnan(located.weighted([[1, 0, 0, 0, 5]])["aupro"]), "no defect is marked there"


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
    assert perfect == metrics_of(pixel_auroc=1, aupro=1, spro=1, spro_03=1)
    flat = pixel_metrics([np.full((3, 4), 7, np.float32)], [mask])
    # The line from (0, 0) to (1, 1): its mean height up to 0.3 is 0.15.
    assert flat == metrics_of(pixel_auroc=0.5, aupro=0.15, spro=0.025, spro_03=0.15)


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


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
def test_a_fault_is_not_measured(fault: float) -> None:
    spoiled = np.zeros((4, 4), np.float32)
    spoiled[1, 2] = fault
    with pytest.raises(InspectionFault, match="Map 1"):
        pixel_metrics([np.zeros((4, 4), np.float32), spoiled], [np.eye(4, dtype=np.uint8)] * 2)


def test_what_is_undefined_is_none() -> None:
    one = np.zeros((4, 4), np.float32)
    undefined = PixelMetrics(pixel_auroc=None, aupro=None, spro=None, spro_03=None)
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
