"""The first half of the report: what the inspection found. Each section goes from a Report to HTML."""

from __future__ import annotations

from collections.abc import Sequence

from edge_ad.demo.charts import histogram, score_axis
from edge_ad.demo.findings import GOOD, InspectedPart, Report
from edge_ad.report.axis import figure
from edge_ad.report.blocks import picture, pill, section, table, tile
from edge_ad.report.markup import Markup, element

__all__ = ["confusion", "gallery", "scores", "verdict"]

PICTURE = 560  # pixels of width


def verdict(report: Report) -> Markup:
    """The one sentence to take away, and the figures behind it."""
    missed, rejected = len(_wrong(report.defective)), len(_wrong(report.good))
    tiles = [
        tile("Parts inspected", str(len(report.parts))),
        tile("Defects found", str(len(report.defective) - missed), f"of {len(report.defective)}"),
        tile("Defects missed", str(missed), f"of {len(report.defective)}", "bad" if missed else None),
        tile("False rejects", str(rejected), f"of {len(report.good)}", "warn" if rejected else None),
        tile("Median latency", figure(report.median_latency_ms), "ms"),
    ]
    sentence = element("h2", _sentence(report, missed, rejected))
    return element("section", sentence, element("dl", *tiles, class_="tiles"), class_="verdict")


def _wrong(parts: Sequence[InspectedPart]) -> list[InspectedPart]:
    return [part for part in parts if not part.is_right]


def _sentence(report: Report, missed: int, rejected: int) -> str:
    clauses = []
    if total := len(report.defective):
        clauses.append(f"{total - missed} of {total} {'defect' if total == 1 else 'defects'} found")
    if total := len(report.good):
        clauses.append(f"{rejected or 'none'} of {total} good {'part' if total == 1 else 'parts'} rejected")
    words = ", ".join(clauses) + "."
    return words[0].upper() + words[1:]


def gallery(report: Report) -> Markup:
    """The part of median score of every kind, and the good part that came closest to a rejection."""
    pictures = [(_label(kind), _typical(parts)) for kind, parts in _by_kind(report).items()]
    if report.good:
        pictures.append(("Highest good", max(report.good, key=lambda part: part.inspection.score)))
    shown = [_captioned(label, part) for label, part in pictures]
    note = "The typical part of each kind. Colour begins near the threshold; the white line is the threshold itself."
    return section("What it sees", note, element("div", *shown, class_="gallery"))


def _by_kind(report: Report) -> dict[str, list[InspectedPart]]:
    """The parts of every truth, defects first, in order of appearance."""
    kinds: dict[str, list[InspectedPart]] = {}
    for part in (*report.defective, *report.good):
        kinds.setdefault(part.truth, []).append(part)
    return kinds


def _typical(parts: Sequence[InspectedPart]) -> InspectedPart:
    return sorted(parts, key=lambda part: part.inspection.score)[len(parts) // 2]


def _captioned(label: str, part: InspectedPart) -> Markup:
    score = f"score {figure(part.inspection.score)}"
    words = element(
        "figcaption", element("span", label), pill(part.inspection.is_anomalous, part.is_right), element("span", score)
    )
    return element("figure", picture(part.overlay, f"{part.name} with its heat map", PICTURE), words)


def _label(kind: str) -> str:
    return kind.replace("_", " ").capitalize()


def scores(report: Report) -> Markup:
    """Histogram of the scores of good and defective parts."""
    good, defective = ([part.inspection.score for part in parts] for parts in (report.good, report.defective))
    axis = score_axis([*good, *defective], report.threshold)
    note = "Higher is more anomalous; parts to the right of the threshold are rejected."
    if axis.log:
        note += " The scale is logarithmic."
    return section("Scores", note, histogram(good, defective, report.threshold, axis))


def confusion(report: Report) -> Markup:
    """Verdicts by kind of part, with the score that came closest to the wrong side."""
    heads = ["Kind", "#Parts", "#Accepted", "#Rejected", "#Right", "#Closest"]
    rows = [_confusion_row(kind, parts) for kind, parts in _by_kind(report).items()]
    note = (
        f"Closest: the highest score of good parts, the lowest of defective ones; threshold {figure(report.threshold)}."
    )
    return section("Verdicts by kind", note, table(heads, rows, "narrow"))


def _confusion_row(kind: str, parts: Sequence[InspectedPart]) -> list[object]:
    rejected = sum(part.inspection.is_anomalous for part in parts)
    found = [part.inspection.score for part in parts]
    closest = max(found) if kind == GOOD else min(found)
    right = 100 * sum(part.is_right for part in parts) / len(parts)
    share = element(
        "div", element("i"), element("span", f"{right:.0f} %"), class_="share", style=f"--part:{right:.1f}%"
    )
    return [_label(kind), len(parts), len(parts) - rejected, rejected, share, figure(closest)]
