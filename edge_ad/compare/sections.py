"""The sections of the comparison's page. Each goes from a Comparison to HTML."""

from __future__ import annotations

from edge_ad.compare.chart import accuracy_over_latency
from edge_ad.compare.figures import FIGURES, PRECISIONS, Figure, Standing, milliseconds, share, standings
from edge_ad.compare.findings import Comparison, Example, Row, View
from edge_ad.report.axis import figure
from edge_ad.report.blocks import facts, picture, pill, section, table, tile
from edge_ad.report.markup import Markup, element, join
from edge_ad.training.evaluate import DefectMetrics

__all__ = ["accuracy", "costs", "defects", "failures", "latency", "pictures", "provenance", "verdict"]

PICTURE = 360  # pixels of width
LEAST_COLUMNS, MOST_COLUMNS = 4, 7
AUROC, GRAPH = FIGURES[0], FIGURES[-1]
IN_HEADLINE = FIGURES[:-1]  # the size is a cost
_BEST = element("span", "best", class_="mark best")


def verdict(found: Comparison) -> Markup:
    """The sentence to take away, and the figures behind it."""
    if not found.rows:
        return element("section", element("h2", "No method could be compared."), class_="verdict")
    first = found.rows[0]
    fastest = min(found.rows, key=lambda row: row.latency_p50_ms)
    smallest = min(found.rows, key=lambda row: row.graph_bytes)
    best = max(found.rows, key=lambda row: row.image_auroc or 0)
    count = len(found.methods) + len(found.failures)
    tiles = [
        tile("Methods", str(len(found.methods)), f"of {count}", "bad" if found.failures else None),
        tile("Test images", str(first.images), f"{first.defective_images} defective"),
        tile("Highest image AUROC", share(best.image_auroc or 0), _called(best)),
        tile("Fastest", milliseconds(fastest.latency_p50_ms), _called(fastest)),
        tile("Smallest graph", GRAPH.text(smallest.graph_bytes), _called(smallest)),
    ]
    return element("section", element("h2", _sentence(found)), element("dl", *tiles, class_="tiles"), class_="verdict")


def _sentence(found: Comparison) -> str:
    """Who is best, who cannot be told from it, and the fastest of these: no more than the intervals allow."""
    marks = AUROC.standings(found.rows)
    leaders = [row for row, mark in zip(found.rows, marks, strict=True) if mark is not None] or list(found.rows[:1])
    names = list(dict.fromkeys(row.method for row in leaders))
    fastest = min(leaders, key=lambda row: row.latency_p50_ms)
    in_precision, takes = f"in {PRECISIONS[fastest.precision]}", f"takes {milliseconds(fastest.latency_p50_ms)}"
    if len(found.methods) == 1:
        return f"{names[0]} reaches an image AUROC of {share(fastest.image_auroc or 0)}; {in_precision} it {takes}."
    if len(names) == 1:
        return f"{names[0]} finds defects best; {in_precision} it {takes}."
    some = f"the {len(names)}" if len(names) == len(found.methods) else f"the best {len(names)}"
    return f"These images cannot tell {some} methods apart; the fastest, {fastest.method} {in_precision}, {takes}."


def _called(row: Row) -> str:
    return f"{row.method}, {PRECISIONS[row.precision]}"


def failures(found: Comparison) -> Markup:
    """The methods that could not be compared."""
    if not found.failures:
        return Markup()
    rows = [[one.method, element("pre", one.error)] for one in found.failures]
    note = "Where a fix names an option of training, --set METHOD.OPTION=VALUE gives it to a comparison."
    return section("Not compared", note, table(["Method", "Why"], rows))


def accuracy(found: Comparison) -> Markup:
    """Every method and precision: accuracy, verdicts at the fitted threshold, latency."""
    if not found.rows:
        return Markup()
    columns = [one for one in IN_HEADLINE if any(one.value(row) is not None for row in found.rows)]
    marks = [one.standings(found.rows) for one in columns]
    heads = ["Method", *(f"#{one.title}" for one in columns[:-1]), "#False rejects", "#Missed", f"#{columns[-1].title}"]
    rows = []
    for index, row in enumerate(found.rows):
        cells = [_figure_cell(one, row, mark[index]) for one, mark in zip(columns, marks, strict=True)]
        wrong = [
            _of(row.false_rejects, row.good_images),
            _of(row.missed_defects, row.defective_images),
        ]
        rows.append([_name(row), *cells[:-1], *wrong, cells[-1]])
    note = (
        " of its column; ≈ not distinguishable from it, as their intervals overlap. Below a figure: its 95 % interval, "
        "of latency the middle half of the frames. False rejects and missed defects are traded against each other by "
        "the threshold, which is fitted to good images alone."
    )
    precisions = len(found.rows) // len(found.methods)
    return section("Side by side", join([_BEST, note]), table(heads, rows, f"cards grouped by-{precisions}"))


def _name(row: Row) -> Markup:
    return join([element("span", row.method, class_="method"), element("small", PRECISIONS[row.precision])])


def _of(count: int, total: int) -> Markup:
    return element("div", str(count), element("small", f"of {total}"))


def _figure_cell(one: Figure, row: Row, mark: Standing) -> Markup | None:
    value = one.value(row)
    if value is None:
        return None
    text: Markup | str = one.text(value)
    if mark == "best":
        text = element("span", text, class_="mark best", title="best")
    elif mark == "tied":
        text = join([element("span", "≈ ", class_="tied", title="not distinguishable from the best"), text])
    interval = one.interval_text(row)
    return element("div", text, element("small", interval) if interval else "")


