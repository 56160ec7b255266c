"""A linear map of a tensor's channels, moved back into the constants that its channels come from."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from onnx import NodeProto

from edge_ad.algebra.convolution import add_convolution, convolution_of
from edge_ad.algebra.editor import Array, GraphEditor, attribute

__all__ = ["project_channels"]


def project_channels(editor: GraphEditor, tensor: str, axis: int, matrix: Array) -> str | None:
    """A new tensor of r channels, x @ matrix along one axis, from smaller weights and not from x.

    Upsampling, averages and shifts treat all channels alike, so a map of the channels passes through them to the
    convolutions, products and sums with constants that make the channels: those get fewer outputs.

    Args:
        axis: Of the channels, counted from the front.
        matrix: (C, r).

    Returns:
        Its name; None where the channels come from anything else. What was added by then `finish` drops.
    """
    return _Projection(editor, np.asarray(matrix, np.float64)).of(tensor, axis, 1)


class _Projection:
    """Goes back through the graph. On its way an axis may hold more than channels: it is read as (rest, C, inner)."""

    def __init__(self, editor: GraphEditor, matrix: Array) -> None:
        self.editor, self.matrix = editor, matrix
        self.channels, self.rank = matrix.shape

    def of(self, tensor: str, axis: int, inner: int) -> str | None:
        """The tensor with r in place of C."""
        node = self.editor.producer(tensor)
        if node is None:
            return None
        match node.op_type:
            case "Add" | "Sub":
                return self._sum(node, axis, inner)
            case "Concat":
                along = attribute(node, "axis", 0) % len(self.editor.shape(tensor))
                if along != axis:
                    return self._again(node, [self.of(name, axis, inner) for name in node.input], axis=along)
            case "Transpose":
                permutation = list(attribute(node, "perm", ()))
                return self._again(node, [self.of(node.input[0], permutation[axis], inner)], perm=permutation)
            case "Reshape":
                return self._reshape(node, axis, inner)
            case "MatMul":
                return self._product(node, axis, inner)
            case "Conv":
                return self._convolution(node, axis, inner)
        return None

    def _again(self, node: NodeProto, inputs: list[str | None], **attributes: object) -> str | None:
        found = [name for name in inputs if name is not None]
        like = f"{node.output[0]}_of_fewer"
        return self.editor.add(node.op_type, found, like, **attributes) if len(found) == len(inputs) else None

    def _constant(self, like: str, values: Array, axis: int, inner: int) -> str:
        parts = values.reshape(*values.shape[:axis], -1, self.channels, inner, *values.shape[axis + 1 :])
        mapped = np.moveaxis(np.tensordot(parts, self.matrix, axes=(axis + 1, 0)), -1, axis + 1)
        return self.editor.add_constant(
            f"{like}_of_fewer", mapped.reshape(*values.shape[:axis], -1, *values.shape[axis + 1 :])
        )

    def _sum(self, node: NodeProto, axis: int, inner: int) -> str | None:
        shape = self.editor.shape(node.output[0])
        parts: list[str | None] = []
        for name in node.input:
            values = self.editor.constant(name)
            if values is not None:
                values = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
                values = np.repeat(values, shape[axis], axis) if values.shape[axis] == 1 else values
                parts.append(self._constant(name, values, axis, inner))
            else:
                parts.append(self.of(name, axis, inner) if self.editor.shape(name) == shape else None)
        return self._again(node, parts)

    def _reshape(self, node: NodeProto, axis: int, inner: int) -> str | None:
        before, after = self.editor.shape(node.input[0]), self.editor.shape(node.output[0])
        block = inner * math.prod(after[axis + 1 :])  # values from one channel to the next
        for source in range(1, len(before)):
            rest = math.prod(before[source + 1 :])
            if block % rest == 0 and before[source] % (self.channels * (block // rest)) == 0:
                reshaped = self.of(node.input[0], source, block // rest)
                shape = [*after[:axis], after[axis] // self.channels * self.rank, *after[axis + 1 :]]
                size = self.editor.add_constant(f"{node.output[0]}_shape", shape, np.int64)
                return self._again(node, [reshaped, size])
        return None

    def _product(self, node: NodeProto, axis: int, inner: int) -> str | None:
        left, right = node.input
        last = len(self.editor.shape(node.output[0])) - 1
        values = self.editor.constant(right)
        if values is not None and axis == last:
            return self._again(node, [left, self._constant(right, values, values.ndim - 1, inner)])
        if values is not None and axis < last - 1:
            return self._again(node, [self.of(left, axis, inner), right])
        same_axes = len(self.editor.shape(right)) == last + 1
        if self.editor.constant(left) is not None and axis != last - 1 and same_axes:
            return self._again(node, [left, self.of(right, axis, inner)])
        return None

    def _convolution(self, node: NodeProto, axis: int, inner: int) -> str | None:
        one = convolution_of(self.editor, node)
        if one is None or one.groups != 1 or axis != 1:
            return None
        weight = one.weight.reshape(-1, self.channels, inner, *one.weight.shape[1:])
        bias = one.bias.reshape(-1, self.channels, inner)
        fewer = dataclasses.replace(
            one,
            weight=np.einsum("ocijkl,cr->orijkl", weight, self.matrix).reshape(-1, *one.weight.shape[1:]),
            bias=np.einsum("oci,cr->ori", bias, self.matrix).reshape(-1),
        )
        return add_convolution(self.editor, f"{node.name}_of_fewer", fewer)
