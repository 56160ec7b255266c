"""Which part of its inputs a node reads for a part of its output."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from edge_ad.algebra.editor import GraphEditor, attribute

__all__ = ["Reading", "Window", "reading", "whole"]

Span = tuple[int, int]
Window = tuple[Span, ...]
"""First index and the one past the last, of every axis of a tensor; the batch, whose size is not known, is (0, 0)."""

ELEMENTWISE = {"Abs", "Add", "Cast", "Clip", "Div", "Exp", "LeakyRelu", "Max", "Min", "Mul", "Neg", "Pow", "Relu"}
ELEMENTWISE |= {"Sigmoid", "Sqrt", "Sub", "Tanh", "Where"}
POOLS = {"AveragePool", "MaxPool"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What becomes of a node when only a window of its output is wanted.

    Attributes:
        made: What it makes: the window, or more where the node cannot do less.
        inputs: What it reads of each input for that.
        slack: By axis, how much longer the first input may be without a change of the output.
        attributes: That change with it.
        constants: By position, inputs that are sizes and change with it.
        view: It does nothing but cut: its first input's window is its output.
    """

    made: Window
    inputs: tuple[Window, ...]
    slack: dict[int, int] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    view: bool = False


def whole(shape: Sequence[int]) -> Window:
    """The window that is all of a tensor."""
    return tuple((0, size) for size in shape)


def reading(editor: GraphEditor, node: NodeProto, wanted: Window) -> Reading:
    """Of a node's first output; all of everything where the node is not known here."""
    rule = _RULES.get(node.op_type)
    known = all(editor.shape(name) or editor.constant(name) is not None for name in (*node.input, *node.output) if name)
    if rule is not None and known and len(node.output) == 1:
        answer = rule(editor, node, wanted)
        if answer is not None:
            return answer
    return Reading(
        made=whole(editor.shape(node.output[0])), inputs=tuple(whole(editor.shape(name)) for name in node.input)
    )


def _elementwise(editor: GraphEditor, node: NodeProto, wanted: Window) -> Reading:
    def of(name: str) -> Window:
        shape = editor.shape(name)
        return tuple((0, 1) if size == 1 else span for size, span in zip(shape, _last(wanted, len(shape)), strict=True))

    return Reading(made=wanted, inputs=tuple(of(name) for name in node.input))


def _concat(editor: GraphEditor, node: NodeProto, wanted: Window) -> Reading:
    axis = attribute(node, "axis", 0) % len(wanted)

    def along(size: int) -> Window:
        return (*wanted[:axis], (0, size), *wanted[axis + 1 :])

    return Reading(
        made=along(editor.shape(node.output[0])[axis]),
        inputs=tuple(along(editor.shape(name)[axis]) for name in node.input),
    )


def _unsqueeze(editor: GraphEditor, node: NodeProto, wanted: Window) -> Reading | None:
    axes = _axes(editor, node, len(wanted))
    if axes is None:
        return None
    return _alike(editor, node, wanted, tuple(span for axis, span in enumerate(wanted) if axis not in axes))


def _reduce(editor: GraphEditor, node: NodeProto, wanted: Window) -> Reading | None:
    shape = editor.shape(node.input[0])
    axes = _axes(editor, node, len(shape))
    if axes is None:
        return None
    kept = iter(wanted)
    if node.op_type != "Squeeze" and attribute(node, "keepdims", 1):
        kept = iter(span for axis, span in enumerate(wanted) if axis not in axes)
    return _alike(
        editor, node, wanted, tuple((0, size) if axis in axes else next(kept) for axis, size in enumerate(shape))
    )


def _reshape(editor: GraphEditor, node: NodeProto, wanted: Window) -> Reading | None:
    """Axes at the front and at the end that stay as they are can be cut; those that are joined or parted cannot."""
    before, after, sizes = editor.shape(node.input[0]), editor.shape(node.output[0]), editor.constant(node.input[1])
    if sizes is None:
        return None
    shortest = min(len(before), len(after))
    front = next((axis for axis in range(shortest) if before[axis] != after[axis]), shortest)
    rest = shortest - front
    end = next((one for one in range(rest) if before[-1 - one] != after[-1 - one]), rest)
    first, last = wanted[:front], _last(wanted, end)
    made = (*first, *whole(after[front : len(after) - end]), *last)
    cut = np.array([stop - start for start, stop in made], np.int64)
    return Reading(
        made=made,
        inputs=((*first, *whole(before[front : len(before) - end]), *last), whole(editor.shape(node.input[1]))),
        constants={1: np.where(sizes > 0, cut, sizes)},
    )


