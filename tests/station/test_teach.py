"""What operators teach: nothing is forgotten, nothing is lost, and no threshold gets less sensitive unseen."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_ad.errors import CalibrationError, RecordError, StationError
from edge_ad.station.record import Record
from edge_ad.station.refit import Evidence, effects, refit
from edge_ad.station.scores import BINS, ScoreScale, Trend, recorded_scores
from edge_ad.station.station import Station
from edge_ad.station.teach import BundleThreshold, Mark, MarkName, Teaching
from edge_ad.station.verdict import ANOMALOUS, FAULT, GOOD
from edge_ad.threshold import fit_threshold
from tests.station.conftest import MakeSettings, MakeStation
from tests.station.made import EPOCH_NS, MODEL, SECOND_NS, verdict_of
from tests.station.taught import GREYS, THRESHOLD, judge, set_threshold, show_greys
from tests.station.test_http import Client

OF = BundleThreshold(graph_sha256="c" * 64, precision="int8", threshold=0.75, version=2)


def mark_of(name: MarkName, score: float, verdict_id: int = 0, record: str = "r") -> Mark:
    return Mark(
        time_ns=EPOCH_NS,
        who="Ada",
        mark=name,
        note="",
        record=record,
        verdict_id=verdict_id,
        triggered_ns=EPOCH_NS,
        camera="top",
        part_id=None,
        score=score,
    )


def evidence(scores: Any, *marks: Mark, threshold: float = 1.0) -> Evidence:
    values = np.asarray(scores, np.float64)
    return Evidence(record="r", ids=np.arange(1, len(values) + 1), scores=values, marks=marks, threshold=threshold)


# --- the refit ---------------------------------------------------------------------------------------------------


def test_a_refit_lets_the_parts_pass_that_are_marked_as_good() -> None:
    found = refit(evidence([0.5] * 2000 + [1.5, 3.0], mark_of("good", 1.5, 2001)), 0.01)
    assert found.threshold == 1.5


def test_a_refit_takes_the_tail_of_all_known_good_parts() -> None:
    accepted = np.random.default_rng(0).normal(0.5, 0.1, 30)
    found = refit(evidence([*accepted, 0.82, 9.0], mark_of("good", 0.82, 31), threshold=0.8), 1e-4)
    assert found.fitted == fit_threshold([*accepted, 0.82], 1e-4)
    assert found.threshold == found.fitted.threshold > 0.82


def test_accepted_parts_alone_never_lower_the_threshold() -> None:
    found = refit(evidence([0.1] * 5000 + [1.01], mark_of("good", 1.01, 5001)), 0.5)
    assert found.fitted is not None and found.fitted.threshold < 1.0
    assert found.threshold == 1.01


def test_a_refit_rejects_every_part_that_is_marked_as_a_defect_whatever_else_is_marked() -> None:
    score = float(np.float32(0.8))
    found = refit(evidence([0.5, score, 1.5], mark_of("defect", score, 2), mark_of("good", 1.5, 3)), 0.01)
    assert found.threshold < score
    assert np.float32(score) > np.float32(found.threshold)  # also where regions are found, in float32
    assert effects(evidence([0.5, score], mark_of("defect", score, 2)), found.threshold).missed_defects == ()


def test_defects_that_are_rejected_already_move_nothing() -> None:
    found = refit(evidence([0.5, 2.0], mark_of("defect", 2.0, 2)), 0.01)
    assert found.threshold == 1.0 and found.fitted is None


def test_marks_of_another_record_speak_by_their_scores_not_by_their_ids() -> None:
    other = mark_of("good", 1.2, verdict_id=1, record="another")
    found = refit(evidence([0.9, 0.8], other), 0.5)
    assert found.fitted == fit_threshold([0.9, 0.8, 1.2], 0.5)


def test_nothing_marked_and_a_rate_out_of_range_are_refused() -> None:
    with pytest.raises(StationError, match="nothing to learn from"):
        refit(evidence([0.5]), 0.01)
    with pytest.raises(CalibrationError, match="rate"):
        refit(evidence([0.5], mark_of("good", 1.5)), 0.9)


def test_effects_are_counted_part_by_part() -> None:
    marks = (mark_of("defect", 0.95, 2), mark_of("defect", 1.2, 4), mark_of("good", 1.6, 5))
    found = effects(evidence([0.5, 0.95, 1.0, 1.2, 1.6, 1.3], *marks), 1.25)
    assert (found.parts, found.rejected_now, found.rejected_then) == (6, 3, 2)
    assert (found.newly_accepted, found.newly_rejected) == (1, 0)
    assert [mark.verdict_id for mark in found.missed_defects] == [2, 4] and found.missed_now == 1
    assert [mark.verdict_id for mark in found.rejected_good] == [5]
    lower = effects(evidence([0.5, 0.95, 1.0, 1.2]), 0.95)
    assert (lower.newly_accepted, lower.newly_rejected) == (0, 1)  # a score that equals the threshold is accepted


# --- the store ---------------------------------------------------------------------------------------------------


def change(teaching: Teaching, threshold: float, version: int, why: str = "trial") -> None:
    teaching.change(OF, threshold, version=version, who="Ada", why=why, basis={"parts": 7})


def test_thresholds_are_versioned_and_outlast_the_process(tmp_path: Path) -> None:
    teaching = Teaching(tmp_path)
    assert teaching.in_use(OF) == (0.75, 2)
    change(teaching, 0.9, 2)
    change(teaching, 0.75, 3)
    teaching.close()
    again = Teaching(tmp_path)
    assert again.in_use(OF) == (0.75, 4)
    assert [(c.version, c.before, c.threshold) for c in again.history(OF)] == [(3, 0.75, 0.9), (4, 0.9, 0.75)]
    assert again.history(OF)[0].basis == {"parts": 7} and again.history(OF)[0].who == "Ada"
    again.close()


def test_a_change_that_rests_on_an_old_version_is_refused(tmp_path: Path) -> None:
    teaching = Teaching(tmp_path)
    change(teaching, 0.9, 2)
    with pytest.raises(StationError, match="changed meanwhile"):
        change(teaching, 0.5, 2)
    assert teaching.in_use(OF) == (0.9, 3)
    teaching.close()


@pytest.mark.parametrize(
    "other", [{"graph_sha256": "d" * 64}, {"precision": "fp32"}, {"threshold": 0.8}, {"version": 3}], ids=str
)
def test_another_graph_or_another_threshold_of_the_bundle_is_served_with_its_own(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    teaching = Teaching(tmp_path)
    change(teaching, 0.9, 2)
    of = BundleThreshold(**{**vars(OF), **other})
    assert teaching.in_use(of) == (of.threshold, of.version)
    teaching.close()


def test_the_last_thing_said_of_a_part_holds_and_all_of_it_is_kept(tmp_path: Path) -> None:
    teaching = Teaching(tmp_path)
    first, second = (verdict_of(number, ANOMALOUS, id=number) for number in (1, 2))
    teaching.mark("r", first, "good", who="Ada", note="a reflection")
    teaching.mark("r", second, "defect", who="Ada")
    teaching.mark("r", first, None, who="Grace")
    (left,) = teaching.marks(MODEL.model_sha256, MODEL.precision)
    assert (left.verdict_id, left.mark, left.score, left.part_id) == (2, "defect", 0.875, "part-2")
    assert teaching.marks("e" * 64, MODEL.precision) == []
    teaching.close()
    with sqlite3.connect(tmp_path / "teach.sqlite") as connection:
        rows = connection.execute("SELECT who, mark, note FROM marks ORDER BY id").fetchall()
    connection.close()
    assert rows == [("Ada", "good", "a reflection"), ("Ada", "defect", ""), ("Grace", None, "")]


def test_a_store_that_is_closed_says_so(tmp_path: Path) -> None:
    teaching = Teaching(tmp_path)
    teaching.close()
    teaching.close()
    with pytest.raises(RecordError, match="cannot be read"):
        teaching.marks("e" * 64, "fp32")
    with pytest.raises(RecordError, match="nothing was changed"):
        change(teaching, 0.9, 2)


def test_a_fault_cannot_be_learnt_from(tmp_path: Path) -> None:
    teaching = Teaching(tmp_path)
    with pytest.raises(StationError, match="is a fault"):
        teaching.mark("r", verdict_of(1, FAULT, id=1), "good", who="Ada")
    teaching.close()


@pytest.mark.parametrize("spoil", ["cut", "noise", "another program's"])
def test_a_damaged_store_is_not_taken_for_an_empty_one(tmp_path: Path, spoil: str) -> None:
    teaching = Teaching(tmp_path)
    for version in range(2, 6):
        change(teaching, 0.9, version, why="w" * 5000)
    teaching.close()
    path = tmp_path / "teach.sqlite"
    content = path.read_bytes()
    if spoil == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif spoil == "noise":
        path.write_bytes(content[:4096] + bytes(range(256)) * 16 + content[8192:])
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA application_id = 7")
        connection.close()
    with pytest.raises(RecordError, match="thresholds that were set"):
        Teaching(tmp_path)


# --- what the record says of scores ------------------------------------------------------------------------------


def test_scores_are_counted_over_time_as_one_by_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    record = Record(tmp_path)
    scores = rng.normal(0.5, 0.2, 400)
    verdicts = [
        verdict_of(n, FAULT)
        if n % 50 == 0
        else verdict_of(n, ANOMALOUS if score > 0.75 else GOOD, score=float(score), camera="top" if n % 5 else "side")
        for n, score in enumerate(scores, 1)
    ]
    record.add(verdicts)
    step_ns, until_ns = 60 * SECOND_NS, EPOCH_NS + 401 * SECOND_NS
    scale = ScoreScale(low=-0.5, width=2 / BINS)
    trend = Trend(tmp_path, settle_ns=30 * SECOND_NS)
    for _ in range(2):  # counted, then remembered
        buckets = trend.buckets("top", MODEL, scale, until_ns=until_ns, step_ns=step_ns, count=9)
        for bucket in buckets:
            inside = [v for v in verdicts if v.camera == "top" and 0 <= v.time_ns - bucket.start_ns < step_ns]
            assert bucket.verdicts == {name: sum(v.verdict == name for v in inside) for name in bucket.verdicts}
            told = [v.score for v in inside if v.score is not None]
            assert bucket.scores.sum() == len(told)
            if told:
                assert scale.quantile(bucket.scores, 0.5) == pytest.approx(np.median(told), abs=2 * scale.width)
    assert sum(sum(bucket.verdicts.values()) for bucket in buckets) == sum(v.camera == "top" for v in verdicts)
    record.add([verdict_of(401, ANOMALOUS, score=9.0)])  # into a bucket that is not settled, beyond the scale
    last = trend.buckets("top", MODEL, scale, until_ns=until_ns, step_ns=step_ns, count=9)[-1]
    assert last.scores[-1] == 1
    record.close()


def test_recorded_scores_are_those_of_the_model_that_runs(tmp_path: Path) -> None:
    record = Record(tmp_path)
    other = type(MODEL)(**{**vars(MODEL), "model_sha256": "e" * 64})
    refitted = type(MODEL)(**{**vars(MODEL), "threshold": 0.5, "threshold_version": 3})
    record.add(
        [
            verdict_of(1, GOOD, score=0.1),
            verdict_of(2, GOOD, score=0.2, model=other),
            verdict_of(3, FAULT),
            verdict_of(4, ANOMALOUS, score=0.6, model=refitted),
            verdict_of(5, GOOD, score=0.3),
        ]
    )
    ids, scores = recorded_scores(tmp_path, MODEL, 2)
    assert ids.tolist() == [5, 4] and scores.tolist() == [0.3, 0.6]
    ids, scores = recorded_scores(tmp_path, type(MODEL)(**{**vars(MODEL), "precision": "fp16"}), 10)
    assert len(ids) == len(scores) == 0
    record.close()


# --- at a station ------------------------------------------------------------------------------------------------


@pytest.fixture
def taught(station: MakeStation, settings: MakeSettings, tmp_path: Path) -> Station:
    """A station that has judged every one of GREYS once: ids 1 to 10."""
    set_threshold(tmp_path / "bright.bundle")
    made = station(show_greys(tmp_path / "greys"))
    assert [verdict.score for verdict in judge(made, len(GREYS))] == list(GREYS)
    return made


def put(client: Client, threshold: float, **more: object) -> tuple[int, Any]:
    """Ask for a threshold as somebody who has seen what is in use."""
    model = client.get("/api/teaching")["model"]
    seen = {"model_sha256": model["model_sha256"], "version": model["threshold_version"]}
    body = {"camera": "top", "threshold": threshold, "who": "Ada", "why": "drawing C", **seen, **more}
    return client.post("/api/thresholds", body)


def test_false_rejects_are_marked_and_pass_from_then_on(taught: Station) -> None:
    client = Client(taught)
    assert client.post("/api/marks", {"verdict": 5, "mark": "good", "who": "Ada", "note": "oil"}) == (200, {})
    proposal = client.get("/api/refit?rate=0.2")
    known = [grey for grey in GREYS if grey <= THRESHOLD] + [150]
    assert proposal["fitted"]["threshold"] == fit_threshold(known, 0.2).threshold
    assert proposal["threshold"] == 150
    assert proposal["effects"]["newly_accepted"] == 1 and proposal["effects"]["rejected_then"] == 2
    before = judge(taught, 5)[-1]
    assert before.verdict == ANOMALOUS and before.score == 150
    status, told = put(client, proposal["threshold"])
    assert status == 200 and told["model"]["threshold"] == 150 and told["model"]["threshold_version"] == 3
    after = judge(taught, 10)[-1]
    assert after.verdict == GOOD and after.score == 150
    assert after.model is not None and (after.model.threshold, after.model.threshold_version) == (150, 3)
    (entry,) = told["history"]
    assert (entry["who"], entry["why"], entry["before"], entry["basis"]["newly_accepted"]) == (
        "Ada",
        "drawing C",
        THRESHOLD,
        2,
    )


def test_a_threshold_outlasts_a_restart_and_can_be_gone_back_from(
    taught: Station, station: MakeStation, tmp_path: Path
) -> None:
    assert put(Client(taught), 155.0)[0] == 200
    taught.stop()
    again = station(show_greys(tmp_path / "greys"))
    assert [v.verdict for v in judge(again, 6)] == [GOOD] * 5 + [ANOMALOUS]
    assert put(Client(again), THRESHOLD, why="back to version 2")[0] == 200
    assert [v.verdict for v in judge(again, 9)][-1] == ANOMALOUS
    versions = [(e["version"], e["threshold"]) for e in Client(again).get("/api/teaching")["history"]]
    assert versions == [(4, THRESHOLD), (3, 155.0)]


def test_marked_defects_are_not_let_through_unseen(taught: Station) -> None:
    client = Client(taught)
    for verdict in (5, 6):
        client.post("/api/marks", {"verdict": verdict, "mark": "defect", "who": "Ada"})
    for claimed in ({}, {"accepts_missed": 0}, {"accepts_missed": 1}, {"accepts_missed": True}):
        status, answer = put(client, 165.0, **claimed)
        assert status == 409 and "part-4" in answer["error"]["what"] and "part-5" in answer["error"]["what"]
    assert client.get("/api/teaching")["model"]["threshold"] == THRESHOLD
    assert put(client, 165.0, accepts_missed=2)[0] == 200
    assert put(client, 145.0)[0] == 200  # back towards more sensitivity needs no such word


def test_two_who_change_at_once_do_not_undo_each_other(taught: Station) -> None:
    client = Client(taught)
    model = client.get("/api/teaching")["model"]
    seen = {"model_sha256": model["model_sha256"], "version": model["threshold_version"]}
    body = {"camera": "top", "who": "Ada", "why": "trial", **seen}
    assert client.post("/api/thresholds", {**body, "threshold": 150.0})[0] == 200
    status, answer = client.post("/api/thresholds", {**body, "threshold": 120.0})
    assert status == 409 and "meanwhile" in answer["error"]["what"]
    assert client.get("/api/state")["models"]["top"]["threshold"] == 150


def test_a_threshold_that_cannot_be_put_in_use_is_taken_back(taught: Station, tmp_path: Path) -> None:
    client, graph = Client(taught), tmp_path / "bright.bundle" / "model.onnx"
    content = graph.read_bytes()
    graph.write_bytes(b"damaged")
    status, answer = put(client, 150.0)
    assert status == 409 and "model.onnx" in answer["error"]["what"]
    graph.write_bytes(content)
    told = client.get("/api/teaching")
    assert [(e["who"], e["threshold"]) for e in told["history"]] == [("station", THRESHOLD), ("Ada", 150.0)]
    assert [v.verdict for v in judge(taught, 5)][-1] == ANOMALOUS
    assert client.post("/api/recipe", {"recipe": "bright"})[0] == 200
    assert client.get("/api/state")["models"]["top"]["threshold"] == THRESHOLD


def test_what_is_missing_or_wrong_is_named_and_changes_nothing(taught: Station) -> None:
    client = Client(taught)
    wrong: list[dict[str, Any]] = [
        {"threshold": "high"},
        {"threshold": True},
        {"who": " "},
        {"why": ""},
        {"why": "x" * 501},
        {"camera": "side"},
    ]
    for changes in wrong:
        status, answer = put(client, **{"threshold": 150.0, **changes})
        assert status == 400 and answer["error"]["what"].startswith(next(iter(changes)))
    assert client.get("/api/teaching")["history"] == []


def test_marks_that_cannot_be_are_refused(taught: Station) -> None:
    client = Client(taught)
    for body, status in (
        ({"verdict": 99, "mark": "good", "who": "Ada"}, 404),
        ({"verdict": "5", "mark": "good", "who": "Ada"}, 400),
        ({"verdict": 5, "mark": "fine", "who": "Ada"}, 400),
        ({"verdict": 5, "mark": "good"}, 400),
    ):
        assert client.post("/api/marks", body)[0] == status
    assert client.get("/api/teaching")["marks"] == []
    assert client.ask("GET", "/api/refit").status == 409
    assert client.ask("GET", "/api/refit?rate=often").status == 400
    assert client.ask("GET", "/api/trend?span=1y").status == 400


def test_the_trend_and_the_histograms_are_of_what_was_judged(taught: Station) -> None:
    client = Client(taught)
    trend = client.get("/api/trend?span=15m")
    assert sum(bucket["good"] for bucket in trend["buckets"]) == 7
    assert sum(bucket["anomalous"] for bucket in trend["buckets"]) == 3
    assert len(trend["buckets"]) == 60 and trend["threshold"] == THRESHOLD
    assert trend["calibration"]["mean"] == pytest.approx(THRESHOLD - 2.3263 * 10, abs=0.01)
    assert trend["calibration"]["mean_is_estimated"]
    assert trend["latest"] == {"parts": 10, "median": np.median(GREYS)}
    assert trend["scores"]["p50"] == pytest.approx(np.median(GREYS), abs=10)
    ends = [time.strptime(bucket["start"][:19], "%Y-%m-%dT%H:%M:%S") for bucket in trend["buckets"]]
    assert ends == sorted(ends)
    latency = client.get("/api/latency")
    assert len(latency["bounds_ms"]) + 1 == len(latency["cameras"]["top"]["total"]["counts"])
    assert sum(latency["cameras"]["top"]["total"]["counts"]) == 10
