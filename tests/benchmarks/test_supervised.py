"""The supervised benchmark: what is learnt from is never judged on, and both kinds of training are judged alike."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.supervised import FIGURES, as_text, with_half_of_the_defects
from edge_ad.methods.supersimplenet import SuperSimpleNet, SuperSimpleNetOptions
from edge_ad.training.dataset import open_dataset
from edge_ad.training.fit_supersimplenet import empty_supersimplenet
from edge_ad.training.run import Split


def test_half_of_the_marked_defects_is_learnt_from_and_never_judged_on(parts_dataset: Path) -> None:
    dataset = open_dataset(parts_dataset)
    marked = {image.path for image in dataset.test if image.masks}
    halves = [with_half_of_the_defects(dataset, seed) for seed in (0, 0, 1, 2, 3)]
    assert halves[0] == halves[1] and len({half.defects for half in halves}) > 1
    for half in halves:
        learnt, judged = {image.path for image in half.defects}, {image.path for image in half.test}
        assert learnt <= marked and len(learnt) == len(marked) // 2 > 0
        assert learnt | judged == {image.path for image in dataset.test} and not learnt & judged


def test_both_trainings_are_given_and_judged_on_the_same_images(
    parts_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def fit(split: Split, options: SuperSimpleNetOptions, folder: Path) -> SuperSimpleNet:
        trained.append((split, options))
        return empty_supersimplenet(options).eval()

    monkeypatch.setattr("edge_ad.training.fit_supersimplenet.fit_supersimplenet", fit)
    words = ("--data", parts_dataset, "--backbone", "pdn-s", "--steps", 7, "--results", tmp_path, "--json")
    monkeypatch.setattr("sys.argv", ["benchmarks", "supervised", *map(str, words)])
    assert main() == 0
    (split, options), (other_split, other_options) = trained
    assert split == other_split and len(split.defects) > 0 and options.steps == 7
    assert (options.supervised, options.perlin_threshold) == (False, 0.2)
    assert other_options == dataclasses.replace(options, supervised=True, perlin_threshold=0.6)
    result = json.loads((tmp_path / "supervised.json").read_text())
    assert [row["supervised"] for row in result["rows"]] == [False, True]
    assert all(0 <= row[figure] <= 1 for row in result["rows"] for figure in FIGURES)
    tested = result["test_good"] + result["test_defective"] + result["learnt_defects"]
    assert tested == len(open_dataset(parts_dataset).test)
    assert len(as_text(result).splitlines()) == 6
