"""A convolution taken from a graph: its tensors and its geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto

from edge_ad.algebra.editor import Array, GraphEditor, attribute

__all__ = ["Convolution", "add_convolution", "convolution_of", "put_convolution"]


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """One two-dimensional convolution with constant weights.

    Attributes:
        name, source, output: Of the node, of what it reads, of what it makes.
        weight, bias: (outputs, inputs / groups, height, width) and (outputs,), float64.
        pads: Above, left, below, right.
    """

    name: str
    source: str
    output: str
    weight: Array
    bias: Array
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    groups: int

    @property
    def geometry(self) -> dict[str, Any]:
        """The attributes of its node; convolutions that share them, and are dense, can be added up as one."""
        return {
            "kernel_shape": list(self.weight.shape[2:]),
            "strides": list(self.strides),
            "pads": list(self.pads),
            "dilations": list(self.dilations),
            "group": self.groups,
        }


def convolution_of(editor: GraphEditor, node: NodeProto | None) -> Convolution | None:
    """The node as a Convolution; None where it is no Conv, or its weights are computed or its pads implied."""
    if node is None or node.op_type != "Conv":
        return None
    weight = editor.constant(node.input[1])
    bias = editor.constant(node.input[2]) if len(node.input) > 2 else np.zeros(editor.shape(node.input[1])[:1])
    if weight is None or bias is None or weight.ndim != 4:
        return None
    if attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    return Convolution(
        name=node.name,
        source=node.input[0],
        output=node.output[0],
        weight=weight.astype(np.float64),
        bias=bias.astype(np.float64),
        strides=tuple(attribute(node, "strides", (1, 1))),
        pads=tuple(attribute(node, "pads", (0, 0, 0, 0))),
        dilations=tuple(attribute(node, "dilations", (1, 1))),
        groups=attribute(node, "group", 1),
    )


def put_convolution(editor: GraphEditor, tensor: str, convolution: Convolution) -> None:
    """From now on `tensor` comes from this convolution."""
    inputs = _inputs(editor, convolution.name, convolution)
    editor.replace(tensor, "Conv", inputs, convolution.name, **convolution.geometry)


def add_convolution(editor: GraphEditor, like: str, convolution: Convolution) -> str:
    """A new node and its output, named after `like`; returns that name."""
    return editor.add("Conv", _inputs(editor, like, convolution), like, **convolution.geometry)


def _inputs(editor: GraphEditor, name: str, convolution: Convolution) -> list[str]:
    weight = editor.add_constant(f"{name}_weight", convolution.weight)
    return [convolution.source, weight, editor.add_constant(f"{name}_bias", convolution.bias)]
