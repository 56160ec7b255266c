"""INT8: pairs around convolutions only, symmetric, per channel; layers that would spoil the answer stay float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from calibration.int8 import MAX_MEAN_SCORE_SHIFT, QuantisedGraph, int8_from_fp32
from edge_ad.backends.onnxruntime import open_session
from edge_ad.frame import read_image
from tests.calibration.graphs import two_convolutions, write_images


def quantise(content: bytes, folder: Path, seed: int = 0) -> QuantisedGraph:
    paths = write_images(folder, 12)
    frames = [read_image(path) for path in paths[:6]]
    scores = open_session(content, "fp32").run(["score"], {"image": np.stack(frames)})[0]
    spread, threshold = float(scores.std()), float(scores.max())
    return int8_from_fp32(content, paths, frames, spread=spread, threshold=threshold, seed=seed)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> QuantisedGraph:
    return quantise(two_convolutions(), tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def graph(quantised: QuantisedGraph) -> onnx.GraphProto:
    return onnx.load_model_from_string(quantised.content).graph


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def test_every_convolution_reads_dequantised_image_and_weights(graph: onnx.GraphProto) -> None:
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type == "Conv":
            assert set(node.input[:2]) <= dequantised
        elif node.op_type in ("Div", "Squeeze", "ReduceMax", "Transpose"):
            assert not set(node.input) & {name for name in dequantised if not name.startswith("distance")}


def test_zero_points_are_zero_and_everything_is_signed(graph: onnx.GraphProto) -> None:
    values = constants(graph)
    zero_points = [
        values[node.input[2]] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    ]
    assert zero_points and all(zero.dtype == np.int8 and not zero.any() for zero in zero_points)


def test_weights_have_one_scale_per_output_channel(graph: onnx.GraphProto) -> None:
    values = constants(graph)
    of_weights = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in values]
    kernels = {node.input[0]: values[node.input[0]] for node in of_weights}
    assert sorted(kernel.shape for kernel in kernels.values()) == [(1, 8, 3, 3), (8, 3, 3, 3)]
    originals = constants(onnx.load_model_from_string(two_convolutions()).graph)
    for node in of_weights:
        kernel, scale = kernels[node.input[0]], values[node.input[1]]
        assert kernel.dtype == np.int8 and scale.shape == (len(kernel),)
        original = next(value for value in originals.values() if value.shape == kernel.shape)
        np.testing.assert_allclose(scale, np.abs(original).max((1, 2, 3)) / 127, rtol=0.02)
        assert np.abs(kernel * scale[:, None, None, None] - original).max() <= scale.max() * 0.51


def test_biases_stay_float(graph: onnx.GraphProto) -> None:
    """TensorRT takes no INT32 DequantizeLinear."""
    assert not {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT32}
    assert [list(node.input[2:]) for node in graph.node if node.name == "conv1"] == [["b1"]]
    assert constants(graph)["b1"].dtype == np.float32


def test_inputs_and_outputs_are_unchanged(graph: onnx.GraphProto) -> None:
    before = onnx.load_model_from_string(two_convolutions()).graph
    assert list(graph.input) == list(before.input) and list(graph.output) == list(before.output)


def test_a_harmless_graph_is_quantised_whole(quantised: QuantisedGraph) -> None:
    assert quantised.within_limits and quantised.float_layers == ()
    assert set(quantised.sensitivity) == {"conv1", "conv2"}
    assert all(0 < shift < 1 for shift in quantised.sensitivity.values())


def test_a_layer_that_spoils_the_answer_is_left_in_float(tmp_path: Path) -> None:
    """One input channel of conv1 is a thousand times larger than the others: it takes all the steps of their scale."""
    quantised = quantise(two_convolutions(outlier=1000.0), tmp_path)
    assert quantised.within_limits and quantised.float_layers == ("conv1",)
    assert quantised.sensitivity["conv1"] > MAX_MEAN_SCORE_SHIFT > quantised.sensitivity["conv2"]
    graph = onnx.load_model_from_string(quantised.content).graph
    (left_out,) = [node for node in graph.node if node.name == "conv1"]
    assert left_out.input[1] in {tensor.name for tensor in graph.initializer}, "its weights are not quantised"


def test_the_same_images_and_seed_give_the_same_bytes(quantised: QuantisedGraph, tmp_path: Path) -> None:
    again = quantise(two_convolutions(), tmp_path / "again")
    assert again == quantised
    assert quantise(two_convolutions(), tmp_path / "other", seed=1).content != quantised.content, "the seed matters"
