"""Resizing, padding and blurring as matrices.

Each is a separable linear map of an image x of (h, w) pixels: `rows @ x @ columns.T`. As constants in the graph
they mean the same to every runtime, fuse with one another by multiplication, and run on matrix units.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["bands", "blur_matrix", "pad_matrix", "resize_matrix"]

Matrix = npt.NDArray[np.float64]

BLUR_RADIUS_SIGMAS = 4.0  # scipy.ndimage.gaussian_filter's truncate, which the methods' own code uses


def resize_matrix(source: int, target: int) -> Matrix:
    """Bilinear resize with antialiasing, (target, source): torch's `interpolate(antialias=True)` along one axis.

    When shrinking, the triangle filter is as wide as the reduction; when enlarging it is plain bilinear
    interpolation with half-pixel centres (`align_corners=False`).
    """
    scale = source / target
    support = max(scale, 1.0)
    centres = (np.arange(target)[:, None] + 0.5) * scale
    positions = np.arange(source)[None, :] + 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(positions - centres) / support)
    return weights / weights.sum(axis=1, keepdims=True)


def pad_matrix(size: int, border: int, *, repeat: bool) -> Matrix:
    """Extend by `border` cells at both ends, (size + 2 border, size): with zeros, or repeating the end cells."""
    matrix = np.zeros((size + 2 * border, size))
    inside = np.arange(size)
    matrix[inside + border, inside] = 1.0
    if repeat:
        matrix[:border, 0] = 1.0
        matrix[size + border :, -1] = 1.0
    return matrix


def blur_matrix(size: int, sigma: float) -> Matrix:
    """Gaussian blur with reflected borders, (size, size): scipy.ndimage.gaussian_filter along one axis."""
    radius = int(BLUR_RADIUS_SIGMAS * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    source = (np.arange(size)[:, None] + offsets[None, :]) % (2 * size)
    source = np.where(source < size, source, 2 * size - 1 - source)  # d c b a | a b c d | d c b a
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], source), kernel[None, :])
    return matrix


def bands(matrix: Matrix, rows: int) -> list[tuple[int, Matrix]]:
    """A matrix whose non-zeros lie near a diagonal as pieces of `rows` rows, each with only the columns it touches.

    Returns:
        (first column, (rows, columns)) from top to bottom; the last piece may have fewer rows.
    """
    pieces = []
    for top in range(0, len(matrix), rows):
        piece = matrix[top : top + rows]
        touched = np.flatnonzero(piece.any(axis=0))
        first, last = (int(touched[0]), int(touched[-1])) if len(touched) else (0, 0)
        pieces.append((first, piece[:, first : last + 1]))
    return pieces
