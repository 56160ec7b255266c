"""Shares of the budget, computed by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from calibration.budget import Budget, image_auroc
from calibration.cost import Cost
from edge_ad.backends.onnxruntime import open_session
from edge_ad.frame import read_image
from edge_ad.training.dataset import Dataset, TestImage
from tests.calibration.graphs import two_convolutions, write_images
from tests.calibration.judges import judge_of

EXACT = Cost(score_shift=0, score_shift_mean=0, rank_correlation=1, map_error=0, map_correlation=1, latency_ms=1.0)


def cost(**changed: float) -> Cost:
    return dataclasses.replace(EXACT, **changed)


@pytest.mark.parametrize(
    ("of", "lost", "points", "used"),
    [
        (cost(), None, 0.1, 0.0),
        (cost(score_shift=0.75), None, 0.1, 1.0),
        (cost(score_shift=0.75), None, 0.3, 1 / 3),
        (cost(rank_correlation=0.96), None, 0.1, 2.0),
        (cost(map_correlation=0.85), None, 10.0, 1.5),
        (cost(score_shift=9.0, rank_correlation=0.5), 0.0005, 0.1, 0.5),
        (cost(map_correlation=0.8), 0.0, 0.1, 2.0),
        (cost(), 0.002, 0.2, 1.0),
        (cost(), -0.01, 0.1, 0.0),
    ],
)
def test_the_share_used_is_that_of_the_worst_figure(of: Cost, lost: float | None, points: float, used: float) -> None:
    """With labels, lost AUROC and the maps count; without, score shift and rank stand in for AUROC."""
    assert max(0.0, Budget(points=points).used(of, lost)) == pytest.approx(used)


def test_image_auroc_is_the_share_of_pairs_in_order(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 7)
    session = open_session(two_convolutions(), "it")
    scores = [float(session.run(["score"], {"image": read_image(path)[None]})[0][0]) for path in paths]
    truth = [False, True, False, True, True, False, True]
    items = [
        TestImage(path=path, defect="scratch" if bad else "good", masks=None)
        for path, bad in zip(paths, truth, strict=True)
    ]
    pairs = [scores[b] > scores[g] for b in range(7) for g in range(7) if truth[b] and not truth[g]]
    dataset = Dataset(root=tmp_path, train=(), validation=(), test=tuple(items))
    auroc = sum(pairs) / len(pairs)
    assert image_auroc(session, dataset) == pytest.approx(auroc)

    judge, _ = judge_of(two_convolutions(), tmp_path / "frames", points=5.0)
    judge.labelled, judge.auroc = dataset, auroc + 0.02
    trial = judge.trial(two_convolutions(), whole=False)
    assert trial.image_auroc == pytest.approx(auroc) and trial.used == pytest.approx(0.4), "2 of 5 points lost"


def test_labels_are_not_asked_where_the_maps_are_lost_already(tmp_path: Path) -> None:
    judge, _ = judge_of(two_convolutions(), tmp_path / "frames")
    path = write_images(tmp_path / "one", 1)[0]
    items = tuple(TestImage(path=path, defect=defect, masks=None) for defect in ("good", "scratch"))
    judge.labelled, judge.auroc = Dataset(root=tmp_path, train=(), test=items), 0.5
    other = two_convolutions(gain=-0.05)
    assert judge.trial(other, whole=False).image_auroc is None and judge.trial(other, whole=False).used > 1
    assert judge.trial(other, whole=True).image_auroc == 0.5


def test_a_trial_knows_what_labels_say(tmp_path: Path) -> None:
    judge, _ = judge_of(two_convolutions(), tmp_path / "frames")
    assert judge.trial(two_convolutions(), whole=True).image_auroc is None
    assert judge.trial(two_convolutions(), whole=True).used == pytest.approx(0, abs=1e-6)
    worse = judge.trial(two_convolutions(gain=0.2), whole=True)
    assert worse.used > 1 and not worse.within_budget
