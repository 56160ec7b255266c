"""Graphs whose answer to a whole frame is known, to judge the tiles by."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

STRIDE = 2


def edges_graph(height: int, width: int) -> bytes:
    """A convolution of 5 x 5 pixels, zero-padded, every second pixel: the outermost cells of its map see the border.

    Weights are whole numbers, so that sums are exact in any order and equal maps are equal to the last bit.
    """
    rows, columns = np.mgrid[-2:3, -2:3]
    weights = np.broadcast_to((3 * rows - 2 * columns + 7).astype(np.float32), (1, 3, 5, 5))
    convolved = helper.make_node("Conv", ["planes", "weights"], ["found"], strides=[STRIDE, STRIDE], pads=[2] * 4)
    return _graph(height, width, [convolved], {"weights": np.ascontiguousarray(weights)})


def mean_graph(height: int, width: int) -> bytes:
    """Every cell of the map is the mean of the whole frame: as far from position-independent as a graph can be."""
    nodes = [
        helper.make_node("MaxPool", ["planes"], ["pooled"], kernel_shape=[2, 2], strides=[STRIDE, STRIDE]),
        helper.make_node("ReduceMean", ["pooled", "all"], ["mean"], keepdims=1),
        helper.make_node("Slice", ["pooled", "zero", "one", "channel"], ["plane"]),
        helper.make_node("Mul", ["plane", "nothing"], ["black"]),
        helper.make_node("Add", ["black", "mean"], ["found"]),
    ]
    constants = {"all": np.array([1, 2, 3]), "zero": np.array([0]), "one": np.array([1])}
    return _graph(height, width, nodes, {**constants, "nothing": np.array(0, np.float32)})


def _graph(height: int, width: int, nodes: list[object], constants: dict[str, np.ndarray]) -> bytes:
    of_map = [height // STRIDE, width // STRIDE]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        *nodes,
        helper.make_node("Squeeze", ["found", "channel"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map", "axes"], ["score"], keepdims=0),
    ]
    constants = {"channel": np.array([1]), "axes": np.array([1, 2]), **constants}
    graph = helper.make_graph(
        nodes,
        "tiles",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", *of_map]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content
