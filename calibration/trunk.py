"""Where a network's work is: its convolutions and what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["float_tensors", "load_named", "trunk_of"]


def load_named(content: bytes) -> ModelProto:
    """A graph from its bytes, every node with a name and every tensor with a type."""
    model = onnx.load_model_from_string(content)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def trunk_of(graph: GraphProto) -> set[str]:
    """Names of the nodes that are a Conv or lie on a path from one Conv to another."""
    after = _reached(graph.node, lambda node: node.input, lambda node: node.output)
    before = _reached(reversed(graph.node), lambda node: node.output, lambda node: node.input)
    return {node.name for node in graph.node if node.op_type == "Conv" or node.name in after & before}


def _reached(
    nodes: Iterable[NodeProto],
    entries: Callable[[NodeProto], Iterable[str]],
    exits: Callable[[NodeProto], Iterable[str]],
) -> set[str]:
    """Nodes with a Conv upstream, when nodes come in the order of the flow and entries are their inputs."""
    wet: set[str] = set()
    reached = set()
    for node in nodes:
        if any(name in wet for name in entries(node)):
            reached.add(node.name)
        if node.op_type == "Conv" or node.name in reached:
            wet.update(name for name in exits(node) if name)
    return reached


def float_tensors(graph: GraphProto) -> set[str]:
    """Names of the float32 tensors, constants included."""
    values = [*graph.value_info, *graph.input, *graph.output]
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return floats | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
