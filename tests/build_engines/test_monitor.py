"""TensorRT's phases as one bar."""

from __future__ import annotations

from typing import Any

import pytest

from build_engines import engine as engine_module
from build_engines.monitor import TOTAL, Phases
from edge_ad.backends.flavours import load_flavour
from edge_ad.manifest import EngineEntry
from edge_ad.progress import Progress
from tests.tiny_bundle import needs_rtx, tiny_graph


def test_a_phase_counts_as_one_step_of_its_parent() -> None:
    phases = Phases()
    phases.start("build", None, 4)
    phases.step("build", 0)
    assert phases.fraction == 1 / 4
    phases.start("optimize", "build", 2)
    phases.step("optimize", 0)
    assert phases.fraction == (1 + 1 / 2) / 4
    phases.step("optimize", 1)
    phases.finish("optimize")
    phases.step("build", 1)
    assert phases.fraction == 2 / 4


def test_phases_side_by_side_do_not_add_up() -> None:
    phases = Phases()
    phases.start("build", None, 2)
    for name in ("time", "refit"):
        phases.start(name, "build", 1)
        phases.step(name, 0)
    assert phases.fraction == 1 / 2


def test_a_phase_that_starts_again_does_not_turn_the_bar_back() -> None:
    phases = Phases()
    phases.start("build", None, 10)
    phases.start("reformat", "build", 1)
    phases.step("reformat", 0)
    phases.finish("reformat")
    phases.start("reformat", "build", 2)
    phases.step("reformat", 0)
    assert phases.fraction == 1 / 10


@needs_rtx
def test_a_real_build_moves_the_bar_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    phases: list[Any] = []

    class Recording(Progress):
        def step(self, count: int = 1, **shown: object) -> None:
            super().step(count, **shown)
            steps.append(count)
            phases.append(shown["phase"])

    monkeypatch.setattr(engine_module, "Progress", Recording)
    entry = EngineEntry(
        file="engines/x.engine",
        flavour="rtx",
        version="1.7.1",
        target="sm89",
        precision="int8",
        graph_sha256="0" * 64,
        max_batch=1,
    )

    engine_module.engine_from_onnx(tiny_graph("int8"), entry, source="model.onnx", flavour=load_flavour("rtx"))

    assert sum(steps) == TOTAL
    assert min(steps) > 0
    assert len(set(phases)) >= 4, phases  # more than the root phase reported
