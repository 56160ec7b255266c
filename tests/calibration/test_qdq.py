"""Q/DQ pairs: where they stand, what they hold, and that they answer as ONNX Runtime's own quantiser does."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from calibration.fp16 import trunk_tensors
from calibration.observe import observe
from calibration.qdq import FP8, INT8, convolutions, quantise
from calibration.trunk import load_named
from edge_ad.backends.onnxruntime import DISABLED_OPTIMIZERS, open_session
from tests.calibration.graphs import two_convolutions, write_images
from tests.golden_bundle import CAMERA, noise_images

BOTH = ("conv1", "conv2")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    paths = write_images(tmp_path_factory.mktemp("images"), 6)
    model = load_named(two_convolutions())
    return {name: seen.largest for name, seen in observe(model, trunk_tensors(model), paths, 0).items()}


@pytest.fixture(scope="module")
def graph(clips: dict[str, float]) -> onnx.GraphProto:
    return quantise(load_named(two_convolutions()), BOTH, clips, INT8).graph


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def answers(model: onnx.ModelProto, **how: bool) -> list[np.ndarray]:
    session = open_session(model.SerializeToString(), "it", **how)
    return session.run(None, {"image": noise_images(CAMERA, 3)})


def test_every_convolution_reads_dequantised_input_and_weights(graph: onnx.GraphProto) -> None:
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type == "Conv":
            assert set(node.input[:2]) <= dequantised


def test_the_tail_reads_nothing_quantised_but_what_the_last_convolution_wrote(graph: onnx.GraphProto) -> None:
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    tail = [node for node in graph.node if node.op_type in ("Div", "Mul", "Squeeze", "ReduceMax", "Transpose")]
    assert {name for node in tail for name in node.input} & dequantised == {"distance_dequantised"}


def test_zero_points_are_zero_and_everything_is_signed(graph: onnx.GraphProto) -> None:
    values = constants(graph)
    zeros = [values[node.input[2]] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert zeros and all(zero.dtype == np.int8 and not zero.any() for zero in zeros)


def test_weights_have_one_scale_per_output_channel(graph: onnx.GraphProto) -> None:
    values = constants(graph)
    originals = constants(load_named(two_convolutions()).graph)
    for name in ("w1", "w2"):
        kernel, scale, original = values[f"{name}_quantised"], values[f"{name}_scale"], originals[name]
        assert kernel.dtype == np.int8 and scale.shape == (len(kernel),)
        np.testing.assert_allclose(scale, np.abs(original).max((1, 2, 3)) / 127, rtol=1e-6)
        assert np.abs(kernel * scale[:, None, None, None] - original).max() <= scale.max() * 0.501


def test_biases_stay_float(graph: onnx.GraphProto) -> None:
    """TensorRT takes no INT32 DequantizeLinear."""
    assert not {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT32}
    assert [list(node.input[2:]) for node in graph.node if node.name == "conv1"] == [["b1"]]
    assert constants(graph)["b1"].dtype == np.float32


def test_inputs_and_outputs_are_unchanged(graph: onnx.GraphProto) -> None:
    before = load_named(two_convolutions()).graph
    assert list(graph.input) == list(before.input) and list(graph.output) == list(before.output)


def test_a_layer_that_is_not_asked_for_keeps_its_weights(clips: dict[str, float]) -> None:
    graph = quantise(load_named(two_convolutions()), ("conv2",), clips, INT8).graph
    (left_out,) = [node for node in graph.node if node.name == "conv1"]
    assert list(left_out.input) == ["normalised", "w1", "b1"]


def test_the_answer_is_that_of_onnxruntimes_quantiser(
    clips: dict[str, float], graph: onnx.GraphProto, caplog: pytest.LogCaptureFixture
) -> None:
    """Same ranges, same rules, another implementation."""
    caplog.set_level(logging.ERROR)
    ranges = {name: TensorData(lowest=np.float32(-clip), highest=np.float32(clip)) for name, clip in clips.items()}
    theirs = QDQQuantizer(
        load_named(two_convolutions()),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    theirs.quantize_model()
    theirs.model.topological_sort()
    ours = quantise(load_named(two_convolutions()), BOTH, clips, INT8)
    float32 = answers(load_named(two_convolutions()))[0]
    apart = np.abs(answers(ours)[0] - answers(theirs.model.model)[0]).max()
    assert apart < 0.5 * np.abs(answers(ours)[0] - float32).max(), "their scales are 254/255 of ours, and no more"


def test_fp8_rounds_as_torchs_float8_does(clips: dict[str, float]) -> None:
    """Through a ReLU, which ONNX Runtime's further optimisations would drop in front of FP8."""
    model = quantise(load_named(two_convolutions()), BOTH, clips, FP8)
    values = constants(load_named(two_convolutions()).graph)

    def rounded(tensor: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return (tensor / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale

    def weight(name: str) -> torch.Tensor:
        kernel = torch.tensor(values[name])
        return rounded(kernel, kernel.abs().amax((1, 2, 3), keepdim=True) / 448)

    image = torch.tensor(noise_images(CAMERA, 3)).permute(0, 3, 1, 2) / torch.tensor(values["white"])
    first = torch.nn.functional.conv2d(
        rounded(image, torch.tensor(clips["normalised"] / 448)), weight("w1"), torch.tensor(values["b1"]), padding=1
    )
    assert (first < 0).any(), "the ReLU has something to do"
    second = torch.nn.functional.conv2d(
        rounded(first.relu(), torch.tensor(clips["resized"] / 448)), weight("w2"), padding=1
    )
    came = answers(model, integer_kernels=False)[0]
    wanted = 0.5 * second[:, 0].numpy()
    assert np.abs(came - wanted).mean() < 0.02 * np.abs(wanted).mean(), "but for steps that flip"
    exact = answers(load_named(two_convolutions()))[0]
    assert np.abs(came - wanted).mean() < 0.2 * np.abs(came - exact).mean()


def test_biases_make_up_for_what_is_lacking(clips: dict[str, float]) -> None:
    model = load_named(two_convolutions())
    lacking = {"conv1": np.arange(8, dtype=np.float32), "conv2": np.ones(1, np.float32)}
    values = constants(quantise(model, BOTH, clips, INT8, lacking).graph)
    np.testing.assert_array_equal(values["conv1_bias_corrected"], constants(model.graph)["b1"] + lacking["conv1"])
    np.testing.assert_array_equal(values["conv2_bias_corrected"], [1.0])  # which had no bias


def residual_block() -> onnx.ModelProto:
    """relu(c1(x)) is read by c2 and by the sum, as in a ResNet; c3 reads the sum."""
    rng = np.random.default_rng(0)
    weights = {f"w{index}": 0.2 * rng.standard_normal((8, 8, 3, 3)).astype(np.float32) for index in (1, 2, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["y1"], "c1", pads=[1] * 4),
        helper.make_node("Relu", ["y1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["y2"], "c2", pads=[1] * 4),
        helper.make_node("Add", ["y2", "r1"], ["sum"], "add"),
        helper.make_node("Conv", ["sum", "w3"], ["y3"], "c3", pads=[1] * 4),
        helper.make_node("Relu", ["y3"], ["out"], "relu3"),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 12, 12])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 8, 12, 12])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_what_two_nodes_read_has_a_pair_for_each_and_all_convolutions_become_integer_kernels(tmp_path: Path) -> None:
    model = residual_block()
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    tensors = ["x", "y1", "r1", "y2", "sum", "y3", "out"]
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors[1:-1])
    x = np.random.default_rng(1).standard_normal((1, 8, 12, 12)).astype(np.float32)
    seen = open_session(shown.SerializeToString(), "it").run(tensors[1:], {"x": x})
    clips = {name: float(np.abs(value).max()) for name, value in zip(tensors, [x, *seen], strict=True)}
    quantised = quantise(model, ("c1", "c2", "c3"), clips, INT8)

    readers = [name for node in quantised.graph.node for name in node.input]
    pairs = [node for node in quantised.graph.node if node.op_type == "DequantizeLinear"]
    assert all(readers.count(node.output[0]) == 1 for node in pairs)
    assert sum(node.input[1] == "r1_scale" for node in pairs) == 2

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    content = quantised.SerializeToString()
    onnxruntime.InferenceSession(content, options, disabled_optimizers=[*DISABLED_OPTIMIZERS])
    operators = [node.op_type for node in onnx.load_model(options.optimized_model_filepath).graph.node]
    assert (operators.count("QLinearConv"), operators.count("Conv")) == (3, 0)
    [came] = open_session(content, "it").run(["out"], {"x": x})
    assert np.abs(came - seen[-1]).mean() < 0.03 * np.abs(seen[-1]).mean()


def test_convolutions_of_computed_weights_are_no_candidates() -> None:
    model = load_named(two_convolutions())
    assert [node.name for node in convolutions(model)] == list(BOTH)
    next(node for node in model.graph.node if node.name == "conv2").input[1] = "computed"
    assert [node.name for node in convolutions(model)] == ["conv1"]


def test_the_same_input_gives_the_same_bytes(clips: dict[str, float], tmp_path: Path) -> None:
    first, again = (quantise(load_named(two_convolutions()), BOTH, clips, INT8).SerializeToString() for _ in range(2))
    assert first == again
