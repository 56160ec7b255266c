"""The station's benchmarks: every trigger is in the figures, and what would be wrong would be seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kill, station
from benchmarks.__main__ import main
from benchmarks.kill import compare
from edge_ad.station.record import Record
from edge_ad.station.verdict import ANOMALOUS, FAULT
from tests.golden_bundle import brightness_bundle
from tests.station.made import verdict_of


def figures(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, *words: object) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["benchmarks", name, *map(str, words), "--results", str(folder), "--json"])
    assert main() == 0
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def test_every_trigger_is_accounted_for_though_the_camera_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "DRAWN", "synthetic://24x16")
    monkeypatch.setattr(station, "_has_aravis", lambda: False)
    brightness_bundle(tmp_path / "bright.bundle")
    found = figures(
        monkeypatch, tmp_path, "station", "--minutes", 0.04, "--kills", 2, "--bundle", tmp_path / "bright.bundle"
    )
    assert found["triggers"] + found["refused"] == 120
    assert found["verdicts"] + found["faults"] == found["triggers"]
    assert found["silent_drops"] == found["recorded_twice"] == 0
    assert sum(found["fault_reasons"].values()) == found["faults"] > 0
    assert found["reconnects"] >= 1 and found["verdicts"] > 0
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["p999_ms"] <= found["most_ms"]
    assert set(found["p99_ms_by_stage"]) == {"capture", "wait", "inspect", "record"}, "stages that faults do not reach"
    assert "not installed" in found["camera"]
    assert "silent drops" in (tmp_path / "station.md").read_text()


@pytest.mark.slow
def test_a_kill_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill, "LATEST_KILL_S", 0.5)
    brightness_bundle(tmp_path / "bright.bundle")
    found = figures(monkeypatch, tmp_path, "kill", "--times", 1, "--bundle", tmp_path / "bright.bundle")
    assert (found["times"], found["lost"], found["duplicated"]) == (1, 0, 0)
    assert found["recorded"] == found["seen"] > 0


def test_what_would_be_wrong_would_be_seen(tmp_path: Path) -> None:
    record = Record(tmp_path)
    verdicts = record.add([verdict_of(1), verdict_of(2, ANOMALOUS), verdict_of(3, FAULT)])
    record.close()
    one, two, three = ({"station": "station", "record": record.uid, **verdict.to_json()} for verdict in verdicts)

    def wrong(*seen: dict[str, Any]) -> dict[str, int]:
        found = compare(tmp_path, list(seen))
        names = ("lost", "duplicated", "unlike", "out_of_order", "redelivered")
        return {name: found[name] for name in names if found[name]}

    assert wrong(one, two, three) == {}
    assert wrong(one, two, two, three) == {"redelivered": 1}
    assert wrong(one, two) == {"lost": 1}
    assert wrong(one, two, three, {**three, "id": 4}) == {"lost": 1}
    assert wrong(one, three, two) == {"out_of_order": 1}
    assert wrong(one, two, {**three, "verdict": "good"}) == {"unlike": 1}
    assert wrong(one, {**two, "score": 0.0}, two, three) == {"duplicated": 1, "redelivered": 1}
