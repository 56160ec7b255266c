"""The engines benchmark, with the real compiler: what it counts, and that its precisions are what they are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from benchmarks.__main__ import main
from benchmarks.engines import PRECISIONS, _precisions, _random_bundle
from edge_ad.bundle import Bundle
from tests.tiny_bundle import HEIGHT, WIDTH, needs_rtx, replace_graph, tiny_bundle, tiny_graph


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


def test_no_precision_falls_back_on_another(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    graphs = _precisions(tiny_graph(), [tmp_path / "frame.png"])
    assert tuple(graphs) == PRECISIONS
    for precision, reads in {"fp16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}.items():
        graph = onnx.load_model_from_string(graphs[precision]).graph
        kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
        through = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        assert len(convolutions) == 2
        assert {kinds[through.get(node.input[1], node.input[1])] for node in convolutions} == {reads}


@pytest.mark.slow
def test_a_method_at_its_default_size_gives_a_bundle(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    bundle = Bundle(_random_bundle(tmp_path / "simplenet.bundle", "simplenet", [tmp_path / "frame.png"]))
    assert tuple(bundle.manifest.precisions) == PRECISIONS
    sizes = [len(bundle.read(bundle.precision(precision).graph)) for precision in PRECISIONS]
    assert sizes == sorted(sizes, reverse=True)
