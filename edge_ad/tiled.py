"""Frames larger than a bundle's camera size, and line-scan images of any height: inspected tile by tile."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_ad.errors import EdgeAdError
from edge_ad.frame import Frame, Image
from edge_ad.inspection import Inspection, Region, find_regions
from edge_ad.inspector import Inspector
from edge_ad.tiles import Place, TileAxis, windows

__all__ = ["TiledInspection", "TiledInspector"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TiledInspection(Inspection):
    """Verdict and map of a frame that was inspected tile by tile; the score is the worst tile's.

    Attributes:
        anomaly_map: (h, w) float32, one map of the whole frame at the resolution that a tile's map has.
        worst_tile: Box and score of the tile with the highest score, in the frame's pixels.
        tiles: How many tiles were inspected.
    """

    worst_tile: Region
    tiles: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict without the map."""
        return {**super().to_json(), "worst_tile": vars(self.worst_tile), "tiles": self.tiles}


class TiledInspector:
    """Inspects larger frames with an Inspector whose camera size is the tile's. For one thread at a time.

    The threshold is that of one tile, so a frame of N tiles has up to N times the false rejects of one: calibrate with
    good images cut to the tile's size, and many of them.

    Memory, beside the Inspector's: one tile, two tiles' heights of rows where these come in blocks, and the map. The
    frame itself is never copied; it may be a memory-mapped array.

    Args:
        inspector: Opened and closed by the caller.
        overlap: Share of a tile's height and width that it has in common with the next, 0 to 0.5. A defect up to that
            size is whole in one tile. Work grows with 1 / (1 - overlap)^2.

    Raises:
        EdgeAdError: Another overlap.

    Example:
        >>> with Inspector("foil.bundle") as inspector:          # doctest: +SKIP
        ...     inspection = TiledInspector(inspector).inspect(np.load("scan.npy", mmap_mode="r"))
        ...     print(inspection.is_anomalous, inspection.worst_tile)
    """

    def __init__(self, inspector: Inspector, *, overlap: float = 0.25) -> None:
        if not 0 <= overlap <= 0.5:
            raise EdgeAdError("Tiles cannot overlap so.", expected="a share from 0 to 0.5", got=overlap)
        self._inspector = inspector
        of_map, (height, width) = inspector.bundle.manifest.map, inspector.size
        self._down = TileAxis(pixels=height, cells=of_map.height, overlap=round(overlap * of_map.height))
        self._across = TileAxis(pixels=width, cells=of_map.width, overlap=round(overlap * of_map.width))
        self._tile = np.empty((1, height, width, 3), np.uint8)

    def inspect(self, frame: Frame | Image | Iterable[Image]) -> TiledInspection:
        """Inspect one frame, at least one tile large.

        Args:
            frame: (H, W, 3) uint8 BGR, in memory or memory-mapped; or blocks of its rows from top to bottom, each
                (n, W, 3) with any n, so that the frame need not be in memory at all.

        Raises:
            FrameError: Wrong type, dtype or size.
            InspectionFault: A tile has no verdict, so neither has the frame.
        """
        start = time.perf_counter_ns()
        anomaly_map = np.empty((0, 0), np.float32)
        worst: TiledInspection | None = None
        tiles, size = 0, (0, 0)
        for place, rows, strip in self._strips(frame):
            # Grown in place: a list of strips to join at the end would hold the map twice.
            anomaly_map.resize((place.cell + self._down.cells, strip.anomaly_map.shape[1]), refcheck=False)
            self._down.lay(strip.anomaly_map, anomaly_map[place.cell :], is_first=worst is None)
            worst = strip if worst is None or strip.score > worst.score else worst
            tiles += strip.tiles
            size = (place.pixel + len(rows), rows.shape[1])
        assert worst is not None  # else there was a FrameError
        return replace(
            worst,
            anomaly_map=anomaly_map,
            regions=find_regions(anomaly_map, self._inspector.threshold, size),
            latency_ms=(time.perf_counter_ns() - start) / 1e6,
            tiles=tiles,
        )

    def strips(self, frame: Frame | Image | Iterable[Image]) -> Iterator[TiledInspection]:
        """Inspect row by row of tiles; each has its verdict as soon as its last row of pixels is there.

        For webs without an end: memory does not grow. A strip's map and regions are of its own tile's height, so what
        lies where two strips overlap is told by both; places are those in the whole frame. Arguments and errors are
        those of `inspect`.
        """
        return (strip for _, _, strip in self._strips(frame))

    def _strips(self, frame: Frame | Image | Iterable[Image]) -> Iterator[tuple[Place, Image, TiledInspection]]:
        source = frame.image if isinstance(frame, Frame) else frame
        for place, rows in windows(source, self._down, self._across.pixels):
            yield place, rows, self._strip(place.pixel, rows)

    def _strip(self, top: int, rows: Image) -> TiledInspection:
        start = time.perf_counter_ns()
        height, width = self._inspector.size
        places = self._across.places(rows.shape[1])
        anomaly_map = np.empty((self._down.cells, places[-1].cell + self._across.cells), np.float32)
        worst: Region | None = None
        for place in places:
            self._tile[0] = rows[:, place.pixel : place.pixel + width]
            maps, scores = self._inspector.answer(self._tile)
            onto = anomaly_map[:, place.cell : place.cell + self._across.cells]
            self._across.lay(maps[0].T, onto.T, is_first=worst is None)
            if worst is None or scores[0] > worst.score:
                worst = Region(x=place.pixel, y=top, width=width, height=height, score=float(scores[0]))
        assert worst is not None  # a frame has at least one tile
        regions = find_regions(anomaly_map, self._inspector.threshold, (height, rows.shape[1]))
        return TiledInspection(
            score=worst.score,
            threshold=self._inspector.threshold,
            anomaly_map=anomaly_map,
            regions=tuple(replace(region, y=region.y + top) for region in regions),
            latency_ms=(time.perf_counter_ns() - start) / 1e6,
            precision=self._inspector.precision,
            backend=self._inspector.backend,
            worst_tile=worst,
            tiles=len(places),
        )
