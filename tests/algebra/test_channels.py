"""A map of channels moved back to the weights: the same numbers as from the map at the end, from smaller constants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import ModelProto, helper

from edge_ad.algebra import optimise, total_macs
from edge_ad.algebra.channels import project_channels
from edge_ad.algebra.editor import GraphEditor
from tests.algebra.graphs import answers, exported, graph, node, noise

C, R = 6, 2


def projected(model: ModelProto, tensor: str, axis: int, matrix: np.ndarray) -> ModelProto | None:
    """The model with the new tensor as its only output."""
    copy = ModelProto()
    copy.CopyFrom(model)
    editor = GraphEditor(copy)
    name = project_channels(editor, tensor, axis, matrix)
    if name is None:
        return None
    del copy.graph.output[:]
    copy.graph.output.extend([helper.make_empty_tensor_value_info(name)])
    editor.finish()
    return copy


def check(model: ModelProto, tensor: str, axis: int, channels: int = C) -> None:
    """Against NumPy's product with the whole tensor."""
    matrix = noise(channels, R, seed=5)
    after = projected(model, tensor, axis, matrix)
    assert after is not None
    model.graph.output.extend([helper.make_empty_tensor_value_info(tensor)])
    for batch in (1, 3):
        whole = dict(zip([value.name for value in model.graph.output], answers(model, batch), strict=True))[tensor]
        wanted = np.moveaxis(np.tensordot(whole, matrix, axes=(axis, 0)), -1, axis)
        (came,) = answers(after, batch)
        assert came.shape == wanted.shape
        np.testing.assert_allclose(came, wanted, atol=1e-4 * np.abs(wanted).max())
    of_weights = [sum(math.prod(one.dims) for one in it.graph.initializer) for it in (after, model)]
    assert of_weights[0] < of_weights[1]


def test_through_a_convolution_and_a_bias() -> None:
    constants = {"w": noise(C, 4, 3, 3), "b": noise(C), "more": noise(C, 1, 1)}
    nodes = [node("Conv", ["x", "w", "b"], ["c"]), node("Add", ["c", "more"], ["y"])]
    check(graph(nodes, constants, outputs=(), x=(4, 7, 8)), "y", 1)


def test_a_sum_with_one_value_for_all_channels_counts_once_for_each() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Sub", ["c", "one"], ["y"])]
    check(graph(nodes, {"w": noise(C, 4, 1, 1), "one": noise(1, 5)}, outputs=(), x=(4, 5, 5)), "y", 1)


def test_with_taps_inside_the_axis_and_outside() -> None:
    """(C x 3, ...) and (3 x C): channels first, and channels last."""
    constants = {
        "w": noise(C * 3, 4, 1, 1),
        "rows": noise(7, 5),
        "view": np.array([0, C, 3, 7, 5]),
        "flat": np.array([0, C, 7, 15]),
        "columns": noise(15, 4),
    }
    nodes = [
        node("Conv", ["x", "w"], ["taps"]),
        node("MatMul", ["rows", "taps"], ["by_row"]),
        node("Reshape", ["by_row", "view"], ["by_tap"]),
        node("Transpose", ["by_tap"], ["by_place"], perm=[0, 1, 3, 2, 4]),
        node("Reshape", ["by_place", "flat"], ["stacked"]),
        node("MatMul", ["stacked", "columns"], ["y"]),
    ]
    check(graph(nodes, constants, outputs=(), x=(4, 5, 5)), "y", 1)
    constants = {"m": noise(4, C), "view": np.array([0, 5, 6 * C]), "rows": noise(7, 5), "back": np.array([0, 7, 6, C])}
    nodes = [
        node("MatMul", ["x", "m"], ["cells"]),
        node("Reshape", ["cells", "view"], ["flat"]),
        node("MatMul", ["rows", "flat"], ["by_row"]),
        node("Reshape", ["by_row", "back"], ["y"]),
    ]
    check(graph(nodes, constants, outputs=(), x=(5, 6, 4)), "y", 3)


@pytest.mark.parametrize("case", ["an input", "a rectifier", "stacked channels", "products over channels", "groups"])
def test_channels_from_anything_else_are_refused(case: str) -> None:
    constants: dict[str, np.ndarray] = {"w": noise(C, C, 1, 1), "m": noise(5, C), "g": noise(C, 1, 1, 1)}
    conv = node("Conv", ["x", "w"], ["c"])
    nodes = {
        "an input": [node("Add", ["x", "x"], ["y"])],
        "a rectifier": [conv, node("Relu", ["c"], ["y"])],
        "stacked channels": [conv, node("Concat", ["c", "c"], ["y"], axis=1)],
        "products over channels": [
            conv,
            node("Transpose", ["c"], ["t"], perm=[0, 2, 1, 3]),
            node("MatMul", ["m", "t"], ["u"]),
            node("Transpose", ["u"], ["y"], perm=[0, 2, 1, 3]),
        ],
        "groups": [node("Conv", ["x", "g"], ["y"], group=C)],
    }[case]
    model = graph(nodes, constants, x=(C, 4, 4))
    channels = GraphEditor(model).shape("y")[1]
    assert projected(model, "y", 1, noise(channels, R)) is None


@pytest.mark.parametrize(("like", "axis"), [("LeakyRelu", 3), ("conv2d_15", 1)])
def test_through_upsampled_features_of_a_whole_network(like: str, axis: int) -> None:
    """SuperSimpleNet's hidden layer, and the context of its classification head."""
    model = ModelProto()
    model.CopyFrom(optimise(exported("supersimplenet", (64, 64), image_size=64, backbone="resnet18", hidden=256))[0])
    found = [one for one in model.graph.node if one.op_type == like]
    tensor = found[0].input[0] if found else like
    matrix = noise(GraphEditor(model).shape(tensor)[axis], R)
    after = projected(model, tensor, axis, matrix)
    assert after is not None and total_macs(after) < total_macs(model)
    model.graph.output.extend([helper.make_empty_tensor_value_info(tensor)])
    wanted = np.moveaxis(np.tensordot(answers(model, 2)[-1], matrix, axes=(axis, 0)), -1, axis)
    (came,) = answers(after, 2)
    np.testing.assert_allclose(came, wanted, atol=1e-4 * np.abs(wanted).max())
