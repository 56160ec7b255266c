"""The report: complete, self-contained, safe whatever its texts hold."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad.demo.charts import score_axis
from edge_ad.demo.parts import draw_part
from edge_ad.demo.report import EngineRow, InspectedPart, PrecisionRow, Report, write_report
from edge_ad.errors import DataError
from edge_ad.inspection import Inspection
from edge_ad.report.axis import Axis, figure
from tests.html_page import Page

HOSTILE = "<script>alert('x')</script>\"&"


def part(name: str, truth: str, score: float) -> InspectedPart:
    noise = np.random.default_rng(len(name)).integers(0, 255, (12, 16, 3), np.uint8)
    image = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    found = Inspection(
        score=score,
        threshold=1.0,
        anomaly_map=np.zeros((8, 8), np.float32),
        regions=(),
        latency_ms=4.5,
        precision="int8",
        backend="onnxruntime-cpu",
    )
    return InspectedPart(name=name, truth=truth, image=image, overlay=255 - image, inspection=found)


PARTS = (
    part("good-0.png", "good", 0.2),
    part("good-1.png", "good", 1.3),
    part("dent-0.png", "dent", 2.0),
    part("dent-1.png", "dent", 0.7),
    part("scratch-0.png", "scratch", 3.0),
)
PRECISION = PrecisionRow(
    precision="int8",
    image_auroc=0.9876,
    pixel_auroc=None,
    score_shift=0.0123,
    map_error=0.0045,
    threshold=1.0,
    graph_bytes=2_800_000,
    latency_ms=7.89,
)
ENGINE = EngineRow(
    precision="int8", target="sm120", flavour="rtx", version="1.7.1", engine_bytes=6_100_000, build_s=12.34
)
REPORT = Report(
    title="Flange",
    subtitle="SimpleNet, int8",
    parts=PARTS,
    precisions=(PRECISION,),
    engines=(ENGINE, replace(ENGINE, target="sm89", build_s=None)),
    provenance={"Method": "simplenet", "Options": "seed 7"},
)


def written(tmp_path: Path, report: Report) -> str:
    return write_report(tmp_path / "report.html", report).read_text(encoding="utf-8")


def test_every_part_is_listed_with_its_verdict_and_pictures(tmp_path):
    page = Page(written(tmp_path, REPORT))
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert all(f" {part.name} " in page.text for part in PARTS)
    assert page.cells("Verdict") == page.cells("Score") == len(PARTS)
    assert page.cells("Threshold") == page.cells("Latency") == len(PARTS) + 1  # and one of the precision
    # Two pictures for each part, and in the gallery one for each of three kinds and one for the highest good part.
    assert page.tags.count("img") == 2 * len(PARTS) + 4


def test_the_verdicts_are_counted(tmp_path):
    page = Page(written(tmp_path, REPORT))
    assert "2 of 3 defects found, 1 of 2 good parts rejected." in page.text
    assert "Parts inspected 5 Defects found 2 of 3 Defects missed 1 of 3 False rejects 1 of 2" in page.text
    assert "Dent 2 1 1 50 % 0.700" in page.text
    assert "Scratch 1 0 1 100 % 3.00" in page.text
    assert "Good 2 1 1 50 % 1.30" in page.text
    assert page.text.count("Anomalous, wrong") == 3  # in the table, and in the gallery as typical and as highest
    assert "Wrong verdicts" in page.text


def test_a_flawless_stream_says_so(tmp_path):
    page = Page(written(tmp_path, replace(REPORT, parts=(PARTS[0], PARTS[2]))))
    assert "1 of 1 defect found, none of 1 good part rejected." in page.text
    assert "rong" not in page.text


def test_costs_engines_and_provenance_are_shown(tmp_path):
    text = Page(written(tmp_path, REPORT)).text
    assert "int8 0.9876 none 1.2 % 0.45 % 1.00 2.8 MB 7.89 ms" in text
    assert "sm120 TensorRT-RTX 1.7.1 int8 6.1 MB 12.3 s" in text
    assert "sm89 TensorRT-RTX 1.7.1 int8 6.1 MB kept" in text
    assert "Method simplenet Options seed 7" in text


def test_sections_without_content_are_left_out(tmp_path):
    bare = replace(REPORT, precisions=(), engines=(), provenance={})
    text = Page(written(tmp_path, bare)).text
    assert not re.search("Engines|precision costs|Provenance", text)
    assert "Every part" in text


def test_the_page_asks_nothing_of_the_network(tmp_path):
    content = written(tmp_path, REPORT)
    page = Page(content)
    assert "http:" not in content and "https:" not in content and "@import" not in content and "url(" not in content
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_the_pictures_are_those_that_came(tmp_path):
    sources = [value for name, value in Page(written(tmp_path, REPORT)).attributes if name == "src"]
    for source, original in zip(sources[-2:], (PARTS[-1].image, PARTS[-1].overlay), strict=True):
        encoded = np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8)
        expected = cv2.resize(original, (256, 192), interpolation=cv2.INTER_AREA).astype(int)
        assert (
            np.abs(cv2.imdecode(encoded, cv2.IMREAD_COLOR) - expected).mean() < 6
        )  # what JPEG loses in strong colours


def test_hostile_texts_stay_texts(tmp_path):
    hostile = Report(
        title=HOSTILE,
        subtitle=HOSTILE,
        parts=(part(HOSTILE, HOSTILE, 2.0), PARTS[0]),
        precisions=(replace(PRECISION, precision=HOSTILE),),
        engines=(replace(ENGINE, target=HOSTILE, flavour=HOSTILE, version=HOSTILE, precision=HOSTILE),),
        provenance={HOSTILE: HOSTILE},
    )
    content = written(tmp_path, hostile)
    page = Page(content)
    assert "script" not in page.tags and "<script" not in content
    assert page.text.count(HOSTILE) >= 10
    assert any(name == "alt" and value == HOSTILE for name, value in page.attributes)


def test_light_dark_and_narrow_are_served(tmp_path):
    content = written(tmp_path, REPORT)
    assert "prefers-color-scheme: dark" in content and "max-width: 640px" in content
    assert 'name="viewport"' in content
    used, named = set(re.findall(r"var\((--[\w-]+)\)", content)), set(re.findall(r"(--[\w-]+)\s*:", content))
    assert used <= named


def test_a_hundred_parts_stay_below_five_megabytes(tmp_path):
    image = draw_part(np.random.default_rng(0))[0]
    many = tuple(replace(PARTS[0], name=f"{index:03}.png", image=image, overlay=image) for index in range(100))
    assert 1e6 < len(written(tmp_path, replace(REPORT, parts=many))) < 5e6


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(self: Path, content: bytes) -> int:
        with open(self, "wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_report(path, REPORT)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_a_report_of_nothing_is_refused():
    with pytest.raises(DataError, match="at least one inspected part"):
        replace(REPORT, parts=())


def test_a_few_huge_scores_make_the_axis_logarithmic():
    assert score_axis([1.0, 1.1, 1.2, 500.0], 2.0).log
    assert not score_axis([1.0, 1.1, 1.2, 3.0], 2.0).log
    assert not score_axis([-1.0, 1.1, 1.2, 500.0], 2.0).log


@pytest.mark.parametrize(
    "axis", [Axis(low=0.0, high=1.9), Axis(low=-3.0, high=40.0), Axis(low=0.1, high=700, log=True)]
)
def test_ticks_are_round_and_on_the_axis(axis):
    ticks = axis.ticks()
    assert 3 <= len(ticks) <= 12
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert all(float(f"{tick:.2g}") == pytest.approx(tick) for tick in ticks)
    places = [axis.place(tick) for tick in ticks]
    assert places == sorted(places) and places[0] >= 0 and places[-1] <= 1
    assert (axis.place(axis.low), axis.place(axis.high)) == (0, 1)


def test_equal_scores_still_have_an_axis(tmp_path):
    same = tuple(replace(p, inspection=replace(p.inspection, score=0.0, threshold=0.0)) for p in PARTS)
    assert "threshold 0" in Page(written(tmp_path, replace(REPORT, parts=same))).text


@pytest.mark.parametrize(
    "value, expected",
    [
        (0, "0"),
        (0.0123, "0.0123"),
        (4.256, "4.26"),
        (123.4, "123"),
        (12345.6, "12,346"),
        (2e-5, "2.00e-05"),
        (-1.5, "-1.50"),
    ],
)
def test_figures_have_three_digits(value, expected):
    assert figure(value) == expected
