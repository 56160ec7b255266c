"""The page: every figure of the rows, marked as the intervals allow, and nothing from the network."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from edge_ad.compare.figures import FIGURES
from edge_ad.compare.findings import Failure
from edge_ad.compare.page import write_comparison
from edge_ad.compare.text import as_text, table_cells
from tests.compare.rows import comparison, defect, example, row
from tests.html_page import Page

HOSTILE = "<script>alert('x')</script>\"&"
TYPES = {"dent": defect(3, 0.97, 0.951), "lost_screw": defect(1, 0.6)}
ROWS = [
    row(
        "patches",
        "fp32",
        image_auroc=0.985,
        image_average_precision=0.991,
        image_f1max=0.96,
        pixel_auroc=0.942,
        aupro=0.81,
        spro=0.4,
        intervals={"image_auroc": (0.951, 1.0), "pixel_auroc": (0.92, 0.96)},
        per_defect=TYPES,
        false_rejects=1,
        latency_p50_ms=81.2,
        latency_quartiles_ms=(79.9, 84.0),
        graph_bytes=14_200_000,
    ),
    row(
        "patches",
        image_auroc=0.984,
        image_average_precision=0.99,
        image_f1max=0.95,
        pixel_auroc=0.941,
        aupro=0.8,
        spro=0.3,
        intervals={"image_auroc": (0.949, 1.0), "pixel_auroc": (0.91, 0.95)},
        per_defect=TYPES,
        missed_defects=2,
        latency_p50_ms=44.5,
        latency_quartiles_ms=(44.0, 46.0),
        graph_bytes=4_100_000,
        within_limits=False,
    ),
    row(
        "students",
        "fp32",
        image_auroc=0.9,
        image_average_precision=0.92,
        image_f1max=0.88,
        intervals={"image_auroc": (0.84, 0.94)},
        per_defect={"dent": defect(3, 0.98), "lost_screw": defect(1, 0.5)},
        latency_p50_ms=30.0,
        graph_bytes=9_000_000,
        changed_options={"steps": 500},
    ),
    row(
        "students",
        image_auroc=0.91,
        image_average_precision=0.93,
        image_f1max=0.89,
        intervals={"image_auroc": (0.85, 0.96)},
        per_defect={"dent": defect(3, 0.98), "lost_screw": defect(1, 0.5)},
        latency_p50_ms=12.0,
        graph_bytes=3_000_000,
        changed_options={"steps": 500},
    ),
]
FAILURE = Failure(method="lost", error="WeightsNotFound: No weights.\n  fix:      --weights FILE")
EXAMPLES = (
    example("Hardest good part", "good/000.png", False, {"patches": 0.5, "students": 1.5}),
    example("Typical dent", "dent/001.png", True, {"patches": 2.5, "students": 0.25}),
)
FOUND = comparison(ROWS, (FAILURE,), EXAMPLES)


@pytest.fixture
def page(tmp_path):
    return Page(write_comparison(tmp_path / "page.html", FOUND).read_text(encoding="utf-8"))


def headline(page: Page) -> list[dict[str, str]]:
    return [cells for cells in page.rows if "False rejects" in cells]


def test_every_figure_of_every_row_is_in_its_cell(page):
    lines = headline(page)
    assert len(lines) == len(ROWS)
    for cells, one in zip(lines, FOUND.to_json()["rows"], strict=True):
        assert cells[""].startswith(one["method"])
        for figure in FIGURES[:-1]:
            value = one[figure.key]
            shown = cells[figure.title]
            assert shown == "none" if value is None else figure.text(value) in shown
        for key, (low, high) in one["intervals"].items():
            title = next(figure.title for figure in FIGURES if figure.key == key)
            assert f"{low:.3f}\N{EN DASH}{high:.3f}" in cells[title]
        assert cells["False rejects"] == f"{one['false_rejects']} of 3"
        assert cells["Missed"] == f"{one['missed_defects']} of 4"


def test_the_best_is_marked_and_what_overlaps_it_is_called_not_distinguishable(tmp_path, page):
    assert [cells["Image AUROC"][0] for cells in headline(page)] == ["0", "≈", "0", "≈"]
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    best = re.findall(r'<span class="mark best" title="best">([^<]+)</span>', content)
    assert best == ["0.985", "0.991", "0.960", "0.942", "0.810", "0.400", "12.0 ms", "3.0 MB"]
    assert content.count('title="not distinguishable from the best"') == 3  # two image AUROCs and a pixel AUROC


def test_the_heading_claims_no_more_than_the_intervals(page):
    assert "These images cannot tell the 2 methods apart; the fastest, students in INT8, takes 12.0 ms." in page.text
    assert "Methods 2 of 3" in page.text


def test_a_clear_winner_is_named(tmp_path):
    rows = [
        row("patches", image_auroc=0.99, intervals={"image_auroc": (0.98, 1.0)}, latency_p50_ms=44.5),
        row("students", image_auroc=0.9, intervals={"image_auroc": (0.8, 0.95)}),
    ]
    text = Page(write_comparison(tmp_path / "page.html", comparison(rows)).read_text(encoding="utf-8")).text
    assert "patches finds defects best; in INT8 it takes 44.5 ms." in text


def test_one_method_alone_is_not_called_best(tmp_path):
    found = comparison([row("patches", "fp32", image_auroc=0.99), row("patches", image_auroc=0.98, latency_p50_ms=9.0)])
    text = Page(write_comparison(tmp_path / "page.html", found).read_text(encoding="utf-8")).text
    assert "patches reaches an image AUROC of 0.990; in float32 it takes 20.0 ms." in text


def test_types_of_defect_are_told_apart(page):
    of_types = [cells for cells in page.rows if "Dent, 3" in cells]
    assert [(cells[""], cells["Dent, 3"], cells["Lost screw, 1"]) for cells in of_types] == [
        ("patches", "0.970 0.951", "0.600"),
        ("students", "0.980", "0.500"),
    ]


def test_costs_say_what_was_kept_and_changed(page):
    costs = [cells for cells in page.rows if "Parameters" in cells]
    assert [cells["float32 graph"] for cells in costs] == ["14.2 MB", "9.0 MB"]
    assert [cells["INT8 graph"] for cells in costs] == ["4.1 MB", "3.0 MB"]
    assert [cells["Left out of INT8"] for cells in costs] == ["1 of 4 limits missed", "1 of 4"]
    assert [cells["Options changed"] for cells in costs] == ["none", "steps 500"]
    assert all(cells["Training"] == "61 s 12 images" for cells in costs)


def test_examples_show_each_method_with_its_verdict(page):
    assert "Hardest good part good/000.png, 1 of 2 wrong" in page.text
    assert "patches Good 0.500 / 1.00 students Anomalous, wrong 1.50 / 1.00" in page.text
    assert "patches Anomalous 2.50 / 1.00 students Good, wrong 0.250 / 1.00" in page.text
    assert page.tags.count("img") == 2 * 3


def test_what_failed_is_told_with_its_error(page):
    assert "Not compared Where a fix" in page.text
    assert "Method Why lost WeightsNotFound: No weights. fix: --weights FILE" in page.text
    assert "lost FAILED: WeightsNotFound: No weights." in as_text(FOUND)


def test_the_chart_shows_every_row_where_its_figures_are(tmp_path, page):
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    for kind in ("wide", "slim"):
        drawing = re.search(rf'<svg class="chart {kind}".*?</svg>', content, re.DOTALL).group()
        points = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>(\w+) (\w+)', drawing)
        assert [(method, precision) for _, _, method, precision in points] == [
            ("patches", "float32"),
            ("patches", "INT8"),
            ("students", "float32"),
            ("students", "INT8"),
        ]
        across, down = ([float(point[axis]) for point in points] for axis in (0, 1))
        assert sorted(range(4), key=across.__getitem__) == [3, 2, 1, 0]  # by latency
        assert sorted(range(4), key=down.__getitem__) == [0, 1, 3, 2]  # the best on top
        width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', drawing).groups())
        numbers = re.findall(r' [xc][12x]?="([\d.]+)"', drawing)
        assert all(0 <= float(value) <= width for value in numbers) and max(down) < height


def test_labels_of_equal_points_do_not_cover_each_other(tmp_path):
    rows = [row(name, image_auroc=0.9, latency_p50_ms=20.0) for name in ("one", "two", "three")]
    content = write_comparison(tmp_path / "page.html", comparison(rows)).read_text(encoding="utf-8")
    drawing = re.search(r'<svg class="chart wide".*?</svg>', content, re.DOTALL).group()
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="label"', drawing))
    assert len(heights) == 3
    assert all(lower - upper >= 14 for upper, lower in pairwise(heights))


def test_the_page_asks_nothing_of_the_network(tmp_path, page):
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "http:" not in content and "https:" not in content and "@import" not in content and "url(" not in content
    assert not {"script", "link", "iframe", "object", "a"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    used, named = set(re.findall(r"var\((--[\w-]+)\)", content)), set(re.findall(r"(--[\w-]+)\s*:", content))
    assert used <= named


def test_hostile_texts_stay_texts(tmp_path):
    rows = [row(HOSTILE, image_auroc=0.9, per_defect={HOSTILE: defect(1, 0.9)}, changed_options={"weights": HOSTILE})]
    shown = (example(HOSTILE, HOSTILE, True, {HOSTILE: 2.0}),)
    found = comparison(rows, (Failure(method=HOSTILE, error=HOSTILE),), shown)
    content = write_comparison(tmp_path / "page.html", found).read_text(encoding="utf-8")
    assert "<script" not in content
    assert Page(content).text.count(HOSTILE) >= 8


def test_when_nothing_could_be_compared_the_page_says_why(tmp_path):
    text = Page(write_comparison(tmp_path / "page.html", comparison([], (FAILURE,))).read_text(encoding="utf-8")).text
    assert "No method could be compared." in text
    assert "WeightsNotFound" in text
    assert "Side by side" not in text


def test_figures_that_no_row_has_have_no_column(tmp_path):
    rows = [row("one", image_auroc=0.9), row("two", image_auroc=0.8)]
    text = Page(write_comparison(tmp_path / "page.html", comparison(rows)).read_text(encoding="utf-8")).text
    assert "Image AUROC" in text
    assert "AUPRO" not in text and "By type of defect" not in text


def test_the_text_table_has_the_same_figures():
    lines = as_text(FOUND).splitlines()
    assert len(lines[0]) > 80
    assert "★ 0.985 [0.951\N{EN DASH}1.000]" in lines[1] and "1 of 3" in lines[1]
    assert "≈ 0.984 [0.949\N{EN DASH}1.000]" in lines[2] and "2 of 4" in lines[2] and "1 of 4" in lines[2]
    assert "★ 12.0 ms  " in lines[4]  # a terminal is too narrow for every interval
    assert "★ 12.0 ms [11.0\N{EN DASH}13.0]" in table_cells(ROWS)[4]
