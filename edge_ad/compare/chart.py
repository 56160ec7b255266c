"""Accuracy over latency as inline SVG, once for wide and once for narrow screens: text is never scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from edge_ad.compare.figures import PRECISIONS, milliseconds, share
from edge_ad.compare.findings import Row
from edge_ad.report.axis import Axis
from edge_ad.report.markup import Markup, element, join

__all__ = ["accuracy_over_latency"]

TOP, FOOT, LEFT = 16, 44, 46
RADIUS = 5.0
LINE = 15.0  # least distance of two labels, one below the other
LOG_RATIO = 4.0  # of the slowest to the fastest, beyond which a linear axis would crowd the fast ones


@dataclass(frozen=True, kw_only=True)
class _Plot:
    """Where values lie in the drawing; `right` leaves room for the labels."""

    x: Axis
    y: Axis
    width: int
    height: int
    right: int

    def across(self, latency: float) -> float:
        return LEFT + self.x.place(latency) * (self.width - LEFT - self.right)

    def down(self, auroc: float) -> float:
        return TOP + (1 - self.y.place(auroc)) * (self.height - TOP - FOOT)


def accuracy_over_latency(rows: Sequence[Row]) -> Markup:
    """Image AUROC with its 95 % interval over latency with its quartiles; the precisions of a method are joined."""
    axes = _latency_axis(rows), _auroc_axis(rows)
    longest = max(len(row.method) for row in rows)
    return join(
        [
            _chart(rows, _Plot(x=axes[0], y=axes[1], width=760, height=400, right=24 + 6 * longest), "wide"),
            _chart(rows, _Plot(x=axes[0], y=axes[1], width=360, height=420, right=20 + 6 * longest), "slim"),
            _legend(rows),
        ]
    )


def _latency_axis(rows: Sequence[Row]) -> Axis:
    low = min(row.latency_quartiles_ms[0] for row in rows)
    high = max(row.latency_quartiles_ms[1] for row in rows)
    if high > LOG_RATIO * low:
        return Axis(low=low / 1.25, high=high * 1.15, log=True)
    return Axis(low=max(0.0, low - 0.15 * (high - low) - 0.05 * high), high=high * 1.05)


def _auroc_axis(rows: Sequence[Row]) -> Axis:
    low = min(end for row in rows for end in (row.image_auroc, *(row.interval("image_auroc") or ())) if end is not None)
    return Axis(low=max(0.0, low - 0.08 * (1 - low) - 1e-3), high=1.0)


def _chart(rows: Sequence[Row], plot: _Plot, kind: str) -> Markup:
    shown = [row for row in rows if row.image_auroc is not None]
    described = "; ".join(
        f"{row.method} {PRECISIONS[row.precision]}: image AUROC {share(row.image_auroc or 0)}, "
        f"{milliseconds(row.latency_p50_ms)}"
        for row in shown
    )
    drawn = [_grid(plot), *(_whiskers(row, plot) for row in shown), *_links(shown, plot)]
    drawn += [_point(row, plot) for row in shown]
    drawn.append(_labels(shown, plot))
    box = f"0 0 {plot.width} {plot.height}"
    return element("svg", *drawn, class_=f"chart {kind}", viewBox=box, role="img", aria_label=described)


def _grid(plot: _Plot) -> Markup:
    bottom, end = plot.height - FOOT, plot.width - plot.right
    drawn = []
    for auroc in plot.y.ticks():
        y = f"{plot.down(auroc):.1f}"
        drawn.append(element("line", x1=LEFT, x2=end, y1=y, y2=y, class_="grid"))
        drawn.append(element("text", f"{auroc:.3g}", x=LEFT - 8, y=f"{plot.down(auroc) + 3.5:.1f}", class_="end"))
    for latency in plot.x.ticks():
        x = f"{plot.across(latency):.1f}"
        drawn.append(element("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="grid"))
        drawn.append(element("text", f"{latency:g}", x=x, y=bottom + 18, class_="tick"))
    drawn.append(element("text", "Latency, ms", x=end, y=bottom + 38, class_="end"))
    drawn.append(element("text", "Image AUROC", x=LEFT + 6, y=TOP - 5))
    return join(drawn)


def _whiskers(row: Row, plot: _Plot) -> Markup:
    x, y = plot.across(row.latency_p50_ms), plot.down(row.image_auroc or 0)
    left, right = (plot.across(end) for end in row.latency_quartiles_ms)
    drawn = [_line(left, y, right, y, f"whisker {row.precision}")]
    if interval := row.interval("image_auroc"):
        bottom, top = (plot.down(end) for end in interval)
        drawn.append(_line(x, top, x, bottom, f"whisker {row.precision}"))
        drawn += [_line(x - 3, end, x + 3, end, f"whisker {row.precision}") for end in (top, bottom)]
    return join(drawn)


def _links(rows: Sequence[Row], plot: _Plot) -> list[Markup]:
    """A line between neighbouring precisions of one method."""
    return [
        _line(
            plot.across(before.latency_p50_ms),
            plot.down(before.image_auroc or 0),
            plot.across(after.latency_p50_ms),
            plot.down(after.image_auroc or 0),
            "link",
        )
        for before, after in pairwise(rows)
        if before.method == after.method
    ]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=kind)


def _point(row: Row, plot: _Plot) -> Markup:
    x, y = plot.across(row.latency_p50_ms), plot.down(row.image_auroc or 0)
    words = (
        f"{row.method} {PRECISIONS[row.precision]}: {share(row.image_auroc or 0)}, {milliseconds(row.latency_p50_ms)}"
    )
    title = element("title", words)
    return element("circle", title, cx=f"{x:.1f}", cy=f"{y:.1f}", r=RADIUS, class_=f"point {row.precision}")


def _labels(rows: Sequence[Row], plot: _Plot) -> Markup:
    """The name of every method right of its rightmost point, moved down where another name stands."""
    places: dict[str, tuple[float, float]] = {}
    for row in rows:
        x, y = plot.across(row.latency_p50_ms) + RADIUS + 5, plot.down(row.image_auroc or 0) + 3.5
        if row.method not in places or x > places[row.method][0]:
            places[row.method] = x, y
    drawn: list[Markup] = []
    taken: list[tuple[float, float, float]] = []
    for method, (x, wanted) in sorted(places.items(), key=lambda place: place[1][1]):
        end = x + 6.5 * len(method)
        beside = [y for first, last, y in taken if x < last and first < end]
        y = wanted
        while any(abs(y - other) < LINE for other in beside):
            y += 1
        taken.append((x, end, y))
        drawn.append(element("text", method, x=f"{x:.1f}", y=f"{y:.1f}", class_="label"))
    return join(drawn)


def _legend(rows: Sequence[Row]) -> Markup:
    precisions = dict.fromkeys(row.precision for row in rows)
    keys = [element("span", element("i", class_=f"key {name}"), PRECISIONS[name]) for name in precisions]
    return element("p", *keys, class_="legend")
