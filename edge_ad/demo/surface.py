"""What the procedural camera sees of a surface, pixel by pixel, and how the station's lamps light it.

Lengths are millimetres on the part, slopes are dz/dx (1.0 is 45 degrees), radiance is linear with 1.0 as white.
The reflection is Ward's anisotropic lobe in slope space (Ward, "Measuring and Modeling Anisotropic Reflection", 1992):
machining grooves scatter light across themselves and hardly along themselves, which gives turned faces their bow ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Field", "Lamps", "Surface", "Window", "radiance"]

Field: TypeAlias = npt.NDArray[np.float32]
"""(height, width) float32."""

Window: TypeAlias = tuple[slice, slice]

# Spread of micro-slopes along and across the grooves of a turned face of about Ra 1.6 um; chosen by eye.
ALONG, ACROSS = 0.085, 0.34
# The ring light stands at the slope of a 45-degree chamfer and reaches this far around it.
RING_SLOPE, RING_SPREAD = 0.95, 0.42
DOME = 0.26


@dataclass(kw_only=True, eq=False)
class Surface:
    """The surface under each pixel; drawn into in place.

    Attributes:
        slope_x, slope_y: Mean slope along the camera's axes.
        groove_x, groove_y: Unit direction of the machining marks.
        albedo: Diffuse reflectance, 0 to 1.
        gloss: Strength of the mirror-like reflection, 0 to 1.
        openness: Share of the sky that is seen from here, 0 (bottom of a hole) to 1.
        metal: 1 where the bare metal of the part is, 0 at holes, screws and background.
        stain: Optical density of what lies on the metal; None when clean.
    """

    slope_x: Field
    slope_y: Field
    groove_x: Field
    groove_y: Field
    albedo: Field
    gloss: Field
    openness: Field
    metal: Field
    stain: Field | None = None

    def blend(self, window: Window, cover: Field, **fields: Field | float) -> None:
        """Draw `fields` (named as the attributes) over a window, weighted by `cover` in 0 to 1."""
        for name, value in fields.items():
            part = getattr(self, name)[window]
            part += cover * (value - part)


@dataclass(frozen=True, kw_only=True)
class Lamps:
    """The station's lamps: two bars above the part and a ring around it. They stay still while parts move.

    Attributes:
        azimuths: Of the two bars, radians in the image plane.
        slopes: Surface slope at which each bar is mirrored into the camera.
        powers: Of the two bars.
        ring: Power of the ring light.
        gain: Of the whole exposure.
        tint: (blue, green, red) factors of the white balance.
    """

    azimuths: tuple[float, float]
    slopes: tuple[float, float]
    powers: tuple[float, float]
    ring: float
    gain: float
    tint: tuple[float, float, float]

    @staticmethod
    def drawn(rng: np.random.Generator) -> Lamps:
        """Lamps as they are at one exposure: drift of a few percent and of a degree or two."""
        wobble = rng.uniform(-1, 1, 8)
        return Lamps(
            azimuths=(-0.95 + 0.03 * wobble[0], 0.62 + 0.03 * wobble[1]),
            slopes=(0.30 + 0.008 * wobble[2], 0.34 + 0.008 * wobble[3]),
            powers=(1.12 + 0.04 * wobble[4], 0.52 + 0.03 * wobble[5]),
            ring=0.36 + 0.015 * wobble[6],
            gain=1.0 + 0.03 * wobble[7],
            tint=(1.03 + 0.008 * wobble[5], 1.0, 0.975 - 0.008 * wobble[5]),
        )


def radiance(surface: Surface, lamps: Lamps) -> Field:
    """Light from each pixel towards the camera, before exposure: dome, ring and both bars."""
    slope = cv2.magnitude(surface.slope_x, surface.slope_y)
    off_ring = (slope - RING_SLOPE) * (1 / RING_SPREAD)
    mirrored = lamps.ring * _bell(off_ring * off_ring)
    mirrored += DOME * _bell(slope * slope * 4)
    for azimuth, tilt, power in zip(lamps.azimuths, lamps.slopes, lamps.powers, strict=True):
        mirrored += np.float32(power) * _bar(surface, tilt * np.cos(azimuth), tilt * np.sin(azimuth))
    mirrored *= surface.gloss
    key_x, key_y = np.float32(np.cos(lamps.azimuths[0])), np.float32(np.sin(lamps.azimuths[0]))
    facing = np.float32(0.55) + np.float32(0.4) * (key_x * surface.slope_x + key_y * surface.slope_y)
    mirrored += surface.albedo * facing
    mirrored *= surface.openness
    return mirrored


def _bar(surface: Surface, slope_x: float, slope_y: float) -> Field:
    """A bar lamp's mirrored share where the surface has micro-slopes (slope_x, slope_y)."""
    away_x, away_y = np.float32(slope_x) - surface.slope_x, np.float32(slope_y) - surface.slope_y
    along = away_x * surface.groove_x + away_y * surface.groove_y
    across = away_x * surface.groove_y - away_y * surface.groove_x
    along, across = along * np.float32(1 / ALONG), across * np.float32(1 / ACROSS)
    return _bell(along * along + across * across)


def _bell(squared: Field) -> Field:
    return np.asarray(cv2.exp(squared * np.float32(-0.5)), np.float32)
