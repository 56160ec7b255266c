"""The page of a calibration: from a real report."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration.flow import CalibrationOptions, calibrate
from calibration.page import write_calibration_page
from edge_ad.bundle import Bundle
from tests.calibration.graphs import two_convolutions, write_images
from tests.golden_bundle import bundle_of


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Of a graph whose first convolution spoils INT8."""
    folder = tmp_path_factory.mktemp("page")
    bundle: Bundle = bundle_of(folder / "it.bundle", {"fp32": two_convolutions(outlier=1000.0)})
    paths = write_images(folder / "images", 12)
    return calibrate(bundle, CalibrationOptions(images=paths[0].parent, precisions=("fp16", "int8", "fp8")))


def page(report: dict, path: Path) -> str:
    return write_calibration_page(path, "it.bundle", report).read_text()


def test_every_precision_is_there_and_the_layer_that_was_left_out(report: dict, tmp_path: Path) -> None:
    assert report["int8"]["float_layers"] == ("conv1",)
    text = page(report, tmp_path / "page.html")
    assert all(f'<td class="name">{name}</td>' in text for name in ("float32", "FP16", "INT8", "FP8"))
    section = text.partition("INT8 keeps to its budget of 0.1 points")[2].partition("</section>")[0]
    assert section.count("<rect") == 2 and section.count('class="bar kept"') == 1
    assert 'class="layer kept">conv1</text>' in section and 'class="layer">conv2</text>' in section
    assert section.count("(taken)") == 1


def test_what_holds_of_itself_was_not_measured_layer_by_layer(report: dict, tmp_path: Path) -> None:
    section = page(report, tmp_path / "page.html").partition("FP16 keeps")[2].partition("</section>")[0]
    assert "Nothing had to be left out" in section and "<rect" not in section


def test_a_missed_budget_is_called_so(report: dict, tmp_path: Path) -> None:
    missed = report | {"int8": report["int8"] | {"within_limits": False, "budget_used": 12.3}}
    text = page(missed, tmp_path / "page.html")
    assert "INT8 misses its budget" in text and "12 times" in text


def test_names_from_the_graph_are_escaped(report: dict, tmp_path: Path) -> None:
    evil = {"<script>": 1.0}
    row = report["int8"] | {"sensitivity": evil, "float_layers": ["<script>"], "overflowing": {"<b>": 7e4}}
    text = page(report | {"int8": row}, tmp_path / "page.html")
    assert "<script>" not in text and "<b>" not in text and "&lt;script&gt;" in text