def latency(found: Comparison) -> Markup:
    """What accuracy costs in time."""
    rows = [row for row in found.rows if row.image_auroc is not None]
    if not rows:
        return Markup()
    note = "Up and left is better. Bars: 95 % interval of the image AUROC, middle half of the frames of the latency."
    return section("Accuracy over latency", note, accuracy_over_latency(rows))


def defects(found: Comparison) -> Markup:
    """Which method finds which defect."""
    rows = _shown(found)
    kinds = {kind: metrics.images for row in rows for kind, metrics in row.per_defect.items()}
    if not kinds:
        return Markup()
    heads = ["Method", *(f"#{_words(kind)}, {count}" for kind, count in kinds.items())]
    best = {kind: standings([_auroc_of(row, kind) for row in rows], [None] * len(rows)) for kind in kinds}
    cells = [
        [row.method, *(_defect_cell(row.per_defect[kind], best[kind][index]) for kind in kinds)]
        for index, row in enumerate(rows)
    ]
    note = (
        f"Image AUROC of each type of defect against all good images, in {PRECISIONS[found.shown]}; below it the pixel "
        "AUROC, where defects are marked. Few images of a type leave wide intervals: read differences with care."
    )
    return section("By type of defect", note, table(heads, cells))


def _auroc_of(row: Row, kind: str) -> float | None:
    return row.per_defect[kind].image_auroc


def _defect_cell(metrics: DefectMetrics, mark: Standing) -> Markup | None:
    if metrics.image_auroc is None:
        return None
    text = share(metrics.image_auroc)
    below = "" if metrics.pixel_auroc is None else element("small", share(metrics.pixel_auroc))
    return element("div", element("b", text) if mark else text, below)


def _shown(found: Comparison) -> list[Row]:
    return [row for row in found.rows if row.precision == found.shown]


def _words(kind: str) -> str:
    return kind.replace("_", " ").capitalize()


def pictures(found: Comparison) -> Markup:
    """The same images, method by method."""
    if not found.examples:
        return Markup()
    note = (
        f"In {PRECISIONS[found.shown]}. The hardest images lie furthest on the wrong side of the thresholds, by the "
        "median over methods; colour begins near each method's own threshold, the white line is the threshold itself. "
        "Below a verdict: score / threshold."
    )
    return section("The same parts, method by method", note, *map(_example, found.examples))


def _example(example: Example) -> Markup:
    wrong = sum(view.inspection.is_anomalous != example.is_defective for view in example.views)
    verdicts = "all right" if not wrong else f"{wrong} of {len(example.views)} wrong"
    heading = element("h3", example.why, element("small", f"{example.name}, {verdicts}"))
    truth = element("span", "Defective" if example.is_defective else "Good", class_="truth")
    given = element(
        "figure", picture(example.image, example.name, PICTURE), element("figcaption", element("b", "Image"), truth)
    )
    seen = [given, *(_view(example, view) for view in example.views)]
    columns = max(LEAST_COLUMNS, -(-len(seen) // -(-len(seen) // MOST_COLUMNS)))  # full lines, or nearly
    return element("div", heading, element("div", *seen, class_="views", style=f"--columns:{columns}"))


def _view(example: Example, view: View) -> Markup:
    found = view.inspection
    verdict = pill(found.is_anomalous, found.is_anomalous == example.is_defective)
    shown = picture(view.overlay, f"{example.name} as {view.method} sees it", PICTURE)
    score = element("span", f"{figure(found.score)} / {figure(found.threshold)}")
    return element("figure", shown, element("figcaption", element("b", view.method), verdict, score))


def costs(found: Comparison) -> Markup:
    """What each method costs to train and to keep."""
    if not found.rows:
        return Markup()
    precisions = list(dict.fromkeys(row.precision for row in found.rows))
    heads = ["Method", "#Parameters", "#Training", *(f"#{PRECISIONS[name]} graph" for name in precisions)]
    heads += ["#Left out of INT8", "Options changed"]
    marks = dict(zip(map(_called, found.rows), GRAPH.standings(found.rows), strict=True))
    rows = []
    for method in found.methods:
        of_method = {row.precision: row for row in found.rows if row.method == method}
        row = of_method[found.shown]
        sizes = [_figure_cell(GRAPH, one, marks[_called(one)]) for one in of_method.values()]
        changed = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in row.changed_options.items())
        rows.append([method, _count(row.parameters), _duration(row), *sizes, _kept(row), changed or "none"])
    note = (
        "Parameters: numbers in the trained network's file, memory banks and statistics included. Training: time of "
        "the run on the machine that trained it, and its images."
    )
    return section("What each method costs", note, table(heads, rows))


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e5 else f"{number / 1e3:.1f} k"


def _duration(row: Row) -> Markup:
    seconds = row.training_seconds
    text = (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
    return element("div", text, element("small", f"{row.training_images} images"))


def _kept(row: Row) -> Markup:
    missed = "" if row.within_limits else element("small", "limits missed")
    return element("div", f"{row.float_layers} of {row.convolutions}", missed)


def provenance(found: Comparison) -> Markup:
    """What was measured on what."""
    return section("How it was measured", "", facts(found.facts))
