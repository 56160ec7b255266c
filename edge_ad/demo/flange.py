"""The part: a turned flange with a bored hub, an O-ring groove, three drilled holes and three socket head screws.

Lengths in millimetres. A telecentric camera looks straight down, so walls of holes are not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge_ad.demo.surface import Field, Surface, Window

__all__ = ["BOLT_CIRCLE", "OUTER", "Pose", "Seat", "cut_flange", "cut_seat", "polar", "seats"]

OUTER = 50.0
BORE = 11.0
BOLT_CIRCLE = 35.0
SPOTFACE, HOLE, TAPPED, HEAD, SOCKET = 7.5, 4.2, 2.6, 5.4, 2.5

# (outer radius, slope dz/dr up to there, albedo, gloss): the turned profile from the axis outwards.
PROFILE = (
    (BORE, 0.0, 0.015, 0.0),
    (12.3, 1.0, 0.16, 0.75),
    (21.8, 0.0, 0.17, 0.78),
    (23.2, -1.0, 0.16, 0.75),
    (24.3, -0.35, 0.12, 0.45),
    (43.9, 0.0, 0.17, 0.66),
    (44.4, -0.9, 0.10, 0.45),
    (45.3, 0.0, 0.06, 0.22),
    (45.8, 0.9, 0.13, 0.60),
    (48.7, 0.0, 0.17, 0.66),
    (OUTER + 9, -1.0, 0.16, 0.75),
)
LUT_STEP = 0.02
RINGS = 0.055


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the part lies under the camera.

    Attributes:
        centre: (x, y) of the axis in pixels.
        turn: Rotation in radians.
        pixel: Millimetres per pixel.
    """

    centre: tuple[float, float]
    turn: float
    pixel: float

    def point(self, radius: float, angle: float) -> tuple[float, float]:
        """Pixel (x, y) of a polar place on the part."""
        angle += self.turn
        reach = radius / self.pixel
        return self.centre[0] + reach * float(np.cos(angle)), self.centre[1] + reach * float(np.sin(angle))


@dataclass(frozen=True, kw_only=True)
class Seat:
    """One of the six spot faces on the bolt circle.

    Attributes:
        angle: On the part, radians.
        state: "drilled", "screw", "undrilled" (only centred) or "unscrewed" (only tapped).
    """

    angle: float
    state: str


def seats(fault: int | None = None) -> list[Seat]:
    """The six seats, drilled and screwed by turns; the seat numbered `fault` lacks its hole or its screw."""
    states = ["drilled", "screw"] * 3
    if fault is not None:
        states[fault] = {"drilled": "undrilled", "screw": "unscrewed"}[states[fault]]
    return [Seat(angle=np.pi / 6 + index * np.pi / 3, state=state) for index, state in enumerate(states)]


def polar(pose: Pose, size: tuple[int, int]) -> tuple[Field, Field, Field]:
    """Distance from the axis in mm, and its unit direction (x, y), per pixel."""
    x = (np.arange(size[1], dtype=np.float32) - np.float32(pose.centre[0])) * np.float32(pose.pixel)
    y = (np.arange(size[0], dtype=np.float32) - np.float32(pose.centre[1])) * np.float32(pose.pixel)
    across, down = np.broadcast_to(x, size), np.broadcast_to(y[:, None], size)
    radius = cv2.magnitude(across, down) + np.float32(1e-3)
    return radius, across / radius, down / radius


def cut_flange(rng: np.random.Generator, pose: Pose, size: tuple[int, int]) -> tuple[Surface, Field]:
    """Turn the flange on the lathe: the surface without its seats, and the distance from the axis in mm."""
    radius, ray_x, ray_y = polar(pose, size)
    place = np.minimum(radius * np.float32(1 / LUT_STEP), _last()).astype(np.int32)
    slope = _lathe_marks(rng)[place]
    slope += _chatter(rng, radius, ray_x, ray_y)
    surface = Surface(
        slope_x=slope * ray_x,
        slope_y=slope * ray_y,
        groove_x=-ray_y,
        groove_y=ray_x,
        albedo=_column(2)[place],
        gloss=_column(3)[place],
        openness=_openness()[place],
        metal=((radius > BORE + 0.2) & (radius < OUTER - 0.2)).astype(np.float32),
    )
    return surface, radius


