"""A head's hidden layer with fewer units: a budgeted pass, which measures what it may drop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from edge_ad.algebra.channels import project_channels
from edge_ad.algebra.editor import Array, GraphEditor, attribute
from edge_ad.algebra.responses import responses
from edge_ad.algebra.units import Hidden, Units
from edge_ad.frame import Image

__all__ = ["FEWEST", "reduce_units", "sample_hidden"]

FEWEST = 256  # hidden units: of a smaller layer there is nothing to gain
MOST_VECTORS = 196608  # of one layer over all frames: 400 MB of 1,024 units in float16


@dataclass(frozen=True, kw_only=True)
class _Head:
    """One answer per cell: a matrix product of what a rectifier makes of (N, H, W, C)."""

    name: str
    entering: str
    answer: str
    readout: Array
    slope: float


def sample_hidden(model: ModelProto, frames: Iterable[Image], count: int, seed: int = 0) -> dict[str, Hidden]:
    """What comes into every wide hidden layer at random cells of every frame, by the name of the head's product.

    Args:
        model: A float32 graph after `optimise`.
        frames: Normal ones and the same with synthetic defects, (height, width, 3) uint8 of the camera's size; those
            of one part next to each other, because the last fifth says how well a fit to the others holds.
        count: Of the frames.
    """
    heads = _heads(GraphEditor(model))
    if not heads or not count:
        return {}
    rng = np.random.default_rng(seed)
    sampled: list[list[Array]] = [[] for _ in heads]
    for of_frame in responses(model, [head.entering for head in heads], frames, count, "hidden layers"):
        for of_one, vectors in zip(sampled, of_frame, strict=True):
            cells = vectors.reshape(-1, vectors.shape[-1])
            drawn = rng.choice(len(cells), min(len(cells), -(-MOST_VECTORS // count)), replace=False)
            of_one.append(cells[drawn].astype(np.float16))
    return {
        head.name: Hidden(vectors=np.stack(vectors), readout=head.readout, slope=head.slope)
        for head, vectors in zip(heads, sampled, strict=True)
    }


def reduce_units(model: ModelProto, units: Mapping[str, Units]) -> dict[str, int]:
    """Put fitted units in the place of a head's hidden layer.

    leaky(z) @ v is about leaky(z @ M + b) @ w + c. z comes from weights by way of upsampling and sums, which treat all
    channels alike: so z @ M comes from smaller weights the same way, and z itself is never made.

    requires  MatMul with a constant (C, 1) of Relu or LeakyRelu of a sum (N, H, W, C) that nothing else reads; `units`
              by the product's name, from fits to sample_hidden of this graph
    ensures   the same shape from as many units. How far maps and scores move has to be measured

    Returns:
        The number of units by the name of each head that was changed.
    """
    editor = GraphEditor(model)
    reduced = {}
    for head in _heads(editor):
        one = units.get(head.name)
        if one is None or len(one.mix) != len(head.readout):
            continue
        mixed = project_channels(editor, head.entering, 3, one.mix)
        if mixed is None:
            continue
        _put(editor, head, one, mixed)
        reduced[head.name] = len(one.few)
    if reduced:
        editor.finish()
    return reduced


def _put(editor: GraphEditor, head: _Head, units: Units, mixed: str) -> None:
    name = head.name
    entering = editor.add("Add", [mixed, editor.add_constant(f"{name}_bias", units.bias)], f"{name}_entering")
    rectified = editor.add("LeakyRelu", [entering], f"{name}_units", alpha=head.slope)
    readout = editor.add_constant(f"{name}_readout", units.few[:, None])
    answer = editor.add("MatMul", [rectified, readout], f"{name}_product")
    editor.replace(head.answer, "Add", [answer, editor.add_constant(f"{name}_constant", units.constant)])


def _heads(editor: GraphEditor) -> list[_Head]:
    found = []
    for node in editor.nodes("MatMul"):
        readout = editor.constant(node.input[1])
        rectifier = editor.producer(node.input[0], "Relu", "LeakyRelu")
        if readout is None or readout.ndim != 2 or readout.shape[1] != 1 or len(readout) < FEWEST:
            continue
        if rectifier is None or editor.only_consumer(node.input[0]) is None:
            continue
        entering = rectifier.input[0]
        if len(editor.shape(entering)) == 4 and editor.only_consumer(entering) is not None:
            found.append(
                _Head(
                    name=node.name,
                    entering=entering,
                    answer=node.output[0],
                    readout=readout[:, 0].astype(np.float64),
                    slope=_slope(rectifier),
                )
            )
    return found


def _slope(rectifier: NodeProto) -> float:
    return 0.0 if rectifier.op_type == "Relu" else float(attribute(rectifier, "alpha", 0.01))
