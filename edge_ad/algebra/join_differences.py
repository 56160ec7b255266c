"""The difference of two convolutions, of which only the length counts, as one convolution."""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import ModelProto, NodeProto

from edge_ad.algebra.convolution import Convolution, convolution_of, put_convolution
from edge_ad.algebra.editor import GraphEditor

__all__ = ["join_differences"]


def join_differences(model: ModelProto) -> int:
    """One convolution over both inputs in place of the difference of two.

    (U * x + a) - (V * y + b) = [U, -V] * [x; y] + (a - b). For teacher minus student: no output of either is ever
    written, the difference is summed up exactly where it is quantised, and it becomes something whose rank can be
    reduced (reduce_rank).

    requires  Sub of two dense Convs of the same kernel, strides, pads and dilations, whose inputs have the same size;
              nothing else reads the Convs, and only a square reads the Sub
    ensures   one Conv of the concatenated inputs (of the input itself, where both are the same); as many MACs as
              before (half as many)

    Returns:
        How many differences are joined.
    """
    editor = GraphEditor(model)
    joined = 0
    for node in editor.nodes("Sub"):
        pair = _pair(editor, node)
        if pair is not None:
            _join(editor, node, *pair)
            joined += 1
    if joined:
        editor.finish()
    return joined


def _pair(editor: GraphEditor, node: NodeProto) -> tuple[Convolution, Convolution] | None:
    square = editor.only_consumer(node.output[0])
    if square is None or not editor.is_square(square):
        return None
    if any(editor.only_consumer(name) is None for name in node.input):
        return None
    left, right = (convolution_of(editor, editor.producer(name)) for name in node.input)
    if left is None or right is None or left.groups != 1 or left.geometry != right.geometry:
        return None
    same_size = editor.shape(left.source)[2:] == editor.shape(right.source)[2:]
    return (left, right) if same_size and len(left.bias) == len(right.bias) else None


def _join(editor: GraphEditor, node: NodeProto, left: Convolution, right: Convolution) -> None:
    if left.source == right.source:
        source, weight = left.source, left.weight - right.weight
    else:
        source = editor.add("Concat", [left.source, right.source], f"{node.output[0]}_sources", axis=1)
        weight = np.concatenate([left.weight, -right.weight], axis=1)
    joined = dataclasses.replace(
        left, name=node.name, source=source, output=node.output[0], weight=weight, bias=left.bias - right.bias
    )
    put_convolution(editor, node.output[0], joined)