def _last() -> int:
    return int(PROFILE[-1][0] / LUT_STEP) - 1


def _column(index: int) -> Field:
    """A property of the profile against the radius, edges rounded over 0.12 mm."""
    radii = np.arange(_last() + 1) * LUT_STEP
    row = np.searchsorted([entry[0] for entry in PROFILE], radii, side="right")
    steps = np.array([entry[index] for entry in PROFILE], np.float32)[np.minimum(row, len(PROFILE) - 1)]
    return _smooth(steps, 0.12)


def _smooth(values: Field, reach_mm: float) -> Field:
    smoothed = cv2.GaussianBlur(values[None], (0, 0), reach_mm / LUT_STEP, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smoothed[0], np.float32)


def _openness() -> Field:
    """Corners see less sky: inside the bore, at the foot of the hub, in the groove."""
    radii = np.arange(_last() + 1, dtype=np.float32) * np.float32(LUT_STEP)
    hub = 1 - 0.45 * np.exp(-np.maximum(radii - 23.6, 0) / 1.6) * (radii > 23.0)
    groove = 1 - 0.35 * ((radii > 44.1) & (radii < 45.5))
    bore = np.where(radii < BORE, 0.35 + 0.4 * (radii / BORE) ** 4, 1)
    return _smooth((hub * groove * bore).astype(np.float32), 0.2)


def _lathe_marks(rng: np.random.Generator) -> Field:
    """Slope against the radius: the profile and this part's own tool marks, coarse feed and fine."""
    fine = _smooth(rng.standard_normal(_last() + 1).astype(np.float32), 0.10)
    coarse = _smooth(rng.standard_normal(_last() + 1).astype(np.float32), 0.45)
    feed = np.sin(np.arange(_last() + 1, dtype=np.float32) * np.float32(2 * np.pi * LUT_STEP / 0.9) + rng.uniform(0, 6))
    marks = 0.75 * fine / fine.std() + 0.6 * coarse / coarse.std() + 0.5 * feed
    slope: Field = _column(1) + np.float32(RINGS) * marks.astype(np.float32)
    return slope


