"""The comparison as a table of text, for terminals and Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edge_ad.compare.figures import FIGURES, PRECISIONS, Figure, Standing
from edge_ad.compare.findings import Comparison, Row

__all__ = ["LEGEND", "as_text", "table_cells"]

MARKS = {"best": "★ ", "tied": "≈ ", None: ""}
LEGEND = """★ best of its column; ≈ not distinguishable from it, as their intervals overlap. In brackets the 95 %
interval, of latency the quartiles. INT8 keeps: convolutions it leaves in float16; all in INT8: image AUROC
without that; work: multiply-accumulates that lower ranks leave."""


def table_cells(rows: Sequence[Row], *, with_intervals: Collection[str] | None = None) -> list[list[str]]:
    """A line of heads, then one line per row; figures that no row has are left out.

    Args:
        with_intervals: The keys of the figures that show theirs, by default all.
    """
    columns = [one for one in FIGURES if any(one.value(row) is not None for row in rows)]
    marks = [one.standings(rows) for one in columns]
    heads = ["method", "precision", *(one.title for one in columns), "false rejects", "missed", "INT8 keeps"]
    with_plain = any(row.plain_image_auroc is not None for row in rows)
    heads += ["all in INT8"] if with_plain else []
    with_work = any(row.work is not None for row in rows)
    heads += ["work"] if with_work else []
    lines = [heads]
    for index, row in enumerate(rows):
        figures = []
        for one, mark in zip(columns, marks, strict=True):
            interval = one.interval_text(row) if with_intervals is None or one.key in with_intervals else None
            figures.append(_cell(one, row, mark[index]) + (f" [{interval}]" if interval else ""))
        lines.append([row.method, PRECISIONS[row.precision], *figures, *_verdicts(row), _kept(row)])
        lines[-1] += [_plain(row)] if with_plain else []
        lines[-1] += ["" if row.work is None else f"{row.work:.0%}"] if with_work else []
    return lines


def _cell(one: Figure, row: Row, mark: Standing) -> str:
    value = one.value(row)
    return "-" if value is None else f"{MARKS[mark]}{one.text(value)}"


def _verdicts(row: Row) -> list[str]:
    return [f"{row.false_rejects} of {row.good_images}", f"{row.missed_defects} of {row.defective_images}"]


def _kept(row: Row) -> str:
    """Convolutions that INT8 leaves in higher precision."""
    return "" if row.float_layers is None else f"{row.float_layers} of {row.convolutions}"


def _plain(row: Row) -> str:
    """Image AUROC with every convolution in INT8."""
    return "" if row.plain_image_auroc is None else f"{row.plain_image_auroc:.3f}"


def as_text(found: Comparison) -> str:
    """For a terminal: the table, how to read it, and what failed."""
    lines = []
    if found.rows:
        cells = table_cells(found.rows, with_intervals=("image_auroc",))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells
        ]
        lines += ["", LEGEND]
    return "\n".join([*lines, *(f"{one.method} FAILED: {one.error}" for one in found.failures)])
