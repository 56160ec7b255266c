"""Rows and columns that nothing reads, never computed."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, helper

from edge_ad.algebra.editor import GraphEditor
from edge_ad.algebra.windows import Reading, Window, reading, whole

__all__ = ["crop"]

WORTH = {"Conv": 1.0, "MatMul": 0.9}
"""Cutting begins at these, as what comes before them is little work: where no more than this share of the output is
needed. Of more, a product would save less than the copy costs that a cut is."""


def crop(model: ModelProto) -> int:
    """Compute of every tensor only what the graph's outputs need.

    A 2 x 2 pool of stride 2 drops the last row and column of an odd map, and with them what the convolution before it
    needed for them alone; a product with a constant of many zeros, or a Slice, drops more. From the outputs back, every
    node is asked what it reads (edge_ad/algebra/windows.py); a tensor with several readers is made as large as all of
    them together need it.

    requires  nodes that edge_ad/algebra/windows.py knows; at others everything is needed
    ensures   a Slice where less is read than there is, smaller maps, constants and pads after it; every value that is
              read is the same; fewer MACs

    Returns:
        How many nodes make less than before.
    """
    editor = GraphEditor(model)
    readings = _readings(editor)
    cropped = _Cropped(editor, readings)
    cropped.rebuild()
    if cropped.places:
        editor.finish()
    return len(cropped.places)


def _readings(editor: GraphEditor) -> dict[str, Reading]:
    """By a node's output: what it makes and reads when it makes no more than is needed."""
    outputs = [value.name for value in editor.model.graph.output]
    needed: dict[str, Window] = {name: whole(editor.shape(name)) for name in outputs}
    readings: dict[str, Reading] = {}
    for node in reversed(editor.model.graph.node):
        output = node.output[0]
        one = reading(editor, node, needed.get(output, whole(editor.shape(output))))
        readings[output] = one
        for name, window in zip(node.input, one.inputs, strict=True):
            needed[name] = _both(needed[name], window) if name in needed else window
    shrunk: set[str] = set()
    for node in editor.model.graph.node:
        output = node.output[0]
        full = whole(editor.shape(output))
        if readings[output].made == full:
            continue
        if shrunk & set(node.input) or _size(readings[output].made) <= WORTH.get(node.op_type, 0) * _size(full):
            shrunk.add(output)
        else:
            readings[output] = reading(editor, node, full)
    return readings


def _size(window: Window) -> int:
    """Values in it, of one frame."""
    return math.prod(max(1, end - start) for start, end in window)


def _both(one: Window, other: Window) -> Window:
    """The smallest window that holds both."""
    return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))


class _Cropped:
    """Puts the nodes of a graph in again, each with what it reads.

    Args:
        editor: Of the graph; `finish` is left to the caller.
        readings: By output.

    Attributes:
        places: By tensor of which only a part is made: under which name, and which part.
    """

    def __init__(self, editor: GraphEditor, readings: dict[str, Reading]) -> None:
        self.editor, self.readings = editor, readings
        self.places: dict[str, tuple[str, Window]] = {}
        self._cuts: dict[tuple[str, Window], str] = {}

    def rebuild(self) -> None:
        for node in list(self.editor.model.graph.node):
            (output, *_), one = node.output, self.readings[node.output[0]]
            complete = one.made == whole(self.editor.shape(output))
            if complete and not any(name in self.places for name in node.input):
                continue
            inputs = [self._fitting(index, name, one) for index, name in enumerate(node.input)]
            if one.view and not self.editor.is_output(output):
                self.places[output] = inputs[0], one.made
                continue
            attributes = {given.name: helper.get_attribute_value(given) for given in node.attribute} | one.attributes
            self.editor.replace(output, node.op_type, inputs, **attributes)
            if not complete:
                self.places[output] = output, one.made

    def _fitting(self, index: int, tensor: str, one: Reading) -> str:
        """The name of what the node reads there."""
        if index in one.constants:
            return self.editor.add_constant(tensor, one.constants[index], np.int64)
        name, there = self.places.get(tensor, (tensor, whole(self.editor.shape(tensor))))
        wanted = one.inputs[index]
        slack = one.slack if index == 0 else {}
        if all(
            first == start and 0 <= end - last <= slack.get(axis, 0)
            for axis, ((first, last), (start, end)) in enumerate(zip(wanted, there, strict=True))
        ):
            return name
        if (tensor, wanted) not in self._cuts:
            self._cuts[tensor, wanted] = self._cut(name, there, wanted)
        return self._cuts[tensor, wanted]

    def _cut(self, name: str, there: Window, wanted: Window) -> str:
        spans = [(first - start, last - start) for (first, last), (start, _) in zip(wanted, there, strict=True)]
        values = self.editor.constant(name)
        if values is not None:
            return self.editor.add_constant(name, values[tuple(slice(*span) for span in spans)], values.dtype.type)
        axes = [axis for axis, (one, other) in enumerate(zip(wanted, there, strict=True)) if one != other]
        corners = {"starts": [spans[axis][0] for axis in axes], "ends": [spans[axis][1] for axis in axes], "axes": axes}
        constants = [self.editor.add_constant(f"{name}_{what}", of, np.int64) for what, of in corners.items()]
        return self.editor.add("Slice", [name, *constants], f"{name}_cropped")