def _chatter(rng: np.random.Generator, radius: Field, ray_x: Field, ray_y: Field) -> Field:
    """Slope of tool marks that begin and end along the turn: noise stretched along arcs."""
    rows, columns = 512, 48
    noise = rng.standard_normal((rows, columns), dtype=np.float32)
    noise = np.concatenate([noise, noise[:, :1]], axis=1)
    turn = cv2.phase(ray_x, ray_y) * np.float32(columns / (2 * np.pi))
    marks = cv2.remap(noise, turn, radius * np.float32(rows / 60), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(marks * np.float32(0.045), np.float32)


@dataclass(frozen=True, eq=False)
class _Bit:
    """The neighbourhood of a seat: a window of the image and polar coordinates around the seat's axis."""

    window: Window
    x: Field
    y: Field
    rho: Field
    pixel: float

    def disc(self, radius: float) -> Field:
        """Cover of a disc: 1 inside, 0 outside, the edge one pixel wide."""
        cover: Field = np.clip((np.float32(radius) - self.rho) * np.float32(1 / self.pixel) + np.float32(0.5), 0, 1)
        return cover

    def cone(self, slope: float) -> dict[str, Field]:
        """Slopes of a cone around the axis; positive rises outwards."""
        scale = np.float32(slope) / self.rho
        return {"slope_x": self.x * scale, "slope_y": self.y * scale}


def cut_seat(surface: Surface, rng: np.random.Generator, pose: Pose, seat: Seat) -> tuple[Window, Field]:
    """Mill a seat's spot face and put in its hole or screw. Returns the window and the cover of what sits in it."""
    bit = _bit_at(pose, pose.point(BOLT_CIRCLE, seat.angle), surface.albedo.shape)
    turned, phase = rng.uniform(0, np.pi / 3), rng.uniform(0, 6)
    _spotface(surface, bit, phase)
    if seat.state == "screw":
        return bit.window, _screw(surface, bit, turned)
    _bore(surface, bit, {"drilled": HOLE, "undrilled": 0.9, "unscrewed": TAPPED}[seat.state])
    return bit.window, bit.disc(SPOTFACE - 0.35 if seat.state == "unscrewed" else HOLE + 0.7)


def _bit_at(pose: Pose, centre: tuple[float, float], shape: tuple[int, ...]) -> _Bit:
    reach = (SPOTFACE + 1.5) / pose.pixel
    rows = slice(max(0, int(centre[1] - reach)), min(shape[0], int(centre[1] + reach) + 2))
    columns = slice(max(0, int(centre[0] - reach)), min(shape[1], int(centre[0] + reach) + 2))
    y, x = np.mgrid[rows, columns].astype(np.float32)
    x, y = (x - np.float32(centre[0])) * np.float32(pose.pixel), (y - np.float32(centre[1])) * np.float32(pose.pixel)
    return _Bit((rows, columns), x, y, np.hypot(x, y) + np.float32(1e-3), pose.pixel)


def _spotface(surface: Surface, bit: _Bit, phase: float) -> None:
    swirl = np.float32(0.07) * np.sin(bit.rho * np.float32(2 * np.pi / 0.8) + np.float32(phase)) / bit.rho
    grooves = {"groove_x": -bit.y / bit.rho, "groove_y": bit.x / bit.rho}
    surface.blend(bit.window, bit.disc(SPOTFACE), **bit.cone(0.9), **grooves, albedo=0.09, gloss=0.2)
    floor = bit.disc(SPOTFACE - 0.35)
    surface.blend(bit.window, floor, slope_x=bit.x * swirl, slope_y=bit.y * swirl, albedo=0.2, gloss=0.82)
    shade = np.float32(1) - np.float32(0.3) * np.exp((bit.rho - np.float32(SPOTFACE)) * np.float32(1.6))
    surface.blend(bit.window, floor, openness=shade)


def _bore(surface: Surface, bit: _Bit, radius: float) -> None:
    """A hole with a 0.6 mm chamfer."""
    surface.blend(bit.window, bit.disc(radius + 0.6), **bit.cone(0.95), albedo=0.14, gloss=0.7)
    depth = np.float32(0.12) + np.float32(0.3) * (bit.rho / np.float32(radius)) ** 3
    surface.blend(bit.window, bit.disc(radius), albedo=0.05, gloss=0.0, openness=depth, metal=0.0)


def _screw(surface: Surface, bit: _Bit, turned: float) -> Field:
    """A black-oxide socket head screw, and the shadow at its foot. Returns the cover of both."""
    foot = np.float32(1) - np.float32(0.8) * np.exp(-np.maximum(bit.rho - np.float32(HEAD), 0) * np.float32(2.6))
    surface.blend(bit.window, bit.disc(SPOTFACE - 0.35), openness=foot)
    head = bit.disc(HEAD)
    surface.blend(bit.window, head, **bit.cone(-0.8), albedo=0.07, gloss=0.5, openness=1.0, metal=0.0)
    surface.blend(bit.window, bit.disc(HEAD - 0.55), slope_x=0.0, slope_y=0.0, albedo=0.06, gloss=0.13)
    angles = np.float32(turned) + np.arange(3, dtype=np.float32) * np.float32(np.pi / 3)
    flats = np.max([np.abs(bit.x * np.cos(a) + bit.y * np.sin(a)) for a in angles], axis=0)
    edge = np.clip((np.float32(SOCKET) - flats) * np.float32(1 / bit.pixel) + np.float32(0.5), 0, 1)
    rim = np.clip((np.float32(SOCKET + 0.35) - flats) * np.float32(1 / bit.pixel) + np.float32(0.5), 0, 1)
    surface.blend(bit.window, rim, **bit.cone(0.8), gloss=0.4)
    surface.blend(bit.window, edge, albedo=0.02, gloss=0.05, openness=0.45)
    return bit.disc(SPOTFACE - 0.35)
