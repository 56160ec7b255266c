"""Q/DQ between a convolution and its ReLU goes where it does nothing, and only there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from build_engines.rectified import quantised_after_relu
from build_engines.trtexec import write_trtexec
from calibration.qdq import INT8, quantise
from calibration.trunk import load_named
from edge_ad.backends.onnxruntime import open_session
from edge_ad.errors import EngineBuildFailed, MissingDependency
from tests.calibration.graphs import two_convolutions
from tests.golden_bundle import CAMERA, noise_images
from tests.tiny_bundle import replace_graph, tiny_bundle


def without_resize() -> onnx.ModelProto:
    """conv1, relu, conv2: what the next convolution reads is what the ReLU wrote."""
    model = load_named(two_convolutions())
    (resize,) = [node for node in model.graph.node if node.name == "resize"]
    model.graph.node.remove(resize)
    (conv2,) = [node for node in model.graph.node if node.name == "conv2"]
    conv2.input[0] = "rectified"
    return model


def quantised(model: onnx.ModelProto, **clips: float) -> bytes:
    ranges = {"normalised": 1.0, "features": 0.6, "rectified": 0.6, "resized": 0.6, "distance": 3.0} | clips
    content: bytes = quantise(model, ("conv1", "conv2"), ranges, INT8).SerializeToString()
    return content


def pairs(content: bytes) -> list[str]:
    graph = onnx.load_model_from_string(content).graph
    return [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]


def answers(content: bytes) -> list[np.ndarray]:
    """With kernels of float32, in which Q/DQ rounds as it is written."""
    session = open_session(content, "it", integer_kernels=False)
    return session.run(None, {"image": noise_images(CAMERA, 3)})


def test_the_pair_before_the_relu_goes_and_the_answer_stays_to_the_bit() -> None:
    content = quantised(without_resize())
    leaner = quantised_after_relu(content)
    assert pairs(content) == ["normalised", "features", "rectified", "distance"]
    assert pairs(leaner) == ["normalised", "rectified", "distance"]
    onnx.checker.check_model(onnx.load_model_from_string(leaner), full_check=True)
    for wanted, came in zip(answers(content), answers(leaner), strict=True):
        np.testing.assert_array_equal(came, wanted)


def test_another_scale_behind_the_relu_keeps_the_pair() -> None:
    content = quantised(without_resize(), rectified=0.5)
    assert quantised_after_relu(content) is content


def test_a_relu_that_something_else_reads_keeps_the_pair() -> None:
    """Here a Resize, which would see unrounded values."""
    content = quantised(load_named(two_convolutions()))
    assert quantised_after_relu(content) is content


def test_a_zero_point_keeps_the_pair() -> None:
    model = onnx.load_model_from_string(quantised(without_resize()))
    for tensor in model.graph.initializer:
        if tensor.name == "features_zero":
            tensor.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), tensor.name))
    content = model.SerializeToString()
    assert quantised_after_relu(content) is content


@pytest.mark.parametrize("content", [two_convolutions(), b""])
def test_a_graph_without_pairs_is_left_alone(content: bytes) -> None:
    assert quantised_after_relu(content) is content


@pytest.mark.parametrize("damaged", [b"QuantizeLinear", quantised(without_resize())[:-9]])
def test_a_damaged_graph_says_so(damaged: bytes) -> None:
    with pytest.raises(EngineBuildFailed, match="damaged") as caught:
        quantised_after_relu(damaged)
    assert str(len(damaged)) in str(caught.value.got)


def test_without_onnx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    content = quantised(without_resize())
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match="Compiling a quantised graph needs onnx"):
        quantised_after_relu(content)


def test_trtexec_gets_it_too(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    replace_graph(bundle, "fp32", quantised(without_resize()))
    folder = tmp_path / "station"
    write_trtexec(folder, bundle)
    assert pairs((folder / "model.onnx").read_bytes()) == ["normalised", "rectified", "distance"]
    assert pairs((folder / "model.trt8.onnx").read_bytes()).count("features") == 0
