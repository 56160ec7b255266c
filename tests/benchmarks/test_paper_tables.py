"""The papers' tables: the facts, what is found of the data, differences by hand, and the whole way once."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import paper_tables
from benchmarks.paper_tables import as_text, caveats, discover, measure, table, training_settings
from benchmarks.papers import DATASETS, FACTS, RECIPES, Fact
from edge_ad.errors import DatasetLayoutError
from edge_ad.training.dataset import open_dataset
from edge_ad.training.evaluate import evaluate
from edge_ad.training.registry import METHODS
from tests.habits.repository import ROOT
from tests.trained import OPTIONS

REPORTED = {
    ("cutpaste", "MVTec AD", "image AUROC"): [95.2, 96.1, 96.6, 97.1],
    ("uninformed-students", "MVTec AD", "image AUROC"): [92.5],
    ("simplenet", "MVTec AD", "image AUROC"): [99.6],
    ("simplenet", "MVTec AD", "pixel AUROC"): [98.1],
    ("supersimplenet", "MVTec AD", "image AUROC"): [98.4],
    ("supersimplenet", "KSDD2", "image AP"): [97.4],
    ("efficientad-s", "MVTec AD", "image AUROC"): [98.8],
    ("efficientad-m", "MVTec AD", "image AUROC"): [99.1],
    ("efficientad-s", "VisA", "image AUROC"): [97.5],
    ("efficientad-m", "VisA", "image AUROC"): [98.1],
    ("efficientad-s", "MVTec LOCO AD", "image AUROC, mean over the types of anomaly"): [90.0],
    ("efficientad-m", "MVTec LOCO AD", "image AUROC, mean over the types of anomaly"): [90.7],
}


def command(root: Path, runs: Path, **changes: Any) -> argparse.Namespace:
    """A parsed command line."""
    parser = argparse.ArgumentParser()
    paper_tables.add_arguments(parser)
    parsed = parser.parse_args(["--root", str(root), "--runs", str(runs)])
    return argparse.Namespace(**{**vars(parsed), **changes})


def test_the_facts_are_what_the_papers_report() -> None:
    facts: dict[tuple[str, str, str], list[float]] = {}
    for fact in FACTS:
        key = (fact.method, DATASETS[fact.dataset].name, paper_tables.NAMES[fact.metric])
        facts.setdefault(key, []).append(fact.value)
    assert facts == REPORTED
    supervised = {fact.dataset: RECIPES[fact.recipe].settings["supervised"] for fact in FACTS if "super" in fact.method}
    assert supervised == {"mvtec-ad": False, "ksdd2": True}
    assert all(fact.source for fact in FACTS)


def test_the_data_sets_are_whole() -> None:
    """The sums that their papers give: images to train on, images to test on, categories."""
    sums = {
        one.name: (*(sum(sizes) for sizes in zip(*one.sizes.values(), strict=True)), len(one.sizes))
        for one in DATASETS.values()
    }
    assert sums == {
        "MVTec AD": (3629, 1725, 15),
        "MVTec LOCO AD": (1772, 1568, 5),
        "VisA": (8659, 2162, 12),
        "KSDD2": (2331 - 246, 1004, 1),
    }


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_names_options_that_the_method_has(name: str) -> None:
    recipe = RECIPES[name]
    if recipe.method not in METHODS:
        pytest.skip(f"{recipe.method} is not among the methods")
    options = METHODS[recipe.method].load().options
    options(**recipe.settings)
    for field in dataclasses.fields(options):
        choices, value = field.metadata["choices"], recipe.settings.get(field.name)
        if choices and value is not None:
            assert set(value if isinstance(value, tuple) else (value,)) <= set(choices)


def make_folders(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True)


def test_categories_are_found_at_every_depth_and_in_the_papers_order(tmp_path: Path) -> None:
    make_folders(tmp_path, "zipper/train", "MVTec/bottle/train", "MVTec/cookie/train", "carpet/images")
    make_folders(tmp_path, "VisA/pcb1/Data", "VisA/split_csv", "loco/pushpins/train", "KolektorSDD2/train")
    assert discover(tmp_path) == {
        "mvtec-ad": {"bottle": tmp_path / "MVTec/bottle", "zipper": tmp_path / "zipper"},
        "mvtec-loco": {"pushpins": tmp_path / "loco/pushpins"},
        "visa": {"pcb1": tmp_path / "VisA/pcb1"},
        "ksdd2": {"ksdd2": tmp_path / "KolektorSDD2"},
    }
    assert list(discover(tmp_path)["mvtec-ad"]) == ["bottle", "zipper"]
    assert discover(tmp_path / "zipper") == {"mvtec-ad": {"zipper": tmp_path / "zipper"}}


def test_data_of_no_paper_is_refused(tmp_path: Path) -> None:
    make_folders(tmp_path, "cookie/train/good")
    with pytest.raises(DatasetLayoutError, match="no data set of the papers") as caught:
        measure(command(tmp_path, tmp_path / "runs"))
    assert "metal_nut" in str(caught.value.expected) and caught.value.got == "cookie"


def row(category: str, value: float | None, *notes: str, why_not: str | None = None) -> dict[str, Any]:
    interval = None if value is None else [value - 1, value + 1]
    return {"category": category, "value": value, "interval": interval, "caveats": list(notes), "why_not": why_not}


def test_the_difference_by_hand() -> None:
    """(98 + 99.5) / 2 = 98.75, which is 0.85 below 99.6; a category without a figure counts as missing."""
    fact = next(one for one in FACTS if (one.recipe, one.metric) == ("simplenet", "image_auroc"))
    rows = [row("bottle", 98.0, "a", "b"), row("wood", 99.5, "b", "c"), row("tile", None, why_not="no finished run")]
    made = table(fact, rows)
    assert (made["mean"], made["paper"]) == (98.75, 99.6)
    assert made["difference"] == pytest.approx(-0.85)
    assert (made["categories"], made["of"], len(made["missing"])) == (2, 15, 13) and "tile" in made["missing"]
    assert made["caveats"] == ["a", "b", "c"]
    nothing = table(fact, [row("tile", None, why_not="no finished run")])
    assert (nothing["mean"], nothing["difference"], len(nothing["missing"])) == (None, None, 15)
    machine = {"onnxruntime": "1", "processor": "p"}
    text = as_text({"machine": machine, "tables": [made, nothing], "absent": ["VisA"], "foreign": [], "untrained": []})
    assert "| simplenet | MVTec AD | image AUROC | 2 of 15 | 98.8 | 99.6 | -0.8 | a; b; c |" in text.splitlines()
    assert "| simplenet | MVTec AD | image AUROC | 0 of 15 | - | 99.6 | - | - |" in text.splitlines()
    assert "| bottle | 98.0 | 97.0 to 99.0 |" in text.splitlines()
    assert "Not at hand: VisA." in text
    assert "No figure of tile: no finished run." in text


def test_other_settings_are_said() -> None:
    """160 epochs of 4 images are 40 steps for every image."""
    recipe = RECIPES["simplenet"]
    papers = {"backbone": "wide_resnet50_2", "layers": [2, 3], "batch_patches": 4096, "steps": 8800}
    assert caveats(recipe, papers, 220) == list(recipe.unlike)
    ours = {**papers, "backbone": "resnet18", "steps": 1000, "layers": [3]}
    assert caveats(recipe, ours, 220) == [
        "backbone resnet18 instead of wide_resnet50_2",
        "layers 3 instead of 2 3",
        "steps 1000 instead of 8800",
        *recipe.unlike,
    ]
    pretrained = {**RECIPES["cutpaste"].settings, "pretrained": True}
    assert caveats(RECIPES["cutpaste"], pretrained, 220) == ["pretrained yes instead of no"]


def test_training_takes_the_papers_settings_unless_the_command_says_otherwise(tmp_path: Path) -> None:
    asked = command(tmp_path, tmp_path, weights=Path("w.pth"))
    settings = training_settings(RECIPES["simplenet"], asked, 220)
    assert settings == {**RECIPES["simplenet"].settings, "steps": 8800, "weights": Path("w.pth")}
    other = command(tmp_path, tmp_path, weights=Path("w.pth"), backbone="resnet18", steps=7, penalty_images=Path("n"))
    assert training_settings(RECIPES["simplenet"], other, 220) == {
        **RECIPES["simplenet"].settings,
        "backbone": "resnet18",
        "steps": 7,
        "weights": Path("w.pth"),
    }
    assert training_settings(RECIPES["efficientad-s"], other, 220) == {
        **RECIPES["efficientad-s"].settings,
        "steps": 7,
        "penalty_images": Path("n"),
    }


def test_the_whole_way(
    trained_run: Callable[[str], Path], parts_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set named as a category of MVTec AD, one finished run, one that is missing, one of other images."""
    monkeypatch.setattr("edge_ad.training.intervals.PIXEL_DRAWS", 10)
    shutil.copytree(parts_dataset, tmp_path / "data/MVTec/metal_nut")
    shutil.copytree(parts_dataset, tmp_path / "data/flange")
    shutil.copytree(trained_run("simplenet"), tmp_path / "runs/simplenet-metal_nut")
    arguments = command(tmp_path / "data", tmp_path / "runs", methods=("simplenet", "cutpaste"), trained_only=True)
    result = measure(arguments)
    by_metric = {one["metric"]: one for one in result["tables"] if one["method"] == "simplenet"}
    image, pixel = by_metric["image AUROC"], by_metric["pixel AUROC"]
    expected = judged_plainly(trained_run("simplenet"), parts_dataset, tmp_path)
    assert image["mean"] == pytest.approx(100 * expected["image_auroc"])
    assert pixel["mean"] == pytest.approx(100 * expected["pixel_auroc"], abs=0.01)
    assert image["rows"][0]["interval"] == pytest.approx([100 * end for end in expected["interval"]])
    assert image["difference"] == pytest.approx(image["mean"] - 99.6)
    assert (image["categories"], len(image["missing"])) == (1, 14)
    assert {"backbone pdn-s instead of wide_resnet50_2", f"steps {OPTIONS['simplenet'].steps} instead of 480"} <= set(
        image["caveats"]
    )
    tests = len(open_dataset(parts_dataset).test)
    assert f"metal_nut has 12 of 220 training and {tests} of 115 test images" in image["caveats"]
    cutpaste = [one for one in result["tables"] if one["method"] == "cutpaste"]
    assert len(cutpaste) == 4 and all(one["rows"][0]["why_not"] == "no finished run" for one in cutpaste)
    assert result["absent"] == ["MVTec LOCO AD", "VisA", "KSDD2"] and result["foreign"] == ["flange"]
    assert "| simplenet | MVTec AD | image AUROC | 1 of 15 |" in as_text(result)
    monkeypatch.setattr("edge_ad.training.evaluate.evaluate", lambda *_: pytest.fail("it was judged before"))
    assert json.dumps(measure(arguments)) == json.dumps(result)


