"""On a machine with a GPU: engines for it are asked for their precision, and answer as the bundle promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_engines import BuildOptions, build
from edge_ad.manifest import EngineSettings
from edge_ad.verify import verify
from tests.golden_bundle import golden_bundle

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_for_this_gpu_is_confirmed_or_says_why_not_and_is_proven(tmp_path: Path, precision: str) -> None:
    bundle = golden_bundle(tmp_path / "tiny", precision)
    (built,) = build(bundle, BuildOptions(targets=("this-gpu",)))
    assert built.entry.precision_confirmed or any("engine inspector" in note for note in built.notes)
    (proof,) = [proof for proof in verify(bundle.path) if proof.engine == built.entry.file]
    assert (proof.ok, proof.reason) == (True, "")


def test_an_engine_of_a_fixed_batch_answers_single_frames(tmp_path: Path) -> None:
    bundle = golden_bundle(tmp_path / "tiny", "fp32")
    build(bundle, BuildOptions(targets=("this-gpu",), max_batch=4, settings=EngineSettings(min_batch=4)))
    (proof,) = [proof for proof in verify(bundle.path) if proof.engine]
    assert proof.ok
