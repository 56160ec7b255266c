"""A page in one file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edge_ad.errors import DataError
from edge_ad.report.markup import Markup, element, join
from edge_ad.report.style import STYLE

__all__ = ["write_page"]


def write_page(path: str | Path, title: str, subtitle: str, sections: Iterable[Markup], style: str = "") -> Path:
    """Write the page; it appears whole or not at all, and replaces one that is there.

    Args:
        sections: What stands below the heading, from top to bottom.
        style: Rules of this page alone, after those of every page.

    Returns:
        The path.

    Raises:
        DataError: It could not be written; a page that was there is as it was.
    """
    path = Path(path)
    scratch = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(_page(title, subtitle, sections, style).encode())
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


def _page(title: str, subtitle: str, sections: Iterable[Markup], style: str) -> Markup:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE + style)),
    )
    header = element("header", element("h1", title), element("p", subtitle))
    main = element("main", header, *sections)
    return join([Markup("<!doctype html>\n"), element("html", head, element("body", main), lang="en"), "\n"])
