"""The accuracy benchmark: which runs it compares on which data set, and what it writes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.regions import REGIONS
from edge_ad.compare.contenders import Contender
from edge_ad.compare.findings import Comparison, Failure
from tests.compare.rows import comparison, row

ROWS = [
    row("patches", "fp32", image_auroc=0.985, intervals={"image_auroc": (0.951, 1.0)}, false_rejects=1),
    row("patches", image_auroc=0.984, intervals={"image_auroc": (0.949, 1.0)}, latency_p50_ms=11.0),
]
FAILURE = Failure(method="lost", error="WeightsNotFound: No weights.\n  fix: --weights FILE")


class Compared(list[tuple[Path, list[Contender], bool]]):
    """In place of `compare`: writes down what it was asked."""

    def __call__(
        self,
        folder: Path,
        contenders: list[Contender],
        *,
        fp16: bool,
        budget: float | None,
        slim: bool,
        region: Path | None,
    ) -> Comparison:
        self.append((folder, contenders, fp16, budget, slim, region))
        return comparison(ROWS, (FAILURE,))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    finished = tmp_path / "runs" / "simplenet-nuts"
    finished.mkdir(parents=True)
    (finished / "run.json").touch()
    return tmp_path / "runs"


@pytest.fixture
def measured(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Words of the command line to what was compared."""

    def measure(*words: str) -> Compared:
        compared = Compared()
        monkeypatch.setattr("benchmarks.accuracy.compare", compared)
        places = ["--data", tmp_path / "data", "--runs", runs, "--results", tmp_path / "results"]
        command = ["benchmarks", "accuracy", *places, "--datasets", "nuts", "cookies", *words]
        monkeypatch.setattr("sys.argv", [str(word) for word in command])
        assert main() == 0
        return compared

    return measure


def test_finished_runs_are_taken_as_they_are_and_the_rest_is_trained_as_asked(measured, tmp_path, runs):
    asked = ("--methods", "simplenet", "efficientad-s", "--weights", "r18.pth", "--set", "simplenet.steps=7", "--fp16")
    (nuts, of_nuts, fp16, budget, slim, region), (cookies, of_cookies, *_) = measured(*asked, "--budget", "0.2")
    assert (nuts, cookies, fp16) == (tmp_path / "data" / "nuts", tmp_path / "data" / "cookies", True)
    assert (budget, slim, region) == (0.2, False, None)
    assert [(one.run, one.settings) for one in of_nuts] == [
        (runs / "simplenet-nuts", {}),
        (runs / "efficientad-s-nuts", {}),  # takes no backbone
    ]
    assert of_cookies[0].run == runs / "simplenet-cookies"
    assert of_cookies[0].settings == {"backbone": "resnet18", "weights": Path("r18.pth"), "steps": 7}


def test_what_is_not_trained_can_be_left_out(measured, tmp_path):
    ((nuts, contenders, *_),) = measured("--trained-only")
    assert nuts.name == "nuts"
    assert [one.method for one in contenders] == ["simplenet"]
    assert list(json.loads((tmp_path / "results" / "accuracy.json").read_text())["datasets"]) == ["nuts"]


def test_every_figure_is_written_and_a_table_people_can_read(measured, tmp_path):
    measured("--weights", "folder/r18.pth", "--pages", str(tmp_path / "pages"))
    content = json.loads((tmp_path / "results" / "accuracy.json").read_text())
    expected = json.loads(json.dumps([dataclasses.asdict(one) for one in ROWS]))
    assert content["datasets"]["cookies"]["rows"] == content["datasets"]["nuts"]["rows"] == expected
    assert content["datasets"]["nuts"]["failures"] == [dataclasses.asdict(FAILURE)]
    text = (tmp_path / "results" / "accuracy.md").read_text()
    dash = "\N{EN DASH}"
    assert text.count(f"| patches | float32 | ★ 0.985 [0.951{dash}1.000] | 20.0 ms [19.0{dash}21.0] |") == 2
    assert text.count(f"| patches | INT8 | ≈ 0.984 [0.949{dash}1.000] | ★ 11.0 ms [10.0{dash}12.0] |") == 2
    assert "lost failed: WeightsNotFound: No weights." in text
    assert {file.name for file in (tmp_path / "pages").iterdir()} == {"nuts.html", "cookies.html"}


def test_the_command_is_told_without_this_machines_folders(measured, tmp_path):
    measured("--weights", "folder/r18.pth", "--methods", "simplenet")
    content = (tmp_path / "results" / "accuracy.json").read_text()
    assert str(tmp_path) not in content
    assert json.loads(content)["command"] == (
        "python -m benchmarks accuracy --data DATA --runs RUNS --weights RESNET18 --datasets nuts cookies "
        "--methods simplenet"
    )


def test_lower_ranks_have_a_result_of_their_own(measured, tmp_path):
    compared = measured("--trained-only", "--slim")
    assert [slim for *_, slim, _ in compared] == [True]
    assert "--slim" in (tmp_path / "results" / "accuracy-slim.md").read_text()
    assert not (tmp_path / "results" / "accuracy.md").exists()


def test_a_region_has_a_result_of_its_own_and_methods_that_have_one(measured, tmp_path, runs, monkeypatch):
    """Of 40 x 30 pixels; CutPaste's score describes the whole image."""
    monkeypatch.setitem(REGIONS, "nuts", ("rectangle", 0.25, 0.5, 0.75, 1.0))
    monkeypatch.setitem(REGIONS, "cookies", ("ellipse", 0.1, 0.1, 0.9, 0.9))
    for name in ("nuts", "cookies"):
        for place in ("train/good", "test/good", "test/bent"):
            (tmp_path / "data" / name / place).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / "data" / name / place / "0.png"), np.zeros((40, 30, 3), np.uint8))
    (_, contenders, *_, region), _ = measured("--methods", "simplenet", "cutpaste", "--region")
    assert [one.method for one in contenders] == ["simplenet"]
    assert region == runs / "region-nuts.png"
    mask = cv2.imread(str(region), cv2.IMREAD_GRAYSCALE) > 0
    assert mask[10:30, 15:].all() and mask.sum() == 20 * 15
    assert "--region" in (tmp_path / "results" / "accuracy-region.md").read_text()
