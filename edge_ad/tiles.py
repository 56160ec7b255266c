"""How a frame is cut into tiles that overlap, and how their maps become one.

A network knows nothing of what lies beyond its tile's border: it pads instead, and what it says near the border is off.
So a cell of the whole map comes from a tile in which it lies well inside. From one tile to the next the map passes over
gradually, for two tiles also differ where a network looks at its whole input; a hard cut would show there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_ad.errors import FrameError
from edge_ad.frame import Image, check_image

__all__ = ["Place", "TileAxis", "windows"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tile begins along one axis.

    Attributes:
        pixel: In the frame.
        cell: In the whole map.
    """

    pixel: int
    cell: int


@dataclass(frozen=True, kw_only=True)
class TileAxis:
    """Tiles along one axis: each begins a whole number of map cells after the one before, the last ends with the frame.

    Where the frame's pixels do not come out in whole cells, a tile's map is at most half a cell from its true place.

    Attributes:
        pixels: A tile's extent in the frame.
        cells: The same extent in its map.
        overlap: Cells that a tile shares with the next, at most half of them. The first quarter of these is the tile's
            that came before, the last quarter the next one's, and between them the map passes over.
    """

    pixels: int
    cells: int
    overlap: int

    def after(self, place: Place) -> Place:
        """Where the next tile begins if the frame is long enough."""
        cell = place.cell + self.cells - self.overlap
        return Place(pixel=round(cell * self.pixels / self.cells), cell=cell)

    def last(self, length: int) -> Place:
        """Where the tile begins that ends with a frame of `length` pixels."""
        pixel = length - self.pixels
        return Place(pixel=pixel, cell=round(pixel * self.cells / self.pixels))

    def places(self, length: int) -> list[Place]:
        """Every tile of a frame of `length` pixels, at least one tile long."""
        places, following = [], Place(pixel=0, cell=0)
        while following.pixel + self.pixels <= length:
            places.append(following)
            following = self.after(following)
        if places[-1].pixel + self.pixels < length:
            places.append(self.last(length))
        return places

    def lay(self, tile: npt.NDArray[np.float32], onto: npt.NDArray[np.float32], *, is_first: bool) -> None:
        """Write a tile's map, this axis first, over the part of the whole map where it lies.

        Cells on which two tiles agree stay as they are, to the last bit.
        """
        if is_first:
            onto[...] = tile
            return
        quarter = self.overlap // 4
        full = self.overlap - quarter
        share = (np.arange(full - quarter, dtype=np.float32) + np.float32(0.5)) / np.float32(max(full - quarter, 1))
        passing = onto[quarter:full]
        passing += share[:, None] * (tile[quarter:full] - passing)
        onto[full:] = tile[full:]


def windows(source: Image | Iterable[Image], axis: TileAxis, min_width: int) -> Iterator[tuple[Place, Image]]:
    """Bands of a frame, one tile high and as wide as the frame, each with its place from top to bottom.

    Args:
        source: The frame; or its rows in blocks of any number, of which no more than two tiles' heights are kept.
        axis: The vertical one.
        min_width: Pixels that a frame has at least.

    Returns:
        Views, valid until the next is taken.

    Raises:
        FrameError: A frame smaller than one tile, of another kind than (H, W, 3) uint8, or blocks of unequal width.
    """
    if isinstance(source, np.ndarray):
        _check_size(check_image(source).shape[:2], axis.pixels, min_width)
        for place in axis.places(len(source)):
            yield place, source[place.pixel : place.pixel + axis.pixels]
    elif isinstance(source, Iterable):
        yield from _windows_of_blocks(source, axis, min_width)
    else:
        check_image(source)


def _windows_of_blocks(blocks: Iterable[Image], axis: TileAxis, min_width: int) -> Iterator[tuple[Place, Image]]:
    tall, place = axis.pixels, Place(pixel=0, cell=0)
    rows = np.empty((0, 0, 3), np.uint8)
    first = filled = 0  # the frame's row that rows[0] holds, and how many are held
    for block in blocks:
        check_image(block)
        if not rows.size:
            _check_size((tall, block.shape[1]), tall, min_width)
            rows = np.empty((2 * tall, block.shape[1], 3), np.uint8)
        elif block.shape[1] != rows.shape[1]:
            raise FrameError(
                "The blocks of rows are not equally wide.",
                expected=f"{rows.shape[1]} pixels, as the first",
                got=f"{block.shape[1]} pixels",
            )
        taken = 0
        while taken < len(block):
            fresh = block[taken : taken + place.pixel - first + tall - filled]
            rows[filled : filled + len(fresh)] = fresh
            filled, taken = filled + len(fresh), taken + len(fresh)
            if filled == place.pixel - first + tall:
                rows[:tall] = rows[filled - tall : filled]
                first, filled = place.pixel, tall
                yield place, rows[:tall]
                place = axis.after(place)
    if filled < tall:
        _check_size((filled, rows.shape[1]), tall, min_width)
    if filled > tall:
        yield axis.last(first + filled), rows[filled - tall : filled]


def _check_size(size: tuple[int, ...], height: int, width: int) -> None:
    if size[0] < height or size[1] < width:
        raise FrameError(
            "The frame is smaller than one tile.",
            expected=f"at least {height}x{width} pixels, the bundle's camera size",
            got=f"{size[0]}x{size[1]} pixels",
            fix="give a larger frame, or export again with a smaller --camera",
        )
