"""calibration.html: which convolutions stayed in higher precision and why, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration.report import slim_sentence
from edge_ad.report.axis import Axis, figure
from edge_ad.report.blocks import facts, file_size, section, table, tile
from edge_ad.report.markup import Markup, element, join
from edge_ad.report.page import write_page

__all__ = ["write_calibration_page"]

NAMES = {"fp32": "float32", "fp16": "FP16", "int8": "INT8", "fp8": "FP8"}
HIGHER = {"fp16": "float32", "int8": "float16", "fp8": "float16"}
WIDTH, LABELS, ROW, TOP = 1000, 250, 22, 26

STYLE = """
.chart .bar { fill: var(--good); } .chart .bar.kept { fill: var(--warn); }
.chart .layer { text-anchor: end; }
.chart .layer.kept { fill: var(--ink); font-weight: 600; }
.keys { display: flex; flex-wrap: wrap; gap: 4px 20px; color: var(--muted); font-size: 13px; margin: 0 0 8px; }
.keys i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 7px;
  background: var(--good); }
.keys i.kept { background: var(--warn); }
.tiles { grid-template-columns: repeat(4, 1fr); margin-bottom: 20px; }
.chart + h3, .facts + h3, h3 { font-size: 14px; margin: 20px 0 8px; }
@media (max-width: 860px) { .tiles { grid-template-columns: repeat(2, 1fr); }
  .tiles div, .tiles div:nth-child(n + 4), .tiles div:first-child { grid-column: auto; } }
@media (max-width: 640px) { .chart { font-size: 20px; } }
"""


def write_calibration_page(path: Path, bundle: str, report: Mapping[str, Any]) -> Path:
    """Write the page of a calibration's report; see `edge_ad.report.page.write_page`."""
    rows = {name: row for name, row in report.items() if name in NAMES and isinstance(row, dict)}
    made = [_precision(name, row) for name, row in rows.items() if "float_layers" in row]
    sections = [_overview(rows), *made, section("Thresholds", "", facts({"Fitted to": report["threshold_images"]}))]
    return write_page(path, bundle, "What each precision costs", sections, STYLE)


def _overview(rows: Mapping[str, Mapping[str, Any]]) -> Markup:
    known = [(name, row) for name, row in rows.items() if "score_shift" in row]
    labelled = any(row.get("image_auroc") is not None for _, row in known)
    heads = ["Precision", "#Worst score shift", "#Worst map correlation", "#Graph", "#Threshold"]
    heads += ["#Image AUROC"] if labelled else []
    lines = [
        [
            NAMES[name],
            figure(row["score_shift"]),
            f"{row['map_correlation']:.4f}",
            file_size(row["bytes"]),
            figure(row["threshold"]),
            *([_auroc(row)] if labelled else []),
        ]
        for name, row in known
    ]
    note = (
        "Against float32's answers to the same frames: good parts, and the same with synthetic defects; scores beyond "
        "the shift of all good parts, which the threshold takes along. "
        "Score shifts are in spreads (standard deviations) of normal scores."
    )
    return section("Precisions side by side", note, table(heads, lines))


def _auroc(row: Mapping[str, Any]) -> str:
    return "-" if row.get("image_auroc") is None else f"{row['image_auroc']:.4f}"


def _precision(name: str, row: Mapping[str, Any]) -> Markup:
    kept = row["float_layers"]
    state = "keeps to" if row["within_limits"] else "misses"
    title = f"{NAMES[name]} {state} its budget of {row['budget']:g} points"
    share = sum(row["work_share"].get(layer, 0) for layer in kept)
    tiles = element(
        "dl",
        tile("Of the budget", _used(row["budget_used"]), tone=None if row["within_limits"] else "bad"),
        tile(f"Everything in {NAMES[name]}", _used(row["plain"]["used"]), "of the budget"),
        tile("Left out", f"{len(kept)}", f"of {len(row['work_share'])} convolutions"),
        tile("Their share of the work", f"{share:.0%}"),
        class_="tiles",
    )
    parts: list[object] = [tiles]
    if "slim" in row:
        kinds = {"differences": "rank {}", "units": "{} units", "convolutions": "rank {}"}
        told = {name: said.format(count) for kind, said in kinds.items() for name, count in row["slim"][kind].items()}
        parts.append(element("p", slim_sentence(row["slim"])))
        parts += [facts(told)] if told else []
    if row["sensitivity"]:
        parts += [_keys(name), _bars(row)]
    else:
        parts.append(element("p", "Nothing had to be left out, so no convolution was measured alone.", class_="note"))
    if row.get("overflowing"):
        told = {
            node: f"reaches {magnitude:.3g}; float16 ends at 65,504" for node, magnitude in row["overflowing"].items()
        }
        parts += [element("h3", "In float32, because float16 cannot hold them"), facts(told)]
    if "ranges_tried" in row:
        lines = [
            [
                f"{name} (taken)" if name == row["ranges"] else name,
                _used(trial["used"]),
                figure(trial["cost"]["score_noise"]),
                f"{trial['cost']['map_correlation']:.3f}",
            ]
            for name, trial in row["ranges_tried"].items()
        ]
        parts += [
            element("h3", "Ranges tried, everything quantised"),
            element(
                "p",
                "Equalised: channels brought to like size first. Biases make up for what convolutions lack on average; "
                "biases of the weights, for rounded weights alone.",
                class_="note",
            ),
            table(["Clipping", "#Of the budget", "#Score noise", "#Worst map correlation"], lines, "narrow"),
        ]
    note = "Each convolution alone in this precision: how much noise scores get. The longest bars are left out first."
    return section(title, note, *parts)


def _used(share: float) -> str:
    return f"{share:.0%}" if share < 10 else f"{share:,.0f} times"


def _keys(name: str) -> Markup:
    quantised = element("span", element("i"), f"in {NAMES[name]}")
    kept = element("span", element("i", class_="kept"), f"left in {HIGHER[name]}")
    return element("p", quantised, kept, class_="keys")


def _bars(row: Mapping[str, Any]) -> Markup:
    """A bar per convolution, from the camera to the score."""
    harm, kept = row["sensitivity"], set(row["float_layers"])
    axis = Axis(low=0, high=max(*harm.values(), 1e-9))
    height = TOP + ROW * len(harm)
    drawn: list[Markup] = []
    for value in axis.ticks():
        at = LABELS + axis.place(value) * (WIDTH - LABELS - 30)
        drawn.append(element("line", x1=at, x2=at, y1=TOP - 6, y2=height, class_="grid"))
        drawn.append(element("text", figure(value), x=at, y=12, class_="tick"))
    for index, (layer, shift) in enumerate(harm.items()):
        top = TOP + index * ROW
        tone = " kept" if layer in kept else ""
        length = max(1.5, axis.place(shift) * (WIDTH - LABELS - 30))
        drawn.append(element("text", layer, x=LABELS - 12, y=top + 15, class_=f"layer{tone}"))
        about = element("title", f"{layer}: {shift:.4f} spreads, {row['work_share'].get(layer, 0):.1%} of the work")
        place = {"x": LABELS, "y": top + 4, "width": f"{length:.1f}", "height": ROW - 8, "rx": 2}
        drawn.append(element("rect", about, class_=f"bar{tone}", **place))
    label = "Score noise in spreads when one convolution alone is quantised"
    return element("svg", join(drawn), viewBox=f"0 0 {WIDTH} {height}", class_="chart", role="img", aria_label=label)