def judged_plainly(run: Path, dataset: Path, folder: Path) -> dict[str, Any]:
    """The trained network in torch, without a bundle."""
    import torch

    from edge_ad.methods.graph import InspectionGraph
    from edge_ad.training.train import load_run

    network, record, options = load_run(run)
    graph = InspectionGraph(network, record.camera, options["image_size"]).eval()

    def answer(frames: Any) -> tuple[Any, Any]:
        with torch.inference_mode():
            anomaly_map, score = graph(torch.from_numpy(frames))
        return anomaly_map.numpy(), score.numpy()

    evaluation = evaluate(answer, open_dataset(dataset), record.camera, "torch")
    return {**vars(evaluation), "interval": evaluation.intervals["image_auroc"]}


def test_a_run_that_cannot_be_used_does_not_stop_the_others(
    trained_run: Callable[[str], Path], parts_dataset: Path, tmp_path: Path
) -> None:
    """A run of other images, and a backbone whose weights are not there."""
    shutil.copytree(parts_dataset, tmp_path / "data/juice_bottle")
    shutil.copytree(parts_dataset, tmp_path / "data/wood")
    for good in (tmp_path / "data/wood/train/good").iterdir():
        good.write_bytes((tmp_path / "data/wood/test/good/000.png").read_bytes())
    shutil.copytree(trained_run("simplenet"), tmp_path / "runs/simplenet-wood")
    arguments = command(tmp_path / "data", tmp_path / "runs", methods=("simplenet",), weights=tmp_path / "absent.pth")
    (image, _) = measure(arguments)["tables"]
    assert "was trained on other images" in image["rows"][0]["why_not"] and image["mean"] is None
    shutil.rmtree(tmp_path / "runs/simplenet-wood")
    (image, _) = measure(arguments)["tables"]
    assert image["rows"][0]["why_not"].startswith("WeightsNotFound") and math.isclose(image["paper"], 99.6)


