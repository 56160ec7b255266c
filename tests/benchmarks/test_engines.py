"""The engines benchmark, with the real compiler: what it counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.random_bundle import PRECISIONS
from edge_ad.bundle import Bundle
from tests.tiny_bundle import needs_rtx, replace_graph, tiny_bundle


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Words of the command line to what it prints and writes."""

    def measure(*words: object) -> tuple[dict[str, Any], str]:
        command = ["benchmarks", "engines", "--json", "--results", tmp_path / "results", *words]
        monkeypatch.setattr("sys.argv", [str(word) for word in command])
        assert main() == 0
        printed = json.loads(capsys.readouterr().out)
        assert json.loads((tmp_path / "results/engines.json").read_text()) == printed
        return printed, (tmp_path / "results/engines.md").read_text()

    return measure


@needs_rtx
def test_every_precision_and_target_of_given_bundles_is_counted_with_its_size(measured: Any, tmp_path: Path) -> None:
    good, bad = (tiny_bundle(tmp_path / f"{name}.bundle") for name in ("good", "bad"))
    replace_graph(bad, "int8", b"hello")

    result, text = measured("--bundles", good.path, bad.path, "--targets", "sm89", "portable", "--jobs", 1)

    assert (result["compiled"], result["failed"], len(result["engines"])) == (10, 2, 12)
    for row in result["engines"]:
        failed = (row["method"], row["precision"]) == ("bad", "int8")
        assert (row["failure"] is not None) == failed == (row["bytes"] == 0) == (row["seconds"] == 0)
    assert {(row["method"], row["precision"], row["target"]) for row in result["engines"]} == {
        (method, precision, target)
        for method in ("good", "bad")
        for precision in PRECISIONS
        for target in ("sm89", "portable")
    }
    assert "| good | fp32 | 0.4 | 0.4 |" in text
    assert "| bad | int8 | failed | failed |" in text
    assert Bundle(good.path).manifest.engines == (), "the given bundle stays as it is"


@needs_rtx
def test_quick_is_one_target(measured: Any, tmp_path: Path) -> None:
    result, _ = measured("--bundles", tiny_bundle(tmp_path / "a.bundle", *PRECISIONS).path, "--quick", "--jobs", 1)
    assert {row["target"] for row in result["engines"]} == {"sm89"}
    assert (result["compiled"], result["weights"]) == (3, "of the bundles")
