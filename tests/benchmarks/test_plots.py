"""Pictures of results: what they show, and that the same figures give the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.plots import draw_accuracy, draw_scale
from tests.compare.rows import row

ROWS = [
    row("simplenet", "fp32", image_auroc=0.985, intervals={"image_auroc": (0.951, 1.0)}, latency_p50_ms=10.0),
    row("simplenet", "int8", image_auroc=0.984, intervals={"image_auroc": (0.949, 1.0)}, latency_p50_ms=5.0),
]
DATASETS: dict[str, Any] = {
    "nuts": {"rows": ROWS},
    "empty": {"rows": []},
    "bolts": {"rows": ROWS},
}
SCALE = {
    "batches": [{"batch": 1, "ms_per_frame": 4.0}, {"batch": 8, "ms_per_frame": 4.1}],
    "cameras": [{"camera": [256, 256], "ms": 4.0}, {"camera": [1200, 1920], "ms": 5.0}],
    "at_once": [{"cameras": 1, "images_per_s": 20.0}, {"cameras": 4, "images_per_s": 22.0}],
    "recipes": {"resident_mb": [50.0, 100.0, 110.0]},
}


def words(path: Path) -> set[str]:
    return {
        "".join(text.itertext()).strip() for text in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    }


def test_every_data_set_has_its_panel_and_every_method_its_key(tmp_path: Path) -> None:
    draw_accuracy(tmp_path / "new" / "accuracy.svg", DATASETS)
    assert words(tmp_path / "new" / "accuracy.svg") >= {"nuts", "bolts", "simplenet", "float32", "INT8", "latency, ms"}


def test_of_no_data_set_there_is_no_picture(tmp_path: Path) -> None:
    draw_accuracy(tmp_path / "accuracy.svg", {})
    assert not (tmp_path / "accuracy.svg").exists()


def test_what_more_costs_in_four_panels(tmp_path: Path) -> None:
    draw_scale(tmp_path / "scale.svg", SCALE)
    assert words(tmp_path / "scale.svg") >= {"Batch", "Resolution", "Cameras", "Recipes", "resident MB"}


@pytest.mark.parametrize(("draw", "figures"), [(draw_accuracy, DATASETS), (draw_scale, SCALE)])
def test_the_same_figures_give_the_same_bytes(tmp_path: Path, draw: Any, figures: Any) -> None:
    for name in ("one.svg", "two.svg"):
        draw(tmp_path / name, figures)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (
        b"1970" not in (tmp_path / "one.svg").read_bytes() and b"<dc:date>" not in (tmp_path / "one.svg").read_bytes()
    )
