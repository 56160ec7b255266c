"""Channels of like size: the same function, with less to lose to INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.equalise import equalise
from calibration.observe import Observation
from calibration.trunk import load_named
from edge_ad.backends.onnxruntime import open_session

CHANNELS = 6


def network(**changes: object) -> onnx.ModelProto:
    """stem, ReLU, pool; a residual block; a convolution that ends it. Channel 2 of the stem is much larger.

    Args:
        changes: `tail`: the stem's stream is an output as well; `shared`: two convolutions have one kernel.
    """
    rng = np.random.default_rng(0)
    constants = {
        name: rng.standard_normal(shape).astype(np.float32) * 0.3
        for name, shape in {
            "w0": (CHANNELS, 3, 3, 3),
            "b0": (CHANNELS,),
            "w1": (5, CHANNELS, 3, 3),
            "b1": (5,),
            "w2": (CHANNELS, 5, 3, 3),
            "w3": (4, CHANNELS, 1, 1),
        }.items()
    }
    constants["w0"][2] *= 50
    conv = lambda name, source, weights, pads=1: helper.make_node(  # noqa: E731
        "Conv", [source, *weights], [name], name, pads=[pads] * 4
    )
    nodes = [
        conv("stem", "image", ["w0", "b0"]),
        helper.make_node("Relu", ["stem"], ["stem_relu"], "relu0"),
        helper.make_node("MaxPool", ["stem_relu"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        conv("inner", "pooled", ["w1", "b1"]),
        helper.make_node("Relu", ["inner"], ["inner_relu"], "relu1"),
        conv("branch", "inner_relu", ["w2"]),
        helper.make_node("Add", ["branch", "pooled"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["sum_relu"], "relu2"),
        conv("end", "sum_relu", ["w3"], 0),
    ]
    if changes.get("shared"):
        nodes.append(conv("end2", "sum_relu", ["w3"], 0))
    outputs = ["end", *(["sum_relu"] if changes.get("tail") else []), *(["end2"] if changes.get("shared") else [])]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return load_named(model.SerializeToString())


def run(model: onnx.ModelProto, *names: str) -> list[np.ndarray]:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    image = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
    return open_session(shown.SerializeToString(), "it").run(list(names), {"image": image})


def observed(model: onnx.ModelProto) -> dict[str, Observation]:
    names = ["image", "pooled", "inner_relu", "sum_relu"]
    observations = {name: Observation() for name in names}
    seen = {"image": np.ones((1, 3, 2, 2), np.float32)}
    seen |= dict(zip(names[1:], run(model, *names[1:]), strict=True))
    for name in names:
        observations[name].add(seen[name], rectified=False, share=1.0)
    return observations


def unevenness(model: onnx.ModelProto, name: str) -> float:
    largest = run(model, name)[0].max((0, 2, 3))
    return float(largest.max() / np.median(largest))


def test_the_function_is_the_same_and_the_channels_are_alike() -> None:
    model = network()
    equal = equalise(model, observed(model))
    assert equal is not None
    np.testing.assert_allclose(run(equal, "end")[0], run(model, "end")[0], rtol=1e-4, atol=1e-4)
    for name in ("pooled", "sum_relu"):
        assert unevenness(equal, name) < 0.7 * unevenness(model, name)


def test_the_factors_are_those_of_the_formula() -> None:
    """Of the inner stream: one writer, one reader; sqrt(activation / weight), its median 1."""
    model = network()
    observations = observed(model)
    equal = equalise(model, observations)
    assert equal is not None
    before, after = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in one.graph.initializer} for one in (model, equal)
    )
    factor = np.sqrt(observations["inner_relu"].channel_largest / np.abs(before["w2"]).max((0, 2, 3)))
    factor /= np.median(factor)
    np.testing.assert_allclose(after["b1"], before["b1"] / factor, rtol=1e-5)
    stem = before["b0"] / after["b0"]
    np.testing.assert_allclose(
        after["w1"], before["w1"] * stem[None, :, None, None] / factor[:, None, None, None], rtol=1e-4
    )


def test_a_stream_that_something_else_reads_is_left_alone() -> None:
    """The score's tail reads the residual sum: its channels keep their size; the inner stream is still free."""
    model = network(tail=True)
    equal = equalise(model, observed(model))
    assert equal is not None
    for name in ("pooled", "sum_relu"):
        np.testing.assert_allclose(run(equal, name)[0], run(model, name)[0], rtol=1e-4, atol=1e-5)
    assert not np.allclose(run(equal, "inner_relu")[0], run(model, "inner_relu")[0], rtol=0.05)


def test_weights_that_two_convolutions_share_are_left_alone() -> None:
    model = network(shared=True)
    equal = equalise(model, observed(model))
    assert equal is not None
    np.testing.assert_allclose(run(equal, "sum_relu")[0], run(model, "sum_relu")[0], rtol=1e-4, atol=1e-5)


def test_where_nothing_can_be_scaled_there_is_nothing_to_try() -> None:
    model = network()
    del model.graph.node[1:]
    model.graph.output[0].name = "stem"
    assert equalise(model, {"image": Observation()}) is None


def test_a_silent_channel_keeps_its_weights(tmp_path: Path) -> None:
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name in ("w1", "b1"):
            value = numpy_helper.to_array(tensor).copy()
            value[3] = 0
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    equal = equalise(model, observed(model))
    assert equal is not None and all(np.isfinite(numpy_helper.to_array(one)).all() for one in equal.graph.initializer)
    assert run(equal, "end")[0] == pytest.approx(run(model, "end")[0], rel=1e-3, abs=1e-3)
