"""The second half of the report: costs, engines, every part, provenance; and the pieces all sections share."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2

from edge_ad.demo.charts import Axis, figure, score_axis
from edge_ad.demo.findings import EngineRow, InspectedPart, PrecisionRow, Report
from edge_ad.demo.markup import Markup, element, join
from edge_ad.frame import Image

__all__ = ["costs", "engines", "picture", "pill", "provenance", "section", "stream", "table"]

THUMBNAIL = 256  # pixels of width: shown at half of it, so that dense screens stay sharp
JPEG_QUALITY = 82
FLAVOURS = {"rtx": "TensorRT-RTX", "trt": "TensorRT"}
CHOICES = (("all", "All"), ("bad", "Defective"), ("good", "Good"), ("mistakes", "Wrong verdicts"))


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


def pill(part: InspectedPart) -> Markup:
    """The verdict in words and colour; a wrong one says so."""
    words = "Anomalous" if part.inspection.is_anomalous else "Good"
    if part.is_right:
        return element("span", words, class_="pill bad" if part.inspection.is_anomalous else "pill good")
    return element("span", f"{words}, wrong", class_="pill warn")


def stream(report: Report) -> Markup:
    """Every inspected part in order, with a choice of which to show."""
    axis = score_axis([part.inspection.score for part in report.parts], report.threshold)
    heads = ["Camera", "Overlay", "Part", "Verdict", "#Score", "#Threshold", "#Latency"]
    top = element("tr", *(element("th", h.lstrip("#"), class_="number" if h[0] == "#" else None) for h in heads))
    rows = [_stream_row(part, axis) for part in report.parts]
    body = element("table", element("thead", top), element("tbody", *rows), class_="cards stream")
    return section("Every part", "", _choice(report), body)


def _choice(report: Report) -> Markup:
    labels = []
    for key, words in CHOICES:
        if key == "mistakes" and all(part.is_right for part in report.parts):
            continue
        checked = "" if key == "all" else None
        button = element("input", type="radio", name="show", id=f"show-{key}", checked=checked)
        labels.append(element("label", button, words))
    return element("fieldset", *labels, class_="choice", aria_label="Which parts to show")


def _stream_row(part: InspectedPart, axis: Axis) -> Markup:
    found = part.inspection
    kinds = ["is-bad" if part.is_defective else "is-good", *(["is-right"] if part.is_right else [])]
    truth = part.truth.replace("_", " ")
    place = f"--score:{100 * axis.place(found.score):.1f}%;--limit:{100 * axis.place(found.threshold):.1f}%"
    gauge = element(
        "div", element("i"), element("b"), class_="gauge bad" if found.is_anomalous else "gauge good", style=place
    )
    return element(
        "tr",
        element("td", picture(part.image, part.name, THUMBNAIL), class_="picture"),
        element("td", picture(part.overlay, f"{part.name} with its heat map", THUMBNAIL), class_="picture"),
        element("td", part.name, element("small", truth), class_="name"),
        element("td", pill(part), data_label="Verdict"),
        element("td", element("div", figure(found.score), gauge), class_="number", data_label="Score"),
        element("td", figure(found.threshold), class_="number", data_label="Threshold"),
        element("td", f"{figure(found.latency_ms)} ms", class_="number", data_label="Latency"),
        class_=" ".join(kinds),
    )


def _percent(share: float) -> str:
    """Two digits where it is small, whole numbers where it is not."""
    return f"{100 * share:.2g} %" if abs(share) < 0.1 else f"{100 * share:.0f} %"


def costs(report: Report) -> Markup:
    """What each precision costs."""
    if not report.precisions:
        return Markup()
    heads = [
        "Precision",
        "#Image AUROC",
        "#Pixel AUROC",
        "#Score shift",
        "#Map error",
        "#Threshold",
        "#Graph",
        "#Latency",
    ]
    note = (
        "Score shift: the largest change from float32, relative to the spread of normal scores. "
        "Map error: the mean change from float32, relative to the threshold. Latency: on this machine."
    )
    return section("What each precision costs", note, table(heads, [_cost_row(row) for row in report.precisions]))


def _cost_row(row: PrecisionRow) -> list[object]:
    return [
        row.precision,
        _auroc(row.image_auroc),
        _auroc(row.pixel_auroc),
        _percent(row.score_shift),
        _percent(row.map_error),
        figure(row.threshold),
        _bytes(row.graph_bytes),
        f"{figure(row.latency_ms)} ms",
    ]


def _auroc(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def engines(report: Report) -> Markup:
    """The compiled engines."""
    if not report.engines:
        return Markup()
    heads = ["Target", "Precision", "#Size", "#Build"]
    note = "One file per GPU architecture and precision, each bound to the graph it was compiled from."
    return section("Engines", note, table(heads, [_engine_row(row) for row in report.engines], "narrow"))


def _engine_row(row: EngineRow) -> list[object]:
    built = "kept" if row.build_s is None else f"{row.build_s:.1f} s"
    made_with = f"{FLAVOURS.get(row.flavour, row.flavour)} {row.version}"
    target = join([row.target, element("small", made_with)])
    return [target, row.precision, _bytes(row.engine_bytes), built]


def provenance(report: Report) -> Markup:
    """Where all of it comes from."""
    if not report.provenance:
        return Markup()
    pairs = [
        element(tag, text) for pair in report.provenance.items() for tag, text in zip(("dt", "dd"), pair, strict=True)
    ]
    return section("Provenance", "", element("dl", *pairs, class_="facts"))
