"""Defects of the procedural parts. Each changes the surface only inside its mask.

A fault of the surface cannot lie on a hole, a screw or the background: what it adds is limited to bare metal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.demo.flange import Pose
from edge_ad.demo.surface import Field, Surface

__all__ = ["DEFECTS", "SURFACE_DEFECTS", "Mask", "dent", "scratch", "stain"]

Mask: TypeAlias = npt.NDArray[np.uint8]
"""(height, width) uint8: 255 where the part is defective, 0 elsewhere."""

Draw: TypeAlias = Callable[[Surface, np.random.Generator, Pose], Field]

# Faces wide enough to carry a defect: hub, and the flange between hub and O-ring groove. (inner, outer) mm.
FACES = ((13.5, 20.5), (26.0, 43.0))


def scratch(surface: Surface, rng: np.random.Generator, pose: Pose) -> Field:
    """A handling scratch: a bent furrow 0.9 to 1.4 mm wide and 14 to 34 mm long that fades in and out."""
    while True:
        along, across = _stroke(rng, pose, surface.metal.shape)
        half = rng.uniform(0.45, 0.7) * np.sqrt(np.clip(1 - along * along, 0, 1)) * _judder(rng, along)
        cover: Field = np.clip((half - np.abs(across)) * np.float32(1 / pose.pixel) + np.float32(0.5), 0, 1) * (
            half > 0
        )
        if (cover * surface.metal).sum() > 0.8 * cover.sum():
            break
    cover *= surface.metal
    tilt = across / np.maximum(half, np.float32(0.1))
    across_y, across_x = np.gradient(across, pose.pixel)
    window = (slice(None), slice(None))
    surface.blend(window, cover, slope_x=tilt * across_x, slope_y=tilt * across_y, gloss=0.25, albedo=0.8)
    return cover


def _stroke(rng: np.random.Generator, pose: Pose, shape: tuple[int, ...]) -> tuple[Field, Field]:
    """Coordinates of a bent stroke: along it (-1 to 1 from end to end) and the distance across it in mm."""
    half, bend = rng.uniform(7, 17), rng.uniform(-0.02, 0.02)
    x, y = _frame(pose, pose.point(rng.uniform(14, 46), rng.uniform(0, 2 * np.pi)), rng.uniform(0, 2 * np.pi), shape)
    return x * np.float32(1 / half), y - np.float32(bend / 2) * x * x


def _judder(rng: np.random.Generator, along: Field) -> Field:
    """Uneven pressure along a stroke, 0.7 to 1."""
    pressure = rng.uniform(0.7, 1, (1, 12)).astype(np.float32)
    place = (along + 1) * np.float32(5.5)
    return np.asarray(cv2.remap(pressure, place, np.zeros_like(place), cv2.INTER_LINEAR), np.float32)


def _frame(pose: Pose, centre: tuple[float, float], turn: float, shape: tuple[int, ...]) -> tuple[Field, Field]:
    """Coordinates (x, y) in mm around a pixel, turned by `turn` radians."""
    across = (np.arange(shape[1], dtype=np.float32) - np.float32(centre[0])) * np.float32(pose.pixel)
    down = ((np.arange(shape[0], dtype=np.float32) - np.float32(centre[1])) * np.float32(pose.pixel))[:, None]
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return across * cos + down * sin, down * cos - across * sin


def dent(surface: Surface, rng: np.random.Generator, pose: Pose) -> Field:
    """A blow: an oval hollow 7 to 12 mm across with a raised lip."""
    x, y, turn = _oval(surface, rng, pose, rng.uniform(3.5, 6.0))
    squared = x * x + y * y
    inside = np.clip((np.float32(1) - squared) * np.float32(8), 0, 1) * surface.metal
    steep = rng.uniform(1.1, 1.4)
    # dz/dr of a hollow that turns into a lip at 85 % of its radius and is flat again at its edge.
    slope = np.float32(steep) * (np.float32(0.72) - squared) * (np.float32(1) - squared) * inside
    slope_x, slope_y = slope * x, slope * y
    surface.slope_x += slope_x * np.float32(np.cos(turn)) - slope_y * np.float32(np.sin(turn))
    surface.slope_y += slope_x * np.float32(np.sin(turn)) + slope_y * np.float32(np.cos(turn))
    surface.openness *= np.float32(1) - np.float32(0.35) * inside * np.clip(np.float32(0.72) - squared, 0, 1)
    return np.asarray(inside > 0, np.float32)


def stain(surface: Surface, rng: np.random.Generator, pose: Pose) -> Field:
    """Dried coolant: a brownish film 8 to 18 mm across with a ragged outline, thin patches and a darker rim."""
    x, y, _ = _oval(surface, rng, pose, rng.uniform(4.5, 8.5))
    size = surface.metal.shape[1], surface.metal.shape[0]
    coarse, fine = (
        cv2.resize(rng.random((rows, rows * 4 // 3), dtype=np.float32), size, interpolation=cv2.INTER_CUBIC)
        for rows in (28, 90)
    )
    distance = cv2.magnitude(x, y) + np.float32(0.5) * (coarse - np.float32(0.5)) + np.float32(0.1) * fine
    film: Field = np.clip((np.float32(1) - distance) * np.float32(4), 0, 1) * surface.metal
    rim = np.exp(-(((distance - np.float32(0.86)) * np.float32(11)) ** 2))
    depth = np.float32(rng.uniform(0.34, 0.5))
    surface.stain = film * depth * (np.float32(0.55) + np.float32(0.9) * fine * coarse + np.float32(0.75) * rim)
    return film


def _oval(surface: Surface, rng: np.random.Generator, pose: Pose, radius: float) -> tuple[Field, Field, float]:
    """Coordinates (x, y) around a place on bare metal, 1.0 at the edge of an oval of `radius` mm, and its turn."""
    while True:
        inner, outer = FACES[rng.choice(2, p=(0.25, 0.75))]
        centre = pose.point(rng.uniform(inner, outer), rng.uniform(0, 2 * np.pi))
        reach = int(radius / pose.pixel)
        column, row = round(centre[0]), round(centre[1])
        around = surface.metal[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach]
        if around.size and around.mean() > 0.9:
            break
    squeeze, turn = rng.uniform(0.75, 1.0), rng.uniform(0, np.pi)
    x, y = _frame(pose, centre, turn, surface.metal.shape)
    return x * np.float32(1 / radius), y * np.float32(1 / (radius * squeeze)), turn


SURFACE_DEFECTS: dict[str, Draw] = {"scratch": scratch, "dent": dent, "stain": stain}
DEFECTS = (*SURFACE_DEFECTS, "missing_feature")
