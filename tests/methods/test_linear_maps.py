"""Resize, padding and blur as matrices, against torch and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from edge_ad.methods.graph import BandedProduct
from edge_ad.methods.linear_maps import bands, blur_matrix, pad_matrix, resize_matrix


def noise(height: int, width: int) -> np.ndarray:
    """In [0, 1], with every frequency: a filter that is slightly wrong shows."""
    return np.random.default_rng(height).random((height, width))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((1200, 1920), (256, 256)),
        ((333, 517), (256, 256)),
        ((257, 255), (256, 256)),
        ((256, 256), (256, 256)),
        ((64, 56), (256, 256)),
        ((31, 1), (7, 5)),
        ((5, 3), (11, 7)),
    ],
    ids=str,
)
def test_resize_is_torchs_with_antialiasing(source: tuple[int, int], target: tuple[int, int]) -> None:
    image = noise(*source)
    expected = F.interpolate(torch.from_numpy(image)[None, None], size=target, mode="bilinear", antialias=True)[0, 0]
    resized = resize_matrix(source[0], target[0]) @ image @ resize_matrix(source[1], target[1]).T
    np.testing.assert_allclose(resized, expected, atol=1e-4)


def test_enlarging_is_plain_bilinear() -> None:
    """The maps of the methods are enlarged without antialiasing in their authors' code."""
    image = noise(28, 56)
    expected = F.interpolate(torch.from_numpy(image)[None, None], size=(256, 200), mode="bilinear")[0, 0]
    np.testing.assert_allclose(resize_matrix(28, 256) @ image @ resize_matrix(56, 200).T, expected, atol=1e-9)


def test_resizing_keeps_a_constant() -> None:
    for source, target in ((1200, 256), (56, 256), (256, 256)):
        np.testing.assert_allclose(resize_matrix(source, target).sum(1), 1.0)


@pytest.mark.parametrize(("height", "width", "sigma"), [(256, 256, 4.0), (40, 64, 4.0), (17, 23, 1.0), (9, 12, 4.0)])
def test_blur_is_scipys(height: int, width: int, sigma: float) -> None:
    """At 9 x 12 the kernel, 33 cells wide, is reflected more than once."""
    image = noise(height, width)
    blurred = blur_matrix(height, sigma) @ image @ blur_matrix(width, sigma).T
    np.testing.assert_allclose(blurred, gaussian_filter(image, sigma, mode="reflect"), atol=1e-9)


@pytest.mark.parametrize(("repeat", "mode"), [(False, "constant"), (True, "edge")])
def test_padding_is_numpys(repeat: bool, mode: str) -> None:
    image = noise(5, 7)
    padded = pad_matrix(5, 4, repeat=repeat) @ image @ pad_matrix(7, 2, repeat=repeat).T
    np.testing.assert_array_equal(padded, np.pad(image, ((4, 4), (2, 2)), mode=mode))


BANDED = {
    "shrinking": (resize_matrix(1200, 256), 16),
    "enlarging": (resize_matrix(31, 50), 16),
    "odd": (resize_matrix(517, 33), 8),
    "an empty row": (pad_matrix(5, 3, repeat=False), 2),
}


@pytest.mark.parametrize("case", BANDED)
def test_bands_are_the_matrix(case: str) -> None:
    matrix, rows = BANDED[case]
    put_together = np.zeros_like(matrix)
    pieces = bands(matrix, rows)
    for index, (first, piece) in enumerate(pieces):
        put_together[index * rows : (index + 1) * rows, first : first + piece.shape[1]] = piece
    np.testing.assert_array_equal(put_together, matrix)
    assert sum(piece.size for _, piece in pieces) < matrix.size


@pytest.mark.parametrize("case", BANDED)
def test_a_banded_product_is_the_product(case: str) -> None:
    matrix, rows = BANDED[case]
    x = torch.from_numpy(np.random.default_rng(0).random((2, matrix.shape[1], 7))).float()
    dense = torch.from_numpy(matrix).float()
    torch.testing.assert_close(BandedProduct(matrix, rows, left=True)(x), dense @ x)
    across = x.transpose(1, 2)
    torch.testing.assert_close(BandedProduct(matrix, rows, left=False)(across), across @ dense.T)
