"""What more costs: contenders take turns, and what is told adds up."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.scale import Plan, _in_turns, as_text, measure
from tests.golden_bundle import bundle_of
from tests.tile_graphs import edges_graph

SMALL = Plan(batches=(1, 3), cameras=((64, 96),), at_once=(1, 3), recipes=3, frames=((56, 120),), images=5, rounds=2)


def test_contenders_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    order = []
    monkeypatch.setattr(scale.time, "perf_counter", lambda: now[0])

    def contender(name: str, seconds: list[float]) -> None:
        order.append(name)
        now[0] += seconds.pop(0)

    taken = {"a": [90.0, 1.0, 2.0, 9.0], "b": [90.0, 4.0, 3.0, 5.0]}
    medians = _in_turns({name: lambda name=name: contender(name, taken[name]) for name in taken}, 3)
    assert order == ["a", "b"] * 4
    assert medians == {"a": 2.0, "b": 4.0}


def test_every_figure_is_measured_on_what_it_is_said_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = [
        bundle_of(tmp_path / f"{height}.bundle", {"fp32": edges_graph(height, width)})
        for height, width in ((32, 48), *SMALL.cameras)
    ]
    monkeypatch.setattr(scale, "_bundles", lambda *_: bundles)
    monkeypatch.setattr(scale, "QUICK", SMALL)
    arguments = argparse.Namespace(
        method="simplenet", backend="onnxruntime", precision="fp32", quick=True, results=tmp_path
    )
    result = measure(arguments)
    assert result["backend"] == "onnxruntime-cpu"
    assert [row["batch"] for row in result["batches"]] == [1, 3]
    assert [row["camera"] for row in result["cameras"]] == [[32, 48], [64, 96]]
    assert result["cameras"][0]["preprocessing_share"] == 0
    assert [row["cameras"] for row in result["at_once"]] == [1, 3]
    assert all(0 < row["p50_ms"] <= row["worst_ms"] for row in result["at_once"])
    assert all(row["images_per_s"] > 0 for row in result["at_once"])
    assert "cameras at once" in (tmp_path / "scale-simplenet-quick.svg").read_text()
    [tiled] = result["tiles"]
    assert (tiled["frame"], tiled["tiles"]) == ([56, 120], 2 * 3)
    resident = result["recipes"]["resident_mb"]
    assert len(resident) == 1 + SMALL.recipes
    assert 10 < resident[0] < resident[1] < 500
    assert result["recipes"]["mb_per_further_recipe"] == pytest.approx((resident[3] - resident[1]) / 2, abs=0.1)
    rates = result["folder"]["images_per_s"]
    assert result["folder"]["images"] == 5
    assert len(rates) == 4
    assert min(rates.values()) > 0
    text = as_text(result)
    for shown in ("| 3 |", "| 64 x 96 |", "| 56 x 120 | 6 |", "| edge-ad inspect |", "MB for each further one"):
        assert shown in text
    assert scale.result_name(arguments) == "scale-simplenet-quick"
