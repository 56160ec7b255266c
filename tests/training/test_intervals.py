"""Bootstrap intervals against scipy's, scikit-learn's weighted metrics, and a distribution whose truth is known."""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from edge_ad.training.datasets.masks import GroundTruth
from edge_ad.training.intervals import image_intervals, pixel_intervals, weighted_image_metrics
from edge_ad.training.localisation import METRICS, localise
from edge_ad.training.metrics import image_metrics


def scores_of(
    seed: int, *, good: int = 30, bad: int = 20, levels: int = 10_000
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    label = np.arange(good + bad) >= good
    return np.floor(rng.normal(label * 1.0) * levels) / levels, label


@pytest.mark.parametrize("levels", [2, 10_000])  # few levels make many ties
def test_weighted_metrics_are_those_of_scikit_learn(levels: int) -> None:
    score, label = scores_of(0, levels=levels)
    weights = np.random.default_rng(1).integers(0, 4, (20, len(label)))
    metrics = weighted_image_metrics(score, label, weights)
    for row, weight in enumerate(weights):
        auroc = roc_auc_score(label, score, sample_weight=weight)
        ap = average_precision_score(label, score, sample_weight=weight)
        precision, recall, _ = precision_recall_curve(label, score, sample_weight=weight)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        assert metrics["image_auroc"][row] == pytest.approx(auroc)
        assert metrics["image_average_precision"][row] == pytest.approx(ap)
        assert metrics["image_f1max"][row] == pytest.approx(f1.max())


def test_every_image_once_is_the_metric_itself() -> None:
    score, label = scores_of(2, levels=3)
    once = weighted_image_metrics(score, label, np.ones((1, len(label)), int))
    exact = vars(image_metrics(score, label))
    assert {name: value[0] for name, value in once.items()} == pytest.approx({name: exact[name] for name in once})


def test_the_interval_is_that_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """scipy draws good and bad scores apart too; both have a Monte Carlo error of some thousandths."""
    monkeypatch.setattr("edge_ad.training.intervals.IMAGE_DRAWS", 10_000)
    score, label = scores_of(3)

    def auroc(good: npt.NDArray[np.float64], bad: npt.NDArray[np.float64], axis: int = -1) -> npt.NDArray[np.float64]:
        above = bad[..., :, None] > good[..., None, :]
        return above.mean(axis=(-2, -1))

    expected = stats.bootstrap(
        (score[~label], score[label]),
        auroc,
        n_resamples=10_000,
        batch=100,
        vectorized=True,
        axis=-1,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    low, high = image_intervals(score, label)["image_auroc"]
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.008)
    assert high - low > 0.1, "an interval that can tell right from wrong"


def test_an_interval_covers_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normal scores one standard deviation apart: the AUROC of all parts of the world is Phi(1 / sqrt 2) = 0.760."""
    monkeypatch.setattr("edge_ad.training.intervals.IMAGE_DRAWS", 400)
    truth = stats.norm.cdf(1 / sqrt(2))
    covered = 0
    for seed in range(300):
        low, high = image_intervals(*scores_of(seed, good=60, bad=40), seed=seed)["image_auroc"]
        covered += low <= truth <= high
    # 95 % with a standard error of 1.3 %, and the percentile bootstrap is a little short of it.
    assert 0.90 <= covered / 300 <= 0.985


def test_draws_are_seeded() -> None:
    score, label = scores_of(4)
    assert image_intervals(score, label) == image_intervals(score, label)
    assert image_intervals(score, label, seed=1) != image_intervals(score, label)


def test_perfect_scores_have_no_width_and_one_class_no_interval() -> None:
    perfect = image_intervals([1, 2, 3, 4], [False, False, True, True])
    assert perfect == {name: (1.0, 1.0) for name in ("image_auroc", "image_average_precision", "image_f1max")}
    assert image_intervals([1, 2], [True, True]) == {} == image_intervals([], [])


def parts(seed: int, count: int) -> tuple[list[npt.NDArray[np.float32]], list[GroundTruth], npt.NDArray[np.bool_]]:
    """Maps of the masks' size; every second part has one square defect, found more or less well."""
    rng = np.random.default_rng(seed)
    maps, truths = [], []
    for index in range(count):
        anomaly_map, mask = rng.normal(size=(20, 20)).astype(np.float32), np.zeros((20, 20), bool)
        if index % 2:
            y, x = rng.integers(0, 12, 2)
            mask[y : y + 6, x : x + 6] = True
            anomaly_map[mask] += rng.normal(1.5, 1)
        maps.append(anomaly_map)
        truths.append(GroundTruth.of(mask))
    return maps, truths, np.arange(count) % 2 == 1


def test_pixel_intervals_are_those_of_a_plain_loop() -> None:
    """300 draws, every one measured anew from its maps."""
    maps, truths, label = parts(0, 24)
    intervals = pixel_intervals(localise(maps, truths), label)
    rng = np.random.default_rng(1)
    values: dict[str, list[float]] = {"pixel_auroc": [], "aupro": []}
    for _ in range(300):
        drawn = np.concatenate([rng.choice(np.flatnonzero(label == kind), 12) for kind in (False, True)])
        flat = np.concatenate([maps[index].ravel() for index in drawn])
        marked = np.concatenate([truths[index].merged.ravel() for index in drawn])
        values["pixel_auroc"].append(roc_auc_score(marked, flat))
        order = np.argsort(-flat)
        found = np.append(0, np.cumsum(marked[order]) / marked.sum())  # one defect an image, all of the same area
        rate = np.append(0, np.cumsum(1 - marked[order]) / (1 - marked).sum())
        values["aupro"].append(np.trapezoid(np.interp(np.linspace(0, 0.3, 3000), rate, found), dx=0.3 / 2999) / 0.3)
    for name, drawn_values in values.items():
        low, high = np.percentile(drawn_values, (2.5, 97.5))
        assert intervals[name] == pytest.approx((low, high), abs=0.15 * (high - low))
    assert intervals["aupro"] == pytest.approx(intervals["spro_03"]), "every defect is one piece and found whole"


def test_pixel_intervals_hold_their_metric_and_leave_out_what_nobody_marked() -> None:
    maps, truths, label = parts(1, 30)
    located = localise(maps, truths)
    intervals = pixel_intervals(located, label)
    for name in METRICS:
        low, high = intervals[name]
        assert low < getattr(located.metrics, name) < high
    unmarked = localise([*maps, *maps[:3]], [*truths, None, None, None])
    again = pixel_intervals(unmarked, [*label, True, True, True])
    for name in METRICS:
        assert again[name] == pytest.approx(intervals[name], abs=1e-3)
    assert pixel_intervals(localise(maps[:1], truths[:1]), [False]) == {}


def test_a_perfect_map_has_an_interval_of_no_width() -> None:
    _, truths, label = parts(2, 12)
    located = localise([truth.merged.astype(np.float32) for truth in truths], truths)
    assert set(pixel_intervals(located, label).values()) == {(1.0, 1.0)}
