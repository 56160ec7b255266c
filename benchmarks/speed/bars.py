"""Latencies as bars, in SVG that reads on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["bars"]

WIDTH, LINE, HEAD, LABELS, FIGURES = 860, 26, 40, 330, 130
COLOURS = {"ours": "#1a7f5a", "slim": "#5fb894", "torch": "#9a6700", "peer": "#6e7781"}
TEXT = "#6e7781"  # legible on white and on black


def bars(rows: Sequence[dict[str, Any]], title: str) -> str:
    """A bar per contender, the fastest first."""
    timed = sorted((row for row in rows if "failure" not in row), key=lambda row: row["p50_ms"])
    longest = max((row["p50_ms"] for row in timed), default=1.0)
    scale = (WIDTH - LABELS - FIGURES) / longest
    height = HEAD + LINE * len(timed) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13" fill="{TEXT}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<text x="8" y="20" font-size="14">{escape(title)}</text>',
    ]
    for index, row in enumerate(timed):
        top = HEAD + LINE * index
        length = row["p50_ms"] * scale
        parts += [
            f'<text x="{LABELS - 8}" y="{top + 14}" text-anchor="end">{escape(row["name"])}</text>',
            f'<rect x="{LABELS}" y="{top}" width="{length:.1f}" height="18" rx="2" fill="{COLOURS[row["family"]]}"/>',
            f'<text x="{LABELS + length + 6:.1f}" y="{top + 14}">{row["p50_ms"]:.1f} ms '
            f"(p99 {row['p99_ms']:.1f})</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])
