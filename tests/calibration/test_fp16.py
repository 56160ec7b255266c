"""FP16 from known ranges: what float16 cannot hold stays float32, by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import numpy_helper

from calibration.fp16 import fp16_from_fp32, half_safe, trunk_tensors
from calibration.search import Journal
from calibration.trunk import load_named
from tests.calibration.graphs import two_convolutions
from tests.calibration.judges import judge_of
from tests.calibration.test_half import TRUNK


def test_a_graph_that_float16_can_hold_is_halved_whole(tmp_path: Path) -> None:
    content = two_convolutions()
    judge, observations = judge_of(content, tmp_path)
    made = fp16_from_fp32(load_named(content), observations, Journal(None, judge))
    assert made.overflowing == {} and made.search.left_out == ()
    assert 0 < made.search.chosen.used < 1


def test_the_trunks_float_tensors_are_observed() -> None:
    names = trunk_tensors(load_named(two_convolutions()))
    assert names == ["normalised", "features", "rectified", "resized", "distance"]


@pytest.mark.parametrize("reaches", [32_000.0, 33_000.0])
def test_what_comes_near_the_end_of_float16_stays_float32(tmp_path: Path, reaches: float) -> None:
    """65,504 with a headroom of two: 32,000 is safe, 33,000 is not. The whole path that carries it is named."""
    model = load_named(two_convolutions())
    for tensor in model.graph.initializer:
        if tensor.name == "b1":
            bias = numpy_helper.to_array(tensor).copy()
            bias[3] = -reaches  # ReLU cuts it off; the convolution still writes it
            tensor.CopyFrom(numpy_helper.from_array(bias, "b1"))
    content = model.SerializeToString()
    judge, observations = judge_of(content, tmp_path)
    made = fp16_from_fp32(load_named(content), observations, Journal(None, judge))
    if reaches < 32_752:
        assert made.overflowing == {}
    else:
        assert set(made.overflowing) == {"conv1", "relu"}
        assert made.overflowing["conv1"] == pytest.approx(reaches, rel=1e-3)
        halved = load_named(made.content)
        (conv1,) = [node for node in halved.graph.node if node.name == "conv1"]
        assert conv1.input[1] == "w1", "its weights are float32's"


def test_a_weight_beyond_float16_keeps_its_node_in_float32(tmp_path: Path) -> None:
    content = two_convolutions(gain=1e6)
    _, observations = judge_of(content, tmp_path)
    safe, overflowing = half_safe(load_named(content), observations)
    assert "conv1" in overflowing and "conv1" not in safe
    assert safe | set(overflowing) == TRUNK
