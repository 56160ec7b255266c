"""The figures methods are compared by, how they are written, and which of them are best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from edge_ad.compare.findings import Row
from edge_ad.report.axis import figure
from edge_ad.report.blocks import file_size

__all__ = ["FIGURES", "PRECISIONS", "Figure", "Standing", "milliseconds", "share", "standings"]

Standing: TypeAlias = Literal["best", "tied"] | None
"""Best of its column; not distinguishable from the best; or neither."""

PRECISIONS = {"fp32": "float32", "fp16": "FP16", "int8": "INT8", "fp8": "FP8"}
"""As people write them."""


def share(value: float) -> str:
    """A figure from 0 to 1."""
    return f"{value:.3f}"


def milliseconds(value: float) -> str:
    """Three digits."""
    return f"{figure(value)} ms"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A column of the comparison.

    Attributes:
        key: The field of Row.
        best: `max` or `min`: which of the values is best.
        bounds: How the ends of an interval are written.
    """

    key: str
    title: str
    best: Callable[[Sequence[float]], float] = max
    text: Callable[[Any], str] = share
    bounds: Callable[[float], str] = share

    def value(self, row: Row) -> float | None:
        """Of a row, None where it is undefined."""
        value: float | None = getattr(row, self.key)
        return value

    def standings(self, rows: Sequence[Row]) -> list[Standing]:
        """Of every row."""
        return standings([self.value(row) for row in rows], [row.interval(self.key) for row in rows], self.best)

    def interval_text(self, row: Row) -> str | None:
        """The ends, None where there are none."""
        interval = row.interval(self.key)
        return None if interval is None or self.value(row) is None else "\N{EN DASH}".join(map(self.bounds, interval))


FIGURES = (
    Figure(key="image_auroc", title="Image AUROC"),
    Figure(key="image_average_precision", title="Average precision"),
    Figure(key="image_f1max", title="F1-max"),
    Figure(key="pixel_auroc", title="Pixel AUROC"),
    Figure(key="aupro", title="AUPRO"),
    Figure(key="spro", title="sPRO"),
    Figure(key="latency_p50_ms", title="Latency", best=min, text=milliseconds, bounds=figure),
    Figure(key="graph_bytes", title="Graph", best=min, text=file_size),
)


def standings(
    values: Sequence[float | None],
    intervals: Sequence[tuple[float, float] | None],
    best: Callable[[Sequence[float]], float] = max,
) -> list[Standing]:
    """Which values are best, and which cannot be told from the best: their interval overlaps that of a best one.

    Without intervals only equal values tie, and all of them are best. Where one row alone has a value, nothing is
    best: there is nothing to be better than.

    Args:
        values: None where undefined.
        intervals: (low, high) of each value, None where unknown.
        best: `max` or `min`.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return [None] * len(values)
    winner = best(known)
    reach = [interval for value, interval in zip(values, intervals, strict=True) if value == winner and interval]

    def standing(value: float | None, interval: tuple[float, float] | None) -> Standing:
        if value is None:
            return None
        if value == winner:
            return "best"
        return "tied" if interval and any(interval[0] <= high and low <= interval[1] for low, high in reach) else None

    return [standing(value, interval) for value, interval in zip(values, intervals, strict=True)]
