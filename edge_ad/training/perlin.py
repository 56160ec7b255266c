"""Perlin noise: smooth random shapes for synthetic anomalies.

Sources: Perlin, "An Image Synthesizer", SIGGRAPH 1985, with the smoother fade of "Improving Noise", SIGGRAPH 2002;
as anomalies: Zavrtanik et al., DRAEM, ICCV 2021; on features: SuperSimpleNet, ICPR 2024, sec. 3.3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["perlin_noise", "perlin_shapes"]

EMPTY_SHARE = 0.5  # of all shapes: no anomaly at all (the authors' code)
LARGEST_EXPONENT = 5  # lattices of 1, 2, 4, ... 32 cells a side (the authors' code)


def perlin_noise(side: int, cells: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Gradient noise (side, side), zero on the lattice and within [-1, 1].

    Args:
        side: Pixels, a multiple of both numbers of cells.
        cells: Of the lattice, along y and along x.
        generator: Draws the directions of the unit gradients at the lattice's corners.
    """
    angles = 2 * math.pi * torch.rand(cells[0] + 1, cells[1] + 1, generator=generator)
    gradient_y, gradient_x = angles.cos(), angles.sin()
    y, x = (torch.arange(side) * count / side for count in cells)
    row, column = y.long(), x.long()
    y, x = (y - row)[:, None], (x - column)[None, :]

    def ramp(down: int, right: int) -> Tensor:
        """The plane through zero at one corner of the pixel's cell, with that corner's gradient."""
        corner = (row + down)[:, None], (column + right)[None, :]
        return gradient_y[corner] * (y - down) + gradient_x[corner] * (x - right)

    left = torch.lerp(ramp(0, 0), ramp(1, 0), _fade(y))
    right = torch.lerp(ramp(0, 1), ramp(1, 1), _fade(y))
    return math.sqrt(2) * torch.lerp(left, right, _fade(x))


def perlin_shapes(count: int, side: int, threshold: float, generator: torch.Generator) -> Tensor:
    """Random shapes (count, 1, side, side): 1 where Perlin noise exceeds the threshold, else 0; half are empty."""
    lattice_side = 1 << (side - 1).bit_length()  # the next power of two: every lattice divides it
    largest = min(LARGEST_EXPONENT, lattice_side.bit_length() - 1)
    shapes = torch.zeros(count, 1, side, side)
    for shape in shapes:
        if torch.rand((), generator=generator) < EMPTY_SHARE:
            continue
        rows, columns = (2 ** torch.randint(largest + 1, (2,), generator=generator)).tolist()
        noise = perlin_noise(lattice_side, (rows, columns), generator)
        fitted = F.interpolate(noise[None, None], size=(side, side), mode="bilinear")
        shape.copy_(fitted[0] > threshold)
    return shapes


def _fade(t: Tensor) -> Tensor:
    """6 t^5 - 15 t^4 + 10 t^3: from 0 to 1 with no slope and no curvature at the ends."""
    return t**3 * (t * (6 * t - 15) + 10)
