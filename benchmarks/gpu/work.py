"""What a graph has to do for one frame: multiplications, and bytes through the GPU's memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, shape_inference

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, kw_only=True)
class Work:
    """For one frame.

    Attributes:
        macs: Multiply-accumulates of convolutions and matrix products; everything else is small beside them.
        weight_bytes: Of their constants, as stored. One batch reads them once.
        layer_bytes: What these layers read and write beside, were each a kernel of its own.
        frame_bytes: The frame and its answer: what must move however well layers are fused.
    """

    macs: int
    weight_bytes: int
    layer_bytes: int
    frame_bytes: int

    @property
    def flops(self) -> int:
        """Two for each multiply-accumulate, as everybody counts."""
        return 2 * self.macs

    def bound_ms(self, batch: int, *, flops_per_s: float, bytes_per_s: float) -> float:
        """The time under which no batch is done: all arithmetic at the one rate, or the least bytes at the other."""
        arithmetic = batch * self.flops / flops_per_s
        movement = (batch * self.frame_bytes + self.weight_bytes) / bytes_per_s
        return 1e3 * max(arithmetic, movement)


def count_work(content: bytes) -> Work:
    """Of an ONNX graph with a bundle's inputs and outputs."""
    model = onnx.load_from_string(content)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    tensors = _Tensors(graph)
    heavy = [node for node in graph.node if node.op_type in HEAVY]
    constants = {name for node in heavy for name in node.input if tensors.constant(name) is not None}
    return Work(
        macs=sum(_macs(node, tensors) for node in heavy),
        weight_bytes=sum(tensors.bytes(name) for name in constants),
        layer_bytes=sum(
            tensors.bytes(name) for node in heavy for name in (*node.input, *node.output) if name not in constants
        ),
        frame_bytes=sum(tensors.bytes(value.name) for value in (*graph.input, *graph.output)),
    )


class _Tensors:
    """Shapes and sizes by name. What a DequantizeLinear gives counts as the integers that it reads."""

    def __init__(self, graph: GraphProto) -> None:
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._values = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
        self._stored_as = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}

    def constant(self, name: str) -> TensorProto | None:
        return self._constants.get(self._stored_as.get(name, name))

    def shape(self, name: str) -> tuple[int, ...]:
        constant = self._constants.get(name)
        if constant is not None:
            return tuple(constant.dims)
        value = self._values.get(name)
        return () if value is None else tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)

    def bytes(self, name: str) -> int:
        name = self._stored_as.get(name, name)
        constant, value = self._constants.get(name), self._values.get(name)
        kind = constant.data_type if constant is not None else value.type.tensor_type.elem_type if value else 0
        itemsize = helper.tensor_dtype_to_np_dtype(kind).itemsize if kind else 0
        return math.prod(self.shape(name)) * itemsize


def _macs(node: NodeProto, tensors: _Tensors) -> int:
    result = math.prod(tensors.shape(node.output[0]))
    if node.op_type == "Conv":
        return result * math.prod(tensors.shape(node.input[1])[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(tensors.shape(node.input[0])) * math.prod(tensors.shape(node.input[1])[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return result * tensors.shape(node.input[0])[-2 if transposed else -1]
