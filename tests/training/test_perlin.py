"""Perlin noise against its definition, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edge_ad.training.perlin import perlin_noise, perlin_shapes


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_perlin(side: int, cells: tuple[int, int], angles: np.ndarray) -> np.ndarray:
    """Each pixel blends the ramps of its cell's four corners by the fade of its distance to them."""
    noise = np.zeros((side, side))
    for i in range(side):
        for j in range(side):
            y, x = i * cells[0] / side, j * cells[1] / side
            for corner_y in (math.floor(y), math.floor(y) + 1):
                for corner_x in (math.floor(x), math.floor(x) + 1):
                    angle = angles[corner_y, corner_x]
                    ramp = math.cos(angle) * (y - corner_y) + math.sin(angle) * (x - corner_x)
                    near_y, near_x = 1 - abs(y - corner_y), 1 - abs(x - corner_x)
                    weight = 1.0
                    for near in (near_y, near_x):
                        weight *= 6 * near**5 - 15 * near**4 + 10 * near**3
                    noise[i, j] += weight * ramp
    return math.sqrt(2) * noise


@pytest.mark.parametrize("cells", [(1, 1), (2, 8), (4, 2)])
def test_noise_blends_the_ramps_of_four_corners(cells: tuple[int, int]) -> None:
    angles = 2 * math.pi * torch.rand(cells[0] + 1, cells[1] + 1, generator=seeded(3)).double().numpy()
    noise = perlin_noise(16, cells, seeded(3))
    np.testing.assert_allclose(noise, slow_perlin(16, cells, angles), atol=1e-5)
    assert noise.std() > 0.1


def test_noise_is_zero_on_the_lattice_and_within_one() -> None:
    noise = perlin_noise(64, (8, 16), seeded(0))
    assert noise[::8, ::4].abs().max() == 0
    assert 0.3 < noise.abs().max() <= 1


def test_half_of_the_shapes_are_empty_and_the_seed_decides_them() -> None:
    shapes = perlin_shapes(400, 16, 0.0, seeded(1))
    assert shapes.shape == (400, 1, 16, 16) and set(shapes.unique().tolist()) == {0.0, 1.0}
    empty = (shapes.amax((1, 2, 3)) == 0).float().mean().item()
    assert empty == pytest.approx(0.5, abs=0.08)
    assert torch.equal(shapes, perlin_shapes(400, 16, 0.0, seeded(1)))
    assert not torch.equal(shapes, perlin_shapes(400, 16, 0.0, seeded(2)))


def test_a_higher_threshold_leaves_smaller_shapes_within_the_others() -> None:
    low, high = (perlin_shapes(40, 24, threshold, seeded(5)) for threshold in (0.2, 0.6))
    assert (high <= low).all()
    assert 0 < high.sum() < 0.5 * low.sum()
