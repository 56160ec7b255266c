"""Bundles out of runs: they open, they answer like the network, and they refuse what cannot be trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_ad import Inspector
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleError, ExportError
from edge_ad.frame import read_image
from edge_ad.training.export import PARITY_TOLERANCE, export
from edge_ad.training.images import load_rgb, normalise
from edge_ad.training.train import load_run
from tests.golden_bundle import snapshot
from tests.trained import CAMERA, METHODS, TRAIN, VALIDATION


@pytest.mark.parametrize("method", METHODS)
def test_an_exported_bundle_gives_the_networks_verdicts(
    calibrated: Callable[[str], Bundle], trained_run: Callable[[str], Path], parts_dataset: Path, method: str
) -> None:
    network, _, options = load_run(trained_run(method))
    bundle = calibrated(method)
    spread = bundle.precision("fp32").score_spread
    paths = [parts_dataset / "test/good/000.png", next((parts_dataset / "test/scratch").glob("*.png"))]
    with Inspector(bundle.path, precision="fp32", backend="onnxruntime") as inspector:
        for path in paths:
            inspection = inspector.inspect(read_image(path))
            with torch.inference_mode():
                maps, score = network(normalise(load_rgb(path, options["image_size"]))[None])
            assert abs(inspection.score - score.item()) / spread < 0.02
            assert inspection.is_anomalous == (score.item() > inspection.threshold)
            assert np.abs(inspection.anomaly_map - maps[0].numpy()).max() / spread < 0.02


@pytest.fixture
def simplenet(trained_run: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run("simplenet"), tmp_path / "run"))


def test_the_manifest_says_where_it_comes_from(simplenet: Path, tmp_path: Path) -> None:
    bundle = export(simplenet, tmp_path / "b")
    assert (bundle.manifest.input.height, bundle.manifest.input.width) == CAMERA
    assert bundle.manifest.method == "simplenet"
    assert len(bundle.manifest.provenance["training_hashes"]) == TRAIN
    assert bundle.precision("fp32").normal_images == VALIDATION
    assert bundle.precision("fp32").score_mean is not None
    report = json.loads(bundle.read("report.json"))
    assert 0 <= report["fp32"]["torch_parity_spreads"] <= PARITY_TOLERANCE
    manifest = (bundle.path / "manifest.json").read_text()
    assert str(tmp_path) not in manifest and "/home" not in manifest, "no path of this machine travels"


def test_another_camera_and_force(simplenet: Path, tmp_path: Path) -> None:
    place = tmp_path / "b"
    export(simplenet, place)
    before = snapshot(place)
    with pytest.raises(BundleError, match="already exists"):
        export(simplenet, place, camera=(61, 47))
    assert snapshot(place) == before
    bundle = export(simplenet, place, camera=(61, 47), force=True)
    assert (bundle.manifest.input.height, bundle.manifest.input.width) == (61, 47)
    with Inspector(bundle, backend="onnxruntime") as inspector:
        assert np.isfinite(inspector.inspect(np.full((61, 47, 3), 128, np.uint8)).score)


def test_gone_validation_images_are_an_error(simplenet: Path, tmp_path: Path) -> None:
    record = json.loads((simplenet / "run.json").read_text())
    record["validation"][3] = str(tmp_path / "gone.png")
    (simplenet / "run.json").write_text(json.dumps(record))
    with pytest.raises(ExportError, match="validation images are gone") as caught:
        export(simplenet, tmp_path / "b")
    assert caught.value.expected == str(tmp_path / "gone.png")
    assert not (tmp_path / "b").exists()


def test_a_graph_that_disagrees_with_torch_is_not_exported(
    simplenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_ad.training.export.PARITY_TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="Torch and ONNX Runtime disagree"):
        export(simplenet, tmp_path / "b")
    assert not (tmp_path / "b").exists()