def test_types_of_anomaly_count_alike() -> None:
    """MVTec LOCO's figure is the mean over logical and structural anomalies; with one of them that is said."""
    judged = {
        "figures": {"image_auroc_by_type": 0.9},
        "intervals": {},
        "types": ["logical_anomalies"],
        "caveats": ["x"],
    }
    made = paper_tables._row("image_auroc_by_type", "juice_bottle", judged)
    assert made["value"] == 90.0 and made["interval"] is None
    assert made["caveats"] == ["x", "juice_bottle has logical anomalies only"]
    both = {**judged, "types": ["logical_anomalies", "structural_anomalies"]}
    assert paper_tables._row("image_auroc_by_type", "juice_bottle", both)["caveats"] == ["x"]
    unmarked = {**judged, "figures": {"pixel_auroc": None}}
    assert paper_tables._row("pixel_auroc", "metal_nut", unmarked)["why_not"] == "the test images have no masks"


def test_the_file_is_a_command_too(tmp_path: Path) -> None:
    """From any folder; what is wrong is said in one line and an exit code."""
    asked = [sys.executable, str(ROOT / "benchmarks/paper_tables.py"), "--root", str(tmp_path), "--runs", str(tmp_path)]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("DatasetLayoutError: ")


def test_a_fact_is_one_line_of_a_papers_table() -> None:
    """Nothing is reported twice, and every recipe is reported."""
    keys = [(fact.recipe, fact.dataset, fact.metric, fact.value) for fact in FACTS]
    assert len(set(keys)) == len(keys)
    assert {fact.recipe for fact in FACTS} == set(RECIPES)
    assert isinstance(FACTS[0], Fact) and all(50 < fact.value < 100 for fact in FACTS)
