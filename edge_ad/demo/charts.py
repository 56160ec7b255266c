"""The histogram of scores as inline SVG; colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_ad.report.axis import Axis, figure
from edge_ad.report.markup import Markup, element, join

__all__ = ["histogram", "score_axis"]

WIDTH, ROW, TOP, GAP, FOOT, LEFT = 760, 100, 74, 44, 40, 12
BINS = 48
LOG_RATIO = 30.0  # beyond this ratio of largest to median score, a linear axis shows one bar and emptiness


def score_axis(scores: Sequence[float], threshold: float) -> Axis:
    """An axis that shows all scores and the threshold; logarithmic where the largest would squeeze the rest."""
    values = [*scores, threshold]
    low, high = min(values), max(values)
    if low > 0 and high > LOG_RATIO * float(np.median(values)):
        return Axis(low=low / 1.15, high=high * 1.15, log=True)
    margin = 0.04 * (high - low) or abs(high) or 1.0
    return Axis(low=max(0.0, low - margin) if low >= 0 else low - margin, high=high + margin)


def histogram(good: Sequence[float], defective: Sequence[float], threshold: float, axis: Axis) -> Markup:
    """Scores of good parts above, of defective parts below, on one axis, with the threshold through both."""
    rows = [("good", "good parts", good), ("bad", "defective parts", defective)]
    bottom = TOP + len(rows) * (ROW + GAP) - GAP
    drawn = [_ticks(axis, bottom), _threshold(axis, threshold, bottom)]
    for index, (kind, label, scores) in enumerate(rows):
        drawn.append(_row(kind, f"{len(scores)} {label}", scores, axis, TOP + index * (ROW + GAP)))
    described = f"Scores of {len(good)} good and {len(defective)} defective parts; threshold {figure(threshold)}"
    return element(
        "svg", *drawn, class_="chart", viewBox=f"0 0 {WIDTH} {bottom + FOOT}", role="img", aria_label=described
    )


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.place(value) * (WIDTH - 2 * LEFT)


def _row(kind: str, label: str, scores: Sequence[float], axis: Axis, top: int) -> Markup:
    places = [min(BINS - 1, int(axis.place(score) * BINS)) for score in scores]
    counts = np.bincount(places, minlength=BINS) if places else np.zeros(BINS, int)
    width = (WIDTH - 2 * LEFT) / BINS
    bars = [_bar(kind, index, int(count), int(counts.max()), width, top) for index, count in enumerate(counts) if count]
    base = element("line", x1=LEFT, x2=WIDTH - LEFT, y1=top + ROW, y2=top + ROW, class_="base")
    return join([element("text", label, x=LEFT, y=top - 6, class_="label"), *bars, base])


def _bar(kind: str, index: int, count: int, most: int, width: float, top: int) -> Markup:
    height = max(3.0, (ROW - 6) * count / most)
    left = LEFT + index * width
    title = element("title", f"{count} part{'s' if count > 1 else ''}")
    box = {"x": f"{left + 1:.1f}", "y": f"{top + ROW - height:.1f}", "width": f"{width - 2:.1f}"}
    return element("rect", title, **box, height=f"{height:.1f}", rx=1.5, class_=f"bar {kind}")


def _ticks(axis: Axis, bottom: int) -> Markup:
    drawn = []
    for value in axis.ticks():
        x = f"{_x(axis, value):.1f}"
        drawn.append(element("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="grid"))
        drawn.append(element("text", figure(value), x=x, y=bottom + 28, class_="tick"))
    return join(drawn)


def _threshold(axis: Axis, threshold: float, bottom: int) -> Markup:
    x = _x(axis, threshold)
    side = "end" if x > WIDTH / 2 else "start"
    line = element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=8, y2=bottom, class_="threshold")
    shift = -8 if side == "end" else 8
    words = element("text", f"threshold {figure(threshold)}", x=f"{x + shift:.1f}", y=24, class_=f"limit {side}")
    return join([line, words])
