"""The comparison as one page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from edge_ad.compare.findings import Comparison
from edge_ad.compare.sections import accuracy, costs, defects, failures, latency, pictures, provenance, verdict
from edge_ad.compare.style import STYLE
from edge_ad.report.page import write_page

__all__ = ["write_comparison"]

SECTIONS = (verdict, accuracy, failures, latency, defects, pictures, costs, provenance)


def write_comparison(path: Path, found: Comparison) -> Path:
    """Write the page; see `edge_ad.report.page.write_page`."""
    count = len(found.methods)
    subtitle = f"{count} methods side by side, on the same test images" if count > 1 else "compared on its test images"
    return write_page(path, found.dataset, subtitle, (section(found) for section in SECTIONS), STYLE)
