"""Changes made to images on purpose: bounded, seeded, and never to the image they start from."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from edge_ad.frame import Image
from edge_ad.training import defects
from edge_ad.training.defects import colour_jitter, cut_paste, paste_patch, paste_scar
from edge_ad.training.fit_efficientad import recolour

LARGEST_SHARE = 0.16  # of the image: a patch of 15 %, rounded


@pytest.mark.parametrize("size", [(256, 256), (480, 640), (96, 40), (5, 7)])
def test_cut_paste_changes_one_bounded_place(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = image.copy()
    shares = []
    for seed in range(40):
        pasted = cut_paste(image, np.random.default_rng(seed))
        assert pasted.shape == image.shape and pasted.dtype == np.uint8
        shares.append((pasted != image).any(2).mean())
        np.testing.assert_array_equal(pasted, cut_paste(image, np.random.default_rng(seed)))
    np.testing.assert_array_equal(image, before)
    assert np.mean(shares) > 0
    assert max(shares) <= max(LARGEST_SHARE, 6 / np.prod(size)), "of a tiny image, one patch of 2 x 3"
    assert len(set(shares)) > 1, "seeds differ"


def coordinates(size: int = 256) -> Image:
    """An image whose pixels say where they are: blue is x, green is y."""
    y, x = np.mgrid[:size, :size]
    return np.stack([x, y, np.full_like(x, 200)], axis=-1).astype(np.uint8)


def pasted_pieces(
    paste: Callable[..., Image], count: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(where pixels changed, where they came from), (P, 2) each, x before y, of pastes without colour jitter."""
    monkeypatch.setattr(defects, "colour_jitter", lambda image, rng: image)
    image = coordinates()
    for seed in range(count):
        pasted = paste(image, np.random.default_rng(seed))
        y, x = np.nonzero((pasted != image).any(2))
        yield np.stack([x, y], 1).astype(float), pasted[y, x, :2].astype(float)
    np.testing.assert_array_equal(image, coordinates(), err_msg="the image itself is left alone")


