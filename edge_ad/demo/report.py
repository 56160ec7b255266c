"""report.html: what was trained, compiled and inspected, on one page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from edge_ad.demo.findings import EngineRow, InspectedPart, PrecisionRow, Report
from edge_ad.demo.sections import confusion, gallery, scores, verdict
from edge_ad.demo.style import STYLE
from edge_ad.demo.tables import costs, engines, provenance, stream
from edge_ad.report.page import write_page

__all__ = ["EngineRow", "InspectedPart", "PrecisionRow", "Report", "write_report"]

SECTIONS = (verdict, gallery, scores, confusion, costs, engines, stream, provenance)


def write_report(path: str | Path, report: Report) -> Path:
    """Write the page; see `edge_ad.report.page.write_page`."""
    return write_page(path, report.title, report.subtitle, (section(report) for section in SECTIONS), STYLE)
