"""Every method, in every precision, compiles for its targets with NVIDIA's own parser and compiler."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
import pytest

from build_engines import BuildOptions, build
from build_engines.targets import known_targets
from build_engines.tensorrt8 import graph_for_tensorrt8
from edge_ad.backends.flavours import load_flavour
from edge_ad.backends.onnxruntime import OUTPUTS, open_session
from edge_ad.bundle import Bundle, sha256
from edge_ad.golden import golden_error, read_golden
from tests.trained import METHODS, calibrated_bundle, painted_region

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121", "portable")
FEW_TARGETS = ("sm75", "sm89", "sm120")  # one per way of compiling: without float32 matrix products, Ada, Blackwell
# SimpleNet goes to every target; for the others, targets that the compiler treats differently are enough.
METHODS_AND_TARGETS = [(method, TARGETS if method == "simplenet" else FEW_TARGETS) for method in METHODS]
PRECISIONS = ("fp32", "fp16", "int8")
# An engine holds the graph's weights, in its precision, and code: the networks here are so small that code is most.
SMALLEST_SHARE, LARGEST_SHARE, MOST_CODE_BYTES = 0.5, 1.5, 4 << 20
# Calibration leaves more than half of CutPaste's convolutions in float: its score is a distance in whitened units.
SHARE_IN_INT8 = {"cutpaste": 1 / 3}


@pytest.fixture(scope="module")
def compiled(
    calibrated: Callable[[str], Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Bundle]:
    """(method, precision) -> a copy of the calibrated bundle with that precision's engines for the method's targets."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed here")

    @cache
    def compile_all(method: str, precision: str) -> Bundle:
        place = tmp_path_factory.mktemp("compiled") / f"{method}-{precision}"
        shutil.copytree(calibrated(method).path, place)
        bundle = Bundle(place)
        targets = dict(METHODS_AND_TARGETS)[method]
        build(bundle, BuildOptions(targets=targets, precisions=(precision,), flavour="rtx", max_batch=2))
        return bundle

    return compile_all


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("method", "target"), [(method, target) for method, targets in METHODS_AND_TARGETS for target in targets]
)
def test_every_engine_compiles(
    compiled: Callable[[str, str], Bundle], method: str, precision: str, target: str
) -> None:
    bundle = Bundle(compiled(method, precision).path)
    (entry,) = [entry for entry in bundle.manifest.engines if entry.target == target]
    graph = bundle.read(bundle.precision(precision).graph)
    assert (entry.flavour, entry.precision, entry.graph_sha256) == ("rtx", precision, sha256(graph))
    size = len(bundle.read(entry.file))
    assert SMALLEST_SHARE * len(graph) < size < LARGEST_SHARE * len(graph) + MOST_CODE_BYTES


def test_engines_of_a_region_compile(trained_run: Callable[[str], Path], parts_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed here")
    region = painted_region(tmp_path / "region.png")
    bundle = calibrated_bundle(trained_run("efficientad-s"), parts_dataset, tmp_path / "b", region)
    build(bundle, BuildOptions(targets=FEW_TARGETS, precisions=PRECISIONS, flavour="rtx", max_batch=2))
    assert {(entry.precision, entry.target) for entry in bundle.manifest.engines} == {
        (precision, target) for precision in PRECISIONS for target in FEW_TARGETS
    }


def test_these_are_all_the_targets_there_are() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed here")
    assert set(known_targets(load_flavour("rtx"))) == set(TARGETS)


@pytest.mark.parametrize("method", METHODS)
def test_the_compiled_int8_graph_has_int8_convolutions(calibrated: Callable[[str], Bundle], method: str) -> None:
    """Else the INT8 engines above would be float32 engines."""
    bundle = calibrated(method)
    graph = onnx.load_model_from_string(bundle.read("model.int8.onnx")).graph
    dequantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    in_int8 = [node for node in convolutions if set(node.input[:2]) <= dequantised]
    assert len(in_int8) >= len(convolutions) * SHARE_IN_INT8.get(method, 1 / 2)


@pytest.mark.parametrize("method", METHODS)
def test_what_tensorrt_8_would_be_given_answers_as_the_bundle_does(
    calibrated: Callable[[str], Bundle], method: str
) -> None:
    """Not FP16, which ONNX Runtime computes in float32 between roundings that depend on the opset."""
    bundle = calibrated(method)
    frames = read_golden(bundle).image
    for precision in ("fp32", "int8"):
        content = bundle.read(bundle.precision(precision).graph)
        given = graph_for_tensorrt8(content, "m").content
        assert onnx.load_model_from_string(given).opset_import[0].version == 17
        expected, got = (open_session(graph, "m").run(OUTPUTS, {"image": frames}) for graph in (content, given))
        spread = bundle.precision(precision).score_spread
        assert max(golden_error(tuple(expected), tuple(got), spread)) < 1e-3


def test_engines_of_different_targets_differ(compiled: Callable[[str, str], Bundle]) -> None:
    bundle = compiled("simplenet", "fp32")
    contents = {entry.target: bundle.read(entry.file) for entry in bundle.manifest.engines}
    assert contents["sm75"] != contents["sm89"] != contents["sm120"] != contents["sm75"]
