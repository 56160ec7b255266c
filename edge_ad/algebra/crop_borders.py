"""Rows and columns that nothing reads, never computed."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto

from edge_ad.algebra.editor import GraphEditor, attribute

__all__ = ["crop_borders"]

Size = tuple[int, ...]  # height, width

UNARY = ("Clip", "LeakyRelu", "Relu", "Sigmoid", "Tanh")
WINDOWED = ("AveragePool", "Conv", "MaxPool")


def crop_borders(model: ModelProto) -> int:
    """Cut off at the start of a chain of convolutions and pools what its end leaves out.

    A 2 x 2 pool of stride 2 drops the last row and column of an odd map, and with them what the convolution before it
    needed for them alone. To n outputs a layer of kernel k, stride s and dilation d reads the first
    (n - 1) s + (k - 1) d + 1 rows, less those it pads above; if it pads nothing below and to the right, it makes the
    same of those alone.

    requires  Conv, AveragePool, MaxPool and element-wise nodes that pad neither below nor to the right
    ensures   a Slice where such a chain begins, and smaller maps in it; every value that is read is the same; fewer
              MACs

    Returns:
        How many Slices were put in.
    """
    editor = GraphEditor(model)
    needed = _needed(editor)
    starts = [
        (node, size)
        for node in editor.nodes("Conv")
        if _shrinks(editor, node.output[0], needed)
        and not _shrinks(editor, node.input[0], needed)
        and (size := _reads(editor, node, needed))
    ]
    cuts = {key: _cut(editor, *key) for key in dict.fromkeys((node.input[0], size) for node, size in starts)}
    for node, size in starts:
        node.input[0] = cuts[node.input[0], size]
    if cuts:
        editor.finish()
    return len(cuts)


def _needed(editor: GraphEditor) -> dict[str, Size]:
    """By tensor: how many of its rows and columns are read."""
    needed: dict[str, Size] = {}
    for node in reversed(editor.model.graph.node):
        size = _reads(editor, node, needed)
        for index, tensor in enumerate(node.input):
            wanted = size if index == 0 and size is not None else editor.shape(tensor)[2:]
            needed[tensor] = tuple(map(max, needed.get(tensor, (0,) * len(wanted)), wanted))
    return needed


def _reads(editor: GraphEditor, node: NodeProto, needed: dict[str, Size]) -> Size | None:
    """How much of its first input a node of a chain reads for what is needed of it; None outside of chains."""
    source, output = editor.shape(node.input[0])[2:] if node.input else (), node.output[0]
    wanted = editor.shape(output)[2:] if editor.is_output(output) else needed.get(output, editor.shape(output)[2:])
    if len(editor.shape(output)) != 4 or len(source) != 2:
        return None
    if node.op_type in UNARY:
        return wanted
    if node.op_type not in WINDOWED or attribute(node, "ceil_mode", 0):
        return None
    pads = attribute(node, "pads", (0, 0, 0, 0))
    if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET" or any(pads[2:]):
        return None
    kernel = editor.shape(node.input[1])[2:] if node.op_type == "Conv" else attribute(node, "kernel_shape", ())
    strides, dilations = attribute(node, "strides", (1, 1)), attribute(node, "dilations", (1, 1))
    reach = ((n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(wanted, kernel, strides, dilations, strict=True))
    return tuple(size - above for size, above in zip(reach, pads[:2], strict=True))


def _shrinks(editor: GraphEditor, tensor: str, needed: dict[str, Size]) -> bool:
    """Whether less of it is made once the chain begins later: a Conv makes it, or something else of what shrinks."""
    producer, size = editor.producer(tensor), editor.shape(tensor)[2:]
    if producer is None or editor.is_output(tensor) or needed.get(tensor, size) == size:
        return False
    if _reads(editor, producer, needed) is None:
        return False
    return producer.op_type == "Conv" or _shrinks(editor, producer.input[0], needed)


def _cut(editor: GraphEditor, tensor: str, size: Size) -> str:
    corners = {"starts": (0, 0), "ends": size, "axes": (2, 3)}
    inputs = [tensor, *(editor.add_constant(f"{tensor}_{name}", values, np.int64) for name, values in corners.items())]
    return editor.add("Slice", inputs, f"{tensor}_cropped")
