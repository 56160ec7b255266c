"""The algebra's benchmark: every form of a graph sees the same images, and is judged against the graph as written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import main


@pytest.fixture
def result(
    trained_run: Callable[[str], Path], parts_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict:
    monkeypatch.setattr("edge_ad.algebra.sketch.STEPS", 20)
    monkeypatch.setattr("edge_ad.algebra.sketch.RANKS", (16,))
    runs = [word for method in ("efficientad-s", "simplenet") for word in ("--run", trained_run(method), parts_dataset)]
    words = ["algebra", *runs, "--ranks", 32, 64, "--missed", 0.2, 0.05, "--parts", 2, "--results", tmp_path, "--json"]
    monkeypatch.setattr("sys.argv", ["benchmarks", *map(str, words)])
    assert main() == 0
    assert "differences of rank 32" in (tmp_path / "algebra.md").read_text()
    return json.loads((tmp_path / "algebra.json").read_text())


def test_exact_is_exact_and_ranks_cost_something(result: dict, parts_dataset: Path) -> None:
    efficientad, simplenet = result["runs"]
    written, exact, *reduced, little, more = efficientad["rows"]
    forms = [row["form"] for row in simplenet["rows"]]
    assert forms[:2] == ["as written", "exact passes"], "SimpleNet has no differences"
    assert forms[2:] == [f"exact passes, convolutions missing {share}" for share in ("5.00%", "20.00%")]
    assert [row["form"] for row in reduced] == ["differences of rank 64", "differences of rank 32"]
    assert [row["form"] for row in (little, more)] == [
        f"differences of rank 32, convolutions missing {share}" for share in ("5.00%", "20.00%")
    ]
    assert reduced[1]["gmacs"] > little["gmacs"] > more["gmacs"]
    assert little["ranks"] and all(more["ranks"][name] <= rank for name, rank in little["ranks"].items())
    assert efficientad["test_good"] + efficientad["test_defective"] == len(list(parts_dataset.glob("test/*/*.png")))
    assert written["score_shift"] == 0 and written["map_correlation"] == pytest.approx(1)
    assert exact["score_shift"] < 1e-3 and exact["map_correlation"] > 1 - 1e-6
    assert exact["image_auroc"] == written["image_auroc"]
    assert sum(efficientad["passes"].values()) / 1e9 == pytest.approx(written["gmacs"] - exact["gmacs"])
    assert written["gmacs"] > exact["gmacs"] > reduced[0]["gmacs"] > reduced[1]["gmacs"]
    for row, rank in zip(reduced, (64, 32), strict=True):
        assert next(iter(row["ranks"].values())) == rank
        assert row["score_shift"] >= row["score_shift_mean"] > 0
        low, high = row["image_auroc_interval"]
        assert 0 <= low <= row["image_auroc"] <= high <= 1
