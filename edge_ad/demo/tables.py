"""The second half of the report: costs, engines, every part, provenance."""

from __future__ import annotations

from edge_ad.demo.charts import score_axis
from edge_ad.demo.findings import EngineRow, InspectedPart, PrecisionRow, Report
from edge_ad.report.axis import Axis, figure
from edge_ad.report.blocks import facts, file_size, picture, pill, section, table
from edge_ad.report.markup import Markup, element, join

__all__ = ["costs", "engines", "provenance", "stream"]

THUMBNAIL = 256  # pixels of width: shown at half of it, so that dense screens stay sharp
FLAVOURS = {"rtx": "TensorRT-RTX", "trt": "TensorRT"}
CHOICES = (("all", "All"), ("bad", "Defective"), ("good", "Good"), ("mistakes", "Wrong verdicts"))


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
        element("td", pill(found.is_anomalous, part.is_right), data_label="Verdict"),
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
        file_size(row.graph_bytes),
        f"{figure(row.latency_ms)} ms",
    ]


def _auroc(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


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
    return [target, row.precision, file_size(row.engine_bytes), built]


def provenance(report: Report) -> Markup:
    """Where all of it comes from."""
    if not report.provenance:
        return Markup()
    return section("Provenance", "", facts(report.provenance))
