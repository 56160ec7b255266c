"""report.html: what was trained, compiled and inspected, on one page that needs nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from edge_ad.demo.findings import EngineRow, InspectedPart, PrecisionRow, Report
from edge_ad.demo.markup import Markup, element, join
from edge_ad.demo.sections import confusion, gallery, scores, verdict
from edge_ad.demo.style import STYLE
from edge_ad.demo.tables import costs, engines, provenance, stream
from edge_ad.errors import DataError

__all__ = ["EngineRow", "InspectedPart", "PrecisionRow", "Report", "write_report"]

SECTIONS = (verdict, gallery, scores, confusion, costs, engines, stream, provenance)


def write_report(path: str | Path, report: Report) -> Path:
    """Write the page; it appears whole or not at all, and replaces one that is there.

    Returns:
        The path.

    Raises:
        DataError: It could not be written; a page that was there is as it was.
    """
    path = Path(path)
    scratch = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(_page(report).encode())
        os.replace(scratch, path)
    except OSError as exc:
        scratch.unlink(missing_ok=True)
        raise DataError(
            f"{path} could not be written.",
            expected="a writable place with enough room",
            got=exc.strerror or exc,
            fix="free disk space or choose another place",
        ) from exc
    return path


def _page(report: Report) -> Markup:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", report.title),
        element("style", Markup(STYLE)),
    )
    header = element("header", element("h1", report.title), element("p", report.subtitle))
    main = element("main", header, *(section(report) for section in SECTIONS))
    return join([Markup("<!doctype html>\n"), element("html", head, element("body", main), lang="en"), "\n"])
