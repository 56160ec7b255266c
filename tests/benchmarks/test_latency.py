"""Contenders race in processes of their own; what is said of them adds up."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from benchmarks import latency
from benchmarks.latency import _ratios, as_text
from benchmarks.peers import environment
from benchmarks.speed.bars import bars
from benchmarks.speed.contenders import Contender, installed_mb, of_bundle
from benchmarks.speed.race import Rules, race
from edge_ad.errors import MissingDependency
from tests.golden_bundle import golden_bundle
from tests.tiny_bundle import HEIGHT, WIDTH

SHORT = Rules(rounds=2, verdicts=3, cold_starts=2)
SIZE = (HEIGHT, WIDTH)


def test_every_contender_is_timed_and_one_that_fails_says_why(tmp_path: Path) -> None:
    good = of_bundle(str(golden_bundle(tmp_path / "tiny.bundle").path), "fp32", "onnxruntime")
    bad = of_bundle(str(tmp_path / "none.bundle"), "fp32", "onnxruntime")
    first, second = race([good, bad], SIZE, SHORT)
    assert (first["name"], first["family"]) == ("edge-ad onnxruntime fp32", "ours")
    assert 0 < first["p50_ms"] <= first["p99_ms"]
    assert len(first["rounds_p50_ms"]) == SHORT.rounds
    assert first["quietest_p50_ms"] == min(first["rounds_p50_ms"])
    assert 20 < first["peak_mb"] < 1000
    assert first["cold_start_s"] > first["p50_ms"] / 1e3
    assert first["installed_mb"] > 50
    assert "none.bundle is not a bundle" in second["failure"]
    assert "p50_ms" not in second


def test_a_contender_that_dies_in_its_turn_does_not_stop_the_others(tmp_path: Path) -> None:
    good = of_bundle(str(golden_bundle(tmp_path / "tiny.bundle").path), "fp32", "onnxruntime")
    dying = dataclasses.replace(good, name="dying", opener="tests.benchmarks.test_latency:dies_later", arguments={})
    dead, alive = race([dying, good], SIZE, SHORT)
    assert "gave no answer" in dead["failure"]
    assert alive["p50_ms"] > 0


def dies_later() -> Any:
    """An opener whose second verdict ends the process."""
    verdicts = []

    def verdict(frame: object) -> None:
        verdicts.append(frame)
        if len(verdicts) > 1:
            sys.exit("no more")

    return verdict


def row(name: str, family: str, figure: float) -> dict[str, Any]:
    keys = ("p50_ms", "quietest_p50_ms", "p99_ms", "peak_mb", "cold_start_s", "installed_mb")
    return {"name": name, "family": family, **dict.fromkeys(keys, figure)}


def test_the_ratio_is_that_of_the_fastest_to_the_best_peer() -> None:
    rows = [row("a openvino", "ours", 10.0), row("a onnxruntime", "ours", 20.0), row("b", "peer", 30.0)]
    rows += [row("c", "peer", 50.0), row("t", "torch", 1.0), {"name": "d", "family": "peer", "failure": "it fell"}]
    found = _ratios(rows)
    assert (found["fastest"], found["best_peer"]) == ("a openvino", "b")
    assert (found["ratio_to_best_peer"], found["ratio_of_onnxruntime_alone"]) == (3.0, 1.5)
    assert found["peak_mb_share_of_best_peer"] == pytest.approx(1 / 3, abs=1e-3)
    assert "ratio_to_best_peer" not in _ratios(rows[:2])


def test_the_ratio_is_given_without_the_slim_ones_too() -> None:
    rows = [row("a", "ours", 10.0), row("a slim", "slim", 5.0), row("b", "peer", 30.0)]
    found = _ratios(rows)
    assert (found["fastest"], found["ratio_to_best_peer"]) == ("a slim", 6.0)
    assert (found["without_slim"]["fastest"], found["without_slim"]["ratio_to_best_peer"]) == ("a", 3.0)
    assert "without_slim" not in _ratios([rows[0], rows[2]])


def test_slim_ones_of_fewer_units_are_told_apart() -> None:
    """The first are those that leave most work; others count under the data their ranks were chosen on."""
    rows = [row("a", "ours", 10.0), row("a slim", "slim", 5.0), row("b", "peer", 30.0)]
    found = _ratios([*rows, row("a slim as on nuts", "slim", 3.0)])
    assert (found["fastest"], found["ratio_to_best_peer"]) == ("a slim", 6.0)
    assert found["slim_elsewhere"]["nuts"]["ratio_to_best_peer"] == 10.0


def test_the_table_and_the_plot_name_every_contender() -> None:
    rows = [row("a <b>", "ours", 10.0), {"name": "d", "family": "peer", "failure": "first\nit fell"}]
    machine = {"processor": "p", "cores": 2, "system": "s"}
    result = {
        "machine": machine,
        "command": "c",
        "method": "m",
        "size": [1, 2],
        "rules": vars(SHORT),
        "weights": "random",
        "remarks": ["One thing."],
        "contenders": rows,
        **_ratios([*rows, row("s", "slim", 5.0), row("b", "peer", 30.0)]),
    }
    text = as_text(result)
    assert "\nOne thing.\n" in text
    assert "\nRatio to best peer: 6 (b).\n" in text.partition("## Without")[0]
    assert "\nRatio to best peer: 3 (b).\n" in text.partition("## Without")[2]
    assert "| a <b> | 10 | 10 | 10 | 10 | 10 | 10 |" in text
    assert "| d | failed: it fell |" in text
    drawing = ElementTree.fromstring(bars(rows, "t & u"))
    assert [node.text for node in drawing.iter() if node.tag.endswith("text")][1] == "a <b>"


def test_an_installation_counts_what_it_depends_on() -> None:
    alone, with_numpy = (installed_mb(sys.executable, (name,)) for name in ("numpy", "onnxruntime"))
    assert with_numpy > alone > 10


def test_without_peers_the_command_that_brings_them_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "PEERS", tmp_path)
    with pytest.raises(MissingDependency, match="make peers"):
        environment.peer_contenders("efficientad-s", quick=True)


def test_a_method_without_peers_says_so() -> None:
    given = argparse.Namespace(method="simplenet", bundle=[], peers=True, quick=True)
    assert latency._peers(given) == []
    [remark] = latency._remarks(given)
    assert "There is no peer: anomalib, which `make peers` installs, does not have simplenet." in remark


def test_the_peers_environment_makes_the_models_of_every_method_it_is_asked_for() -> None:
    tree = ast.parse(Path("benchmarks/peers/models.py").read_text())  # it imports what only .peers has
    [models] = [node.value for node in tree.body if isinstance(node, ast.AnnAssign) and node.target.id == "MODELS"]
    assert tuple(key.value for key in models.keys) == environment.METHODS_OF_PEERS


def test_a_contender_is_told_as_json() -> None:
    contender = Contender(name="n", family="ours", opener="m:f", arguments={"a": 1}, packages=())
    assert contender.command((3, 4))[-1] == '{"opener": "m:f", "arguments": {"a": 1}, "size": [3, 4]}'
