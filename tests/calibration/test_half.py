"""Half precision: named nodes and nothing else, and an emulation that rounds as float16 does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.half import halve, round_like_half
from calibration.trunk import load_named, trunk_of
from edge_ad.backends.onnxruntime import open_session
from edge_ad.errors import CalibrationError
from tests.calibration.graphs import two_convolutions
from tests.golden_bundle import CAMERA, noise_images

TRUNK = {"conv1", "relu", "resize", "conv2"}


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor, as ONNX's own inference sees it."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    for value in [*inferred.value_info, *inferred.input, *inferred.output]:
        found[value.name] = value.type.tensor_type.elem_type
    return found


@pytest.fixture
def halved() -> onnx.ModelProto:
    return halve(load_named(two_convolutions()), TRUNK)


def test_the_trunk_is_what_lies_between_convolutions() -> None:
    assert trunk_of(load_named(two_convolutions()).graph) == TRUNK


def test_named_nodes_compute_in_float16_and_the_rest_in_float32(halved: onnx.ModelProto) -> None:
    kind = kinds(halved)
    computed = {node.name: kind[node.output[0]] for node in halved.graph.node if node.op_type != "Cast"}
    assert {name for name, of_one in computed.items() if of_one == TensorProto.FLOAT16} == TRUNK
    assert {of_one for name, of_one in computed.items() if name not in TRUNK} == {TensorProto.FLOAT}
    before = load_named(two_convolutions()).graph
    assert list(halved.graph.input) == list(before.input)
    assert list(halved.graph.output) == list(before.output)


def test_casts_stand_at_the_borders_only(halved: onnx.ModelProto) -> None:
    casts = {node.input[0]: node.attribute[0].i for node in halved.graph.node if node.op_type == "Cast"}
    assert casts == {
        "image": TensorProto.FLOAT,
        "normalised": TensorProto.FLOAT16,
        "distance": TensorProto.FLOAT,
    }


def test_one_convolution_alone_has_its_own_borders() -> None:
    model = halve(load_named(two_convolutions()), {"conv2"})
    casts = [node.input[0] for node in model.graph.node if node.op_type == "Cast"]
    assert casts == ["image", "resized", "distance"] and kinds(model)["resized"] == TensorProto.FLOAT


def test_scales_of_a_resize_stay_float32(halved: onnx.ModelProto) -> None:
    (resize,) = [node for node in halved.graph.node if node.op_type == "Resize"]
    assert resize.input[2] == "scales" and kinds(halved)["scales"] == TensorProto.FLOAT


def test_answers_stay_within_the_rounding_of_float16(halved: onnx.ModelProto) -> None:
    images = noise_images(CAMERA, 3)
    expected = open_session(two_convolutions(), "fp32").run(None, {"image": images})
    for graph in (halved, round_like_half(load_named(two_convolutions()), TRUNK)):
        got = open_session(graph.SerializeToString(), "fp16").run(None, {"image": images})
        for wanted, came in zip(expected, got, strict=True):
            difference = np.abs(came - wanted).max() / np.abs(wanted).max()
            assert 0 < difference < 5e-3, "11 bits round; an exact answer would not be float16's"


def test_the_emulation_rounds_every_intermediate_result_as_numpy_does() -> None:
    """x * a, then * b: the product in between is rounded too, which a CPU runtime does not do of itself."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "a"], ["m"], "first"), helper.make_node("Mul", ["m", "b"], ["y"], "second")],
        "products",
        [value("x", TensorProto.FLOAT, [4000])],
        [value("y", TensorProto.FLOAT, [4000])],
        [numpy_helper.from_array(np.float32([0.3, 7.7][index]).reshape(1), name) for index, name in enumerate("ab")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    x = np.random.default_rng(0).normal(0, 100, 4000).astype(np.float32)
    emulated = round_like_half(load_named(model.SerializeToString()), {"first", "second"})
    (came,) = open_session(emulated.SerializeToString(), "it").run(None, {"x": x})
    half = x.astype(np.float16) * np.float16(0.3) * np.float16(7.7)
    np.testing.assert_array_equal(came, half.astype(np.float32))
    once = (x.astype(np.float16).astype(np.float32) * np.float32(np.float16(0.3)) * np.float32(np.float16(7.7))).astype(
        np.float16
    )
    assert (came != once).any(), "rounding only the end is something else"


def test_a_weight_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(CalibrationError, match=r"w1 does not fit into FP16") as caught:
        halve(load_named(two_convolutions(gain=1e6)), TRUNK)
    assert "65504" in str(caught.value)


def test_a_graph_without_a_tail_is_refused() -> None:
    model = load_named(two_convolutions())
    del model.graph.node[-3:]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("distance", TensorProto.FLOAT, None))
    with pytest.raises(CalibrationError, match="no score tail"):
        halve(model, TRUNK)