def test_a_patch_is_a_rectangle_of_the_image_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Area 2 to 15 % of the image and sides 0.3 to 3.3 to each other, as often wide as high (appendix A)."""
    areas, aspects = [], []
    for target, source in pasted_pieces(paste_patch, 300, monkeypatch):
        width, height = np.ptp(target, axis=0) + 1
        assert len(np.unique(target - source, axis=0)) == 1, "one translation"
        assert len(target) == width * height, "a full rectangle"
        areas.append(width * height / 256**2)
        aspects.append(width / height)
    assert 0.0195 < min(areas) < 0.03 and 0.14 < max(areas) <= 0.15
    assert 0.29 < min(aspects) < 0.4 and 2.5 < max(aspects) < 3.4
    assert 0.4 < np.mean(np.array(aspects) > 1) < 0.6


def test_a_scar_is_a_thin_piece_of_the_image_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 to 16 by 10 to 25 pixels, turned by up to 45 degrees (appendix A): where it came from is a rotation of it."""
    angles, lengths, widths = [], [], []
    for target, source in pasted_pieces(paste_scar, 300, monkeypatch):
        turn, error = nearest_rotation(target, source)
        if len(target) >= 40:  # fewer pixels say little about an angle
            assert error < 0.8, "one rotation and one shift, but for rounding"
            angles.append(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
            across, along = np.ptp(target @ turn.T, axis=0) + 1
            widths.append(across)
            lengths.append(along)
    assert len(angles) > 240
    assert -47 < min(angles) < -35 and 35 < max(angles) < 47
    assert 1.5 <= min(widths) < 4 and 14 < max(widths) < 18
    assert 9 < min(lengths) < 12.5 and 22 < max(lengths) < 27


def nearest_rotation(target: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, float]:
    """The rotation (2, 2) that with a shift maps target points to source points best (Kabsch), and its RMS error."""
    of_target, of_source = target - target.mean(0), source - source.mean(0)
    left, _, right = np.linalg.svd(of_source.T @ of_target)
    turn = left @ np.diag([1, np.sign(np.linalg.det(left @ right))]) @ right
    return turn, float(np.sqrt(((of_target @ turn.T - of_source) ** 2).sum(1).mean()))


@pytest.mark.parametrize("paste", [paste_patch, paste_scar])
@pytest.mark.parametrize("size", [(256, 256), (64, 64), (96, 40), (5, 7)])
def test_pastes_are_seeded_and_fit_any_image(paste: Callable[..., Image], size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before, results = image.copy(), []
    for seed in range(20):
        pasted = paste(image, np.random.default_rng(seed))
        assert pasted.shape == image.shape and pasted.dtype == np.uint8
        np.testing.assert_array_equal(pasted, paste(image, np.random.default_rng(seed)))
        results.append(pasted)
    np.testing.assert_array_equal(image, before)
    assert any((first != second).any() for first, second in pairwise(results)), "seeds differ"


def test_a_scar_has_no_outline() -> None:
    """Of an image of one colour, a scar shows a colour the jitter can make; never a blend with black."""
    image = np.full((256, 256, 3), 150, np.uint8)
    for seed in range(50):
        pasted = paste_scar(image, np.random.default_rng(seed))
        assert pasted.min() >= 150 * 0.9 - 1 and pasted.max() <= 150 * 1.1 + 1


def slow_colour_jitter(image: Image, rng: np.random.Generator) -> np.ndarray:
    """torchvision's ColorJitter pixel by pixel with the standard library; changes drawn as ours are."""
    x = image[..., ::-1] / 255
    for change in rng.permutation(4):
        amount = rng.uniform(-0.1, 0.1)
        grey = x @ [0.299, 0.587, 0.114]
        for index in np.ndindex(x.shape[:2]):
            if change == 3:
                hue, saturation, value = colorsys.rgb_to_hsv(*x[index])
                x[index] = colorsys.hsv_to_rgb((hue + amount) % 1, saturation, value)
            else:
                anchor = [0, grey.mean(), grey[index]][change]
                x[index] = np.clip(anchor + (x[index] - anchor) * (1 + amount), 0, 1)
    return 255 * x[..., ::-1]


def test_colour_jitter_is_torchvisions() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    for seed in range(12):
        jittered = colour_jitter(image, np.random.default_rng(seed))
        assert jittered.dtype == np.uint8
        np.testing.assert_allclose(jittered, slow_colour_jitter(image, np.random.default_rng(seed)), atol=0.6)
    assert len({colour_jitter(image, np.random.default_rng(seed)).tobytes() for seed in range(12)}) == 12


def test_no_jitter_changes_nothing() -> None:
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8), (5, 5), 1)
    np.testing.assert_array_equal(colour_jitter(image, np.random.default_rng(0), strength=0.0), image)


def test_recolour_is_brightness_contrast_or_saturation() -> None:
    """Of one grey pixel and one coloured: brightness keeps black, contrast the mean grey, saturation the luma."""
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    rgb = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3  # nothing reaches 0 or 1
    grey = (rgb * luma).sum(0, keepdim=True)
    anchors = {"brightness": torch.zeros(1), "contrast": grey.mean(), "saturation": grey}
    seen = set()
    for seed in range(60):
        changed = recolour(rgb, np.random.default_rng(seed))
        for name, anchor in anchors.items():
            factors = ((changed - anchor) / (rgb - anchor))[(rgb - anchor).abs() > 0.05]
            if torch.allclose(factors, factors[0].expand_as(factors), atol=1e-4):
                assert 0.8 - 1e-4 <= factors[0] <= 1.2 + 1e-4
                seen.add(name)
                break
        else:
            raise AssertionError("none of the three")
    assert seen == set(anchors)


def test_recolour_stays_in_range() -> None:
    rgb = torch.tensor([0.0, 1.0, 0.5]).view(3, 1, 1).expand(3, 4, 4)
    for seed in range(20):
        changed = recolour(rgb, np.random.default_rng(seed))
        assert changed.min() >= 0 and changed.max() <= 1
