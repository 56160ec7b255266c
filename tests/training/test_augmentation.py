"""Changes made to images on purpose: bounded, seeded, and never to the image they start from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_ad.training.defects import cut_paste
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
