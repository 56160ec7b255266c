"""How much work a graph is: multiply-accumulates and bytes of every node, for one frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, helper

from edge_ad.algebra.editor import infer_shapes
from edge_ad.errors import ExportError

__all__ = ["Work", "macs_by_node", "total_macs", "work_by_node"]

VIEWS = {"Constant", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"}  # they move nothing


@dataclass(frozen=True, kw_only=True)
class Work:
    """Of one node.

    Attributes:
        macs: Multiply-accumulates of a Conv, MatMul or Gemm; 0 of anything else.
        bytes: What it reads and writes, weights included, if nothing of it is in a cache or fused with a neighbour.
    """

    macs: int
    bytes: int


def work_by_node(model: ModelProto) -> dict[str, Work]:
    """By the node's name, or `<operator>_<position>` where it has none, in the order of the flow.

    Raises:
        ExportError: The graph does not tell the size of a tensor.
    """
    sizes = _Sizes(model)
    return {
        node.name or f"{node.op_type}_{index}": Work(macs=_macs(node, sizes), bytes=_bytes(node, sizes))
        for index, node in enumerate(model.graph.node)
    }


def macs_by_node(model: ModelProto) -> dict[str, int]:
    """Multiply-accumulates for one frame of the nodes that have any, by name; see work_by_node."""
    return {name: work.macs for name, work in work_by_node(model).items() if work.macs}


def total_macs(model: ModelProto) -> int:
    """Multiply-accumulates of the whole graph for one frame."""
    return sum(macs_by_node(model).values())


class _Sizes:
    """Shapes and bytes of every tensor of one frame."""

    def __init__(self, model: ModelProto) -> None:
        inferred = infer_shapes(model, batch=1)
        self.types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        self.shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        for value in (*inferred.value_info, *inferred.input, *inferred.output):
            tensor = value.type.tensor_type
            self.types[value.name] = tensor.elem_type
            self.shapes[value.name] = tuple(
                one.dim_value if one.HasField("dim_value") else -1 for one in tensor.shape.dim
            )

    def shape(self, tensor: str) -> tuple[int, ...]:
        shape = self.shapes.get(tensor, (-1,))
        if -1 in shape:
            raise ExportError(
                "The work of this graph cannot be counted.",
                expected=f"a size of {tensor} that follows from the frame's",
                got=shape if tensor in self.shapes else "none",
            )
        return shape

    def bytes(self, tensor: str) -> int:
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(self.types[tensor]))
        return math.prod(self.shape(tensor)) * kind.itemsize


def _macs(node: NodeProto, sizes: _Sizes) -> int:
    if node.op_type == "Conv":
        return math.prod(sizes.shape(node.output[0])) * math.prod(sizes.shape(node.input[1])[1:])
    if node.op_type == "MatMul":
        return math.prod(sizes.shape(node.output[0])) * sizes.shape(node.input[0])[-1]
    if node.op_type == "Gemm":
        left = sizes.shape(node.input[0])
        transposed = any(one.name == "transA" and one.i for one in node.attribute)
        return math.prod(sizes.shape(node.output[0])) * left[0 if transposed else 1]
    return 0


def _bytes(node: NodeProto, sizes: _Sizes) -> int:
    if node.op_type in VIEWS:
        return 0
    return sum(sizes.bytes(name) for name in {*node.input, *node.output} if name)
