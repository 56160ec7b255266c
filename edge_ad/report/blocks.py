"""The pieces that sections are made of: panels, tables, pictures, verdicts, tiles and facts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import cv2

from edge_ad.frame import Image
from edge_ad.report.markup import Markup, element

__all__ = ["facts", "file_size", "picture", "pill", "section", "table", "tile"]

JPEG_QUALITY = 82


def section(title: str, note: str, *content: object) -> Markup:
    """A panel with a heading and, where `note` is not empty, a line that says how to read it."""
    return element("section", element("h2", title), element("p", note, class_="note") if note else "", *content)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], kind: str = "cards") -> Markup:
    """A table; a head that begins with # is of a column of numbers.

    On narrow screens the rows of "cards" become cards; a "narrow" table has few enough columns to stay one.
    """
    names = [head.lstrip("#") for head in heads]
    kinds = ["number" if head.startswith("#") else None for head in heads]
    top = element(
        "tr", *(element("th", name, class_=kind, scope="col") for name, kind in zip(names, kinds, strict=True))
    )
    body = [element("tr", _cell("name", None, row[0]), *map(_cell, kinds[1:], names[1:], row[1:])) for row in rows]
    return element("table", element("thead", top), element("tbody", *body), class_=kind)


def _cell(kind: str | None, label: str | None, value: object) -> Markup:
    return element("td", "none" if value is None else value, class_=kind, data_label=label)


def picture(image: Image, alt: str, width: int) -> Markup:
    """The image as a JPEG inside the page, at most `width` pixels wide."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    if image.shape[1] > width:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    source = "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
    size = {"width": image.shape[1], "height": image.shape[0]}
    return element("img", src=source, alt=alt, loading="lazy", **size)


def pill(is_anomalous: bool, is_right: bool) -> Markup:
    """The verdict in words and colour; a wrong one says so."""
    words = "Anomalous" if is_anomalous else "Good"
    if is_right:
        return element("span", words, class_="pill bad" if is_anomalous else "pill good")
    return element("span", f"{words}, wrong", class_="pill warn")


def tile(label: str, value: str, unit: str = "", tone: str | None = None) -> Markup:
    """A figure to take away; tiles stand in a `dl` of class "tiles"."""
    shown = element("dd", value, element("small", f" {unit}") if unit else "")
    return element("div", element("dt", label), shown, class_=tone)


def facts(pairs: Mapping[str, str]) -> Markup:
    """Labels and their values, one below the other."""
    return element(
        "dl",
        *(element(tag, text) for pair in pairs.items() for tag, text in zip(("dt", "dd"), pair, strict=True)),
        class_="facts",
    )


def file_size(count: int) -> str:
    """A number of bytes in kB or MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
