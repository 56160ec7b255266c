"""The comparison as a table of text, for terminals and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from edge_ad.compare.figures import FIGURES, PRECISIONS, Figure, Standing
from edge_ad.compare.findings import Comparison, Row

__all__ = ["LEGEND", "as_text", "table_cells"]

MARKS = {"best": "★ ", "tied": "≈ ", None: ""}
LEGEND = """★ best of its column; ≈ not distinguishable from it, as their intervals overlap. In brackets the 95 %
interval, of latency the quartiles. INT8 keeps: convolutions that INT8 leaves in float32."""


def table_cells(rows: Sequence[Row]) -> list[list[str]]:
    """A line of heads, then one line per row; figures that no row has are left out."""
    columns = [one for one in FIGURES if any(one.value(row) is not None for row in rows)]
    marks = [one.standings(rows) for one in columns]
    heads = ["method", "precision", *(one.title for one in columns), "false rejects", "missed", "INT8 keeps"]
    lines = [heads]
    for index, row in enumerate(rows):
        figures = [_cell(one, row, mark[index]) for one, mark in zip(columns, marks, strict=True)]
        lines.append([row.method, PRECISIONS[row.precision], *figures, *_verdicts(row), _kept(row)])
    return lines


def _cell(one: Figure, row: Row, mark: Standing) -> str:
    value = one.value(row)
    if value is None:
        return "-"
    interval = one.interval_text(row)
    return f"{MARKS[mark]}{one.text(value)}" + (f" [{interval}]" if interval else "")


def _verdicts(row: Row) -> list[str]:
    return [f"{row.false_rejects} of {row.good_images}", f"{row.missed_defects} of {row.defective_images}"]


def _kept(row: Row) -> str:
    """Convolutions that INT8 leaves in float32."""
    return "" if row.float_layers is None else f"{row.float_layers} of {row.convolutions}"


def as_text(found: Comparison) -> str:
    """For a terminal: the table, how to read it, and what failed."""
    lines = []
    if found.rows:
        cells = table_cells(found.rows)
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells
        ]
        lines += ["", LEGEND]
    return "\n".join([*lines, *(f"{one.method} FAILED: {one.error}" for one in found.failures)])
