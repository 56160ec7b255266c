"""Steps per second: a step that is timed is a step that learns, and each contender has a row."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from benchmarks import training
from benchmarks.speed.openers import efficientad_step
from benchmarks.speed.race import Rules


def test_the_step_that_is_timed_learns() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    step = efficientad_step("efficientad-s", bf16=False)
    losses = [step(frame) for _ in range(4)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_steps_per_second_are_those_of_the_median_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "RULES", Rules(rounds=1, verdicts=1, cold_starts=1))
    result = training.measure(argparse.Namespace(method="efficientad-s", peers=False))
    assert result["failures"] == {}
    assert [row["name"] for row in result["contenders"]] == [
        "edge-ad bf16 where the hardware has it",
        "edge-ad float32",
    ]
    for row in result["contenders"]:
        assert row["steps_per_s"] == pytest.approx(1e3 / row["p50_ms"], abs=1e-3)
        assert f"| {row['name']} | {row['steps_per_s']:g} |" in training.as_text(result)


def test_a_contender_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "race", lambda *_: [{"name": "a", "failure": "first line\nno such thing"}])
    result = training.measure(argparse.Namespace(method="efficientad-s", peers=False))
    assert result["contenders"] == []
    assert "a failed: no such thing" in training.as_text(result)