def _transpose(editor: GraphEditor, node: NodeProto, wanted: Window) -> Reading:
    order = attribute(node, "perm", tuple(reversed(range(len(wanted)))))
    return Reading(made=wanted, inputs=(tuple(wanted[order.index(axis)] for axis in range(len(order))),))


def _matmul(editor: GraphEditor, node: NodeProto, wanted: Window) -> Reading | None:
    """A product with a constant matrix reads only what the wanted rows or columns of that have factors for."""
    left, right = (editor.constant(name) for name in node.input)
    *outer, rows, columns = wanted
    if left is not None and left.ndim == 2 and len(editor.shape(node.input[1])) == len(wanted):
        inner = _touched(left[slice(*rows)])
        return Reading(made=wanted, inputs=((rows, inner), (*outer, inner, columns)))
    if right is not None and right.ndim == 2 and len(editor.shape(node.input[0])) == len(wanted):
        inner = _touched(right[:, slice(*columns)].T)
        return Reading(made=wanted, inputs=((*outer, rows, inner), (inner, columns)))
    return None


def _windowed(editor: GraphEditor, node: NodeProto, wanted: Window) -> Reading | None:
    """Convolution and pools: n outputs of kernel k, stride s and dilation d read (n - 1) s + (k - 1) d + 1."""
    source = editor.shape(node.input[0])
    if len(source) != 4 or attribute(node, "ceil_mode", 0) or attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
        return None
    is_pool = node.op_type in POOLS
    kernel = attribute(node, "kernel_shape", ()) if is_pool else editor.shape(node.input[1])[2:]
    strides, dilations = attribute(node, "strides", (1, 1)), attribute(node, "dilations", (1, 1))
    pads = attribute(node, "pads", (0, 0, 0, 0))
    spans, above, below, slack = [], [], [], {}
    for axis in (0, 1):
        first, last = wanted[2 + axis]
        start = first * strides[axis] - pads[axis]
        stop = (last - 1) * strides[axis] - pads[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        above.append(max(0, -start))
        below.append(max(0, stop - source[2 + axis]))
        spans.append((max(0, start), min(stop, source[2 + axis])))
        slack[2 + axis] = 0 if below[-1] else strides[axis] - 1
    channels = wanted[1] if is_pool else (0, source[1])
    outputs = wanted[1] if is_pool else (0, editor.shape(node.output[0])[1])
    return Reading(
        made=(wanted[0], outputs, *wanted[2:]),
        inputs=((wanted[0], channels, *spans), *(whole(editor.shape(name)) for name in node.input[1:])),
        slack=slack,
        attributes={"pads": [*above, *below]},
    )


def _slice(editor: GraphEditor, node: NodeProto, wanted: Window) -> Reading | None:
    starts, axes, *steps = (editor.constant(name) for name in (node.input[1], *node.input[3:]))
    if starts is None or axes is None or any(step is None or (step != 1).any() for step in steps):
        return None
    spans, shape = list(wanted), editor.shape(node.input[0])
    for axis, first in zip(axes.tolist(), starts.tolist(), strict=True):
        size = shape[axis]
        moved = min(first + size if first < 0 else first, size)
        spans[axis] = (spans[axis][0] + moved, spans[axis][1] + moved)
    of_all = [(0, spans[axis][1] - spans[axis][0]) for axis in axes]
    corners = {1 + which: np.array([span[which] for span in of_all], np.int64) for which in (0, 1)}
    return dataclasses.replace(_alike(editor, node, wanted, tuple(spans)), constants=corners, view=True)


def _alike(editor: GraphEditor, node: NodeProto, made: Window, first: Window) -> Reading:
    """Of a node whose first input alone depends on the image."""
    return Reading(made=made, inputs=(first, *(whole(editor.shape(name)) for name in node.input[1:])))


def _last(wanted: Window, count: int) -> Window:
    return wanted[len(wanted) - count :]


def _axes(editor: GraphEditor, node: NodeProto, rank: int) -> set[int] | None:
    values = editor.constant(node.input[1]) if len(node.input) > 1 else attribute(node, "axes", None)
    return None if values is None else {int(axis) % rank for axis in values}


def _touched(rows: npt.NDArray[Any]) -> Span:
    """The columns that are not zero in all of these rows."""
    indices = np.flatnonzero(np.any(rows != 0, axis=0))
    return (int(indices[0]), int(indices[-1]) + 1) if len(indices) else (0, 1)


_Rule = Callable[[GraphEditor, NodeProto, Window], Reading | None]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("AveragePool", "Conv", "MaxPool"), _windowed),
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum", "Squeeze"), _reduce),
    "Concat": _concat,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Slice": _slice,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
