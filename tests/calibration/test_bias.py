"""What biases make up for: by hand, and by a plain form that runs the whole graph anew for every convolution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from scipy.stats import trim_mean

from calibration.bias import RARE, lacking, lacking_of_weights
from calibration.fp16 import trunk_tensors
from calibration.observe import Observation, observe
from calibration.qdq import FP8, INT8, convolutions, quantise
from calibration.trunk import load_named
from edge_ad.frame import Image, read_image
from tests.calibration.graphs import two_convolutions, write_images
from tests.golden_bundle import CAMERA


def constants(model: ModelProto) -> dict[str, npt.NDArray[np.float32]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def residual_network() -> ModelProto:
    """c1, ReLU, c2, added to what c2 read, ReLU, c3, map and score: tensors that outlive a convolution."""
    rng = np.random.default_rng(0)
    sizes = {"w1": (6, 3, 3, 3), "w2": (6, 6, 3, 3), "w3": (1, 6, 1, 1)}
    weights = {name: (0.3 * rng.standard_normal(size)).astype(np.float32) for name, size in sizes.items()}
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], "to_nchw", perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "white"], ["x"], "normalise"),
        helper.make_node("Conv", ["x", "w1"], ["y1"], "c1", pads=[1] * 4),
        helper.make_node("Relu", ["y1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["y2"], "c2", pads=[1] * 4),
        helper.make_node("Add", ["y2", "r1"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["r2"], "relu2"),
        helper.make_node("Conv", ["r2", "w3"], ["y3"], "c3"),
        helper.make_node("Squeeze", ["y3", "channel"], ["anomaly_map"], "squeeze"),
        helper.make_node("ReduceMax", ["anomaly_map", "axes"], ["score"], "max", keepdims=0),
    ]
    values = weights | {"white": np.array(255, np.float32), "channel": np.array([1]), "axes": np.array([1, 2])}
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", CAMERA.height, CAMERA.width, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", CAMERA.height, CAMERA.width]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


GRAPHS = {"chain": two_convolutions, "residual": lambda: residual_network().SerializeToString()}


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path / "images", 4)


def seen_in(model: ModelProto, paths: list[Path]) -> dict[str, Observation]:
    return observe(model, trunk_tensors(model), paths, 0)


def clips_of(model: ModelProto, paths: list[Path]) -> dict[str, float]:
    """Narrow ones, so that clipping has a part in what is lacking."""
    return {name: 0.6 * seen.largest for name, seen in seen_in(model, paths).items()}


def tensor(model: ModelProto, name: str, frame: Image) -> npt.NDArray[np.float32]:
    """By ONNX's own reference implementation."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.opset_import[0].version = 19  # which it has quantisation for; these operators only gained options
    shown.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return ReferenceEvaluator(shown).run([name], {"image": frame[None]})[0]


@pytest.mark.parametrize("graph", GRAPHS)
def test_each_is_measured_when_those_before_it_lack_nothing(graph: str, paths: list[Path]) -> None:
    model = load_named(GRAPHS[graph]())
    clips, nodes = clips_of(model, paths), convolutions(model)
    names = [node.name for node in nodes]
    frames = [read_image(path) for path in paths]
    found = lacking(model, quantise(model, names, clips, INT8), frames)

    wanted: dict[str, npt.NDArray[np.float32]] = {}
    for node in nodes:
        so_far: Mapping[str, npt.NDArray[np.float32]] = {name: wanted.get(name, np.float32(0)) for name in names}
        quantised = quantise(model, names, clips, INT8, so_far)
        errors = [tensor(model, node.output[0], frame) - tensor(quantised, node.output[0], frame) for frame in frames]
        of_channels = np.stack(errors)[:, 0].transpose(1, 0, 2, 3).reshape(errors[0].shape[1], -1)
        wanted[node.name] = trim_mean(of_channels, RARE, axis=1).astype(np.float32)
    assert {*found} == {*names}
    for name in names:
        np.testing.assert_allclose(found[name], wanted[name], atol=2e-4)  # a step that flips between two libraries
        assert np.abs(wanted[name]).max() > 1e-3, "there was something to make up for"


def test_with_its_biases_nothing_lacks_any_more(paths: list[Path]) -> None:
    model = load_named(two_convolutions())
    names, clips = [node.name for node in convolutions(model)], clips_of(model, paths)
    frames = [read_image(path) for path in paths]
    found = lacking(model, quantise(model, names, clips, INT8), frames)
    left = lacking(model, quantise(model, names, clips, INT8, found), frames)
    for name in names:
        assert np.abs(left[name]).max() < 0.02 * np.abs(found[name]).max()


def test_eight_bits_of_a_float_format_can_be_measured_as_well(paths: list[Path]) -> None:
    model = load_named(two_convolutions())
    names = [node.name for node in convolutions(model)]
    clips = {name: seen.largest for name, seen in seen_in(model, paths).items()}
    found = lacking(model, quantise(model, names, clips, FP8), [read_image(path) for path in paths])
    assert all(np.isfinite(found[name]).all() and found[name].any() for name in names)


def test_rounded_weights_lack_their_sum_times_the_mean(paths: list[Path]) -> None:
    """On an image that is its channels' means everywhere, borders aside."""
    model = load_named(two_convolutions())
    seen = seen_in(model, paths)
    found = lacking_of_weights(model, INT8, seen)
    means = np.asarray(seen["normalised"].channel_mean)
    quantised = constants(quantise(model, ["conv1", "conv2"], clips_of(model, paths), INT8))
    lost = constants(model)["w1"] - quantised["w1_quantised"] * quantised["w1_scale"][:, None, None, None]
    by_hand = [sum((lost[out, channel] * means[channel]).sum() for channel in range(3)) for out in range(8)]
    np.testing.assert_allclose(found["conv1"], by_hand, atol=1e-7)
    assert np.abs(found["conv1"]).max() > 1e-5


def test_grouped_convolutions_take_the_means_of_their_own_channels() -> None:
    kernel = np.random.default_rng(0).standard_normal((4, 2, 1, 1)).astype(np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "grouped", group=2)],
        "grouped",
        [value("x", TensorProto.FLOAT, [1, 4, 2, 2])],
        [value("y", TensorProto.FLOAT, [1, 4, 2, 2])],
        [numpy_helper.from_array(kernel, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    means = np.array([1.0, 10.0, 100.0, 1000.0])
    found = lacking_of_weights(model, INT8, {"x": Observation(channel_mean=means)})
    values = constants(quantise(model, ("grouped",), {"x": 1.0, "y": 1.0}, INT8))
    lost = (kernel - values["w_quantised"] * values["w_scale"][:, None, None, None])[..., 0, 0]
    by_hand = [lost[out] @ means[:2] if out < 2 else lost[out] @ means[2:] for out in range(4)]
    np.testing.assert_allclose(found["grouped"], by_hand, rtol=1e-4)
