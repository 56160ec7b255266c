"""FP16: the trunk and nothing else, close to float32, never out of range."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from calibration.fp16 import fp16_from_fp32, trunk_of
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


def test_the_trunk_is_what_lies_between_convolutions() -> None:
    assert trunk_of(onnx.load_model_from_string(two_convolutions()).graph) == TRUNK


def test_the_trunk_computes_in_float16_and_the_rest_in_float32() -> None:
    model = onnx.load_model_from_string(fp16_from_fp32(two_convolutions()))
    kind = kinds(model)
    computed = {node.name: kind[node.output[0]] for node in model.graph.node if node.op_type != "Cast"}
    assert {name for name, of_one in computed.items() if of_one == TensorProto.FLOAT16} == TRUNK
    assert {of_one for name, of_one in computed.items() if name not in TRUNK} == {TensorProto.FLOAT}
    before = onnx.load_model_from_string(two_convolutions()).graph
    assert list(model.graph.input) == list(before.input)
    assert list(model.graph.output) == list(before.output)


def test_casts_stand_at_the_two_borders_only() -> None:
    model = onnx.load_model_from_string(fp16_from_fp32(two_convolutions()))
    casts = {node.input[0]: node.attribute[0].i for node in model.graph.node if node.op_type == "Cast"}
    assert casts == {
        "image": TensorProto.FLOAT,
        "normalised": TensorProto.FLOAT16,
        "distance": TensorProto.FLOAT,
    }


def test_scales_of_a_resize_stay_float32() -> None:
    model = onnx.load_model_from_string(fp16_from_fp32(two_convolutions()))
    (resize,) = [node for node in model.graph.node if node.op_type == "Resize"]
    assert resize.input[2] == "scales" and kinds(model)["scales"] == TensorProto.FLOAT


def test_answers_stay_within_the_rounding_of_float16() -> None:
    images = noise_images(CAMERA, 3)
    expected = open_session(two_convolutions(), "fp32").run(None, {"image": images})
    got = open_session(fp16_from_fp32(two_convolutions()), "fp16").run(None, {"image": images})
    for wanted, came in zip(expected, got, strict=True):
        difference = np.abs(came - wanted).max() / np.abs(wanted).max()
        assert 0 < difference < 5e-3, "11 bits round; an exact answer would not be float16's"


def test_a_weight_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(CalibrationError, match=r"w1 does not fit into FP16") as caught:
        fp16_from_fp32(two_convolutions(gain=1e6))
    assert "65504" in str(caught.value)


def test_a_graph_without_a_tail_is_refused() -> None:
    model = onnx.load_model_from_string(two_convolutions())
    del model.graph.node[-3:]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("distance", TensorProto.FLOAT, None))
    with pytest.raises(CalibrationError, match="no score tail"):
        fp16_from_fp32(model.SerializeToString())
