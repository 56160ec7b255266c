"""Shares of the budget, computed by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from calibration.budget import Budget, image_auroc
from calibration.cost import Cost
from calibration.flow import CalibrationOptions, calibrate
from edge_ad.backends.onnxruntime import OUTPUTS, open_session
from edge_ad.backends.openvino import OpenVinoSession
from edge_ad.frame import read_image
from edge_ad.training.dataset import Dataset, TestImage
from tests.calibration.graphs import small_bundle, two_convolutions, write_images
from tests.calibration.judges import EXACT, judge_of


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


class Answering:
    """A runtime that gives one map and score for every frame."""

    def __init__(self, expected: list, off_by: float) -> None:
        self._answers, self._off_by = iter(expected), off_by

    def run(self, outputs: object, feeds: object) -> tuple:
        anomaly_map, score = next(self._answers)
        return anomaly_map, score + self._off_by


@pytest.mark.parametrize(("off_by", "counts"), [(0.0, "here"), (3.0, "elsewhere")])
def test_the_budget_has_to_hold_in_every_runtime(tmp_path: Path, off_by: float, counts: str) -> None:
    """The other runtime gives the same answers, or scores three spreads higher than the threshold was fitted to."""
    judge, _ = judge_of(two_convolutions(), tmp_path)
    candidate = two_convolutions(gain=0.0501)
    alone = judge.trial(candidate, whole=False)
    assert 0 < alone.used < 1
    answers = judge.reference.answered_by(open_session(candidate, "it")).answers
    judge.elsewhere = lambda graph: Answering(list(answers), off_by * judge.reference.spread)
    both = judge.trial(candidate, whole=False)
    if counts == "here":
        assert both.used == alone.used
    else:
        spread = judge.reference.spread
        came, wanted = ([score.item() for _, score in given] for given in (answers, judge.reference.answers))
        shifts = np.subtract(came, wanted) / spread
        beyond = np.abs(shifts - shifts[::2].mean() + 3.0).max()  # every other frame is a good part's
        assert both.used == pytest.approx(beyond / 0.75, rel=1e-4) and not both.within_budget


def test_no_other_runtime_is_asked_about_what_failed_here(tmp_path: Path) -> None:
    judge, _ = judge_of(two_convolutions(), tmp_path)
    judge.elsewhere = lambda graph: pytest.fail("it was asked")
    assert judge.trial(two_convolutions(gain=0.5), whole=False).used > 1


def test_openvino_is_asked_about_int8_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    report = calibrate(
        small_bundle(tmp_path / "it.bundle"), CalibrationOptions(images=write_images(tmp_path / "images", 12)[0].parent)
    )
    assert report["int8"]["judged_on"] == ["onnxruntime", "openvino"]
    assert report["fp16"]["judged_on"] == ["onnxruntime"]


def test_openvinos_session_answers_as_onnx_runtimes_does(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    graph = two_convolutions()
    (path,) = write_images(tmp_path, 1)
    image = read_image(path)[None]
    wanted = open_session(graph, "it").run(OUTPUTS, {"image": image})
    came = OpenVinoSession(graph, image.shape, "fp32").run(OUTPUTS, {"image": image})
    for one, other in zip(wanted, came, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
