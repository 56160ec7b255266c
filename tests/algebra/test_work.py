"""The counter of work, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_ad.algebra import Work, macs_by_node, total_macs, work_by_node
from edge_ad.errors import ExportError
from tests.algebra.graphs import exported, graph, node, noise


def test_a_convolution_costs_its_kernel_at_every_output() -> None:
    model = graph([node("Conv", ["x", "w"], ["y"], "conv", strides=[2, 2])], {"w": noise(6, 4, 3, 3)}, x=(4, 9, 11))
    assert macs_by_node(model) == {"conv": 6 * 4 * 9 * (4 * 5)}
    assert work_by_node(model)["conv"].bytes == 4 * (4 * 9 * 11 + 6 * 4 * 9 + 6 * 4 * 5)


def test_groups_share_the_work() -> None:
    model = graph([node("Conv", ["x", "w"], ["y"], "conv", group=2)], {"w": noise(6, 2, 1, 1)}, x=(4, 5, 7))
    assert macs_by_node(model) == {"conv": 6 * 2 * 35}


def test_matrix_products_cost_their_contracted_axis() -> None:
    nodes = [
        node("MatMul", ["a", "x"], ["left"], "left"),
        node("MatMul", ["left", "b"], ["right"], "right"),
        node("Flatten", ["right"], ["flat"], "flat"),
        node("Gemm", ["flat", "c"], ["y"], "gemm"),
    ]
    model = graph(nodes, {"a": noise(3, 5), "b": noise(7, 2), "c": noise(6, 4)}, x=(5, 7))
    assert macs_by_node(model) == {"left": 3 * 5 * 7, "right": 3 * 7 * 2, "gemm": 6 * 4}
    assert total_macs(model) == 105 + 42 + 24
    assert work_by_node(model)["flat"] == Work(macs=0, bytes=0), "a view moves nothing"


def test_what_only_moves_has_bytes_and_no_macs() -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Add", ["r", "r"], ["y"], "twice")]
    model = graph(nodes, {}, x=(3, 4))
    assert work_by_node(model) == {"relu_0": Work(macs=0, bytes=4 * 24), "twice": Work(macs=0, bytes=4 * 24)}


def test_nodes_without_a_name_are_called_by_their_place() -> None:
    model = graph([node("Relu", ["x"], ["r"]), node("Conv", ["r", "w"], ["y"])], {"w": noise(1, 2, 1, 1)}, x=(2, 3, 3))
    for one in model.graph.node:
        one.name = ""
    assert list(work_by_node(model)) == ["Relu_0", "Conv_1"]


def test_quantised_weights_count_like_others() -> None:
    nodes = [
        node("DequantizeLinear", ["w8", "scale"], ["w"]),
        node("Conv", ["x", "w"], ["y"], "conv"),
    ]
    constants = {"w8": np.ones((2, 3, 3, 3), np.int8), "scale": np.float32(0.1)}
    assert macs_by_node(graph(nodes, constants, x=(3, 4, 4))) == {"conv": 2 * 27 * 4}


def test_patches_of_one_frame_are_that_frames_work() -> None:
    """CutPaste's patches multiply the batch within the graph."""
    options = {"level": "patch", "image_size": 64, "patch_size": 32, "stage": 1}
    few = exported("cutpaste", (64, 64), **options, stride=32)
    many = exported("cutpaste", (64, 64), **options, stride=16)
    assert 9 / 4 * 0.95 < total_macs(many) / total_macs(few) < 9 / 4 * 1.05


def test_sizes_that_nobody_knows_are_an_error() -> None:
    model = graph([node("Relu", ["x"], ["y"])], {}, x=(3, 4))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "anything", 4]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    with pytest.raises(ExportError, match="cannot be counted"):
        work_by_node(model)
