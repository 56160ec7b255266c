"""The squared length of a difference from fewer channels: a budgeted pass, which measures what it may drop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from edge_ad.algebra.convolution import Convolution, convolution_of, put_convolution
from edge_ad.algebra.editor import Array, GraphEditor, attribute
from edge_ad.algebra.responses import responses
from edge_ad.algebra.sketch import Sketch
from edge_ad.errors import CalibrationError
from edge_ad.frame import Image

__all__ = ["reduce_rank", "sample_differences"]

MOST_VECTORS = 131072  # of one difference over all frames: 200 MB of 384 channels; half of them fit worse


@dataclass(frozen=True, kw_only=True)
class _SquaredLength:
    """Mean or sum over the channels of the square of what convolutions, added and subtracted, make."""

    node: NodeProto
    square: NodeProto
    difference: str
    convolutions: tuple[Convolution, ...]

    @property
    def channels(self) -> int:
        return len(self.convolutions[0].bias)


def sample_differences(model: ModelProto, frames: Sequence[Image], seed: int = 0) -> dict[str, Array]:
    """Difference vectors at random cells of every frame: name -> (frames, cells, C) float32.

    Args:
        model: A float32 graph after `optimise`.
        frames: Normal ones and the same with synthetic defects, (height, width, 3) uint8 of the camera's size; those
            of one part next to each other, because the last fifth says how well a fit to the others holds.

    Raises:
        CalibrationError: No frames.
    """
    if not frames:
        raise CalibrationError("Nothing to measure differences on.", expected="frames of the camera", got="none")
    lengths = {one.node.output[0]: one.difference for one in _squared_lengths(GraphEditor(model))}
    if not lengths:
        return {}
    rng = np.random.default_rng(seed)
    sampled: dict[str, list[Array]] = {name: [] for name in lengths}
    for of_frame in responses(model, list(lengths.values()), frames, len(frames), "differences"):
        for name, difference in zip(lengths, of_frame, strict=True):
            vectors = difference[0].reshape(difference.shape[1], -1).T
            count = min(len(vectors), max(1, MOST_VECTORS // len(frames)))
            sampled[name].append(vectors[rng.choice(len(vectors), count, replace=False)])
    return {name: np.stack(vectors) for name, vectors in sampled.items()}


def reduce_rank(model: ModelProto, sketches: Mapping[str, Sketch]) -> int:
    """Compute only the directions of a sketch of every difference, in place of all its channels.

    |d|^2 is about |P^T d|^2 + c (sketch.py). With d the sum of W_i * x_i + b_i, P^T d is that of (P^T W_i) * x_i +
    P^T b_i: the same convolutions with as many outputs as the sketch has directions. With an orthogonal P of full rank
    and c = 0 it is exact.

    requires  ReduceMean or ReduceSum over the channels of a square of dense Convs, or of their sums and differences,
              that nothing else reads; `sketches` by the name of what it makes, from sample_differences of this graph
    ensures   the sum or mean of a sketch's squares and its constant, in float32 after the Convs; the Convs' MACs
              shrink by rank / C. How far maps and scores move has to be measured

    Returns:
        How many differences were reduced.
    """
    editor = GraphEditor(model)
    reduced = 0
    for length in _squared_lengths(editor):
        sketch = sketches.get(length.node.output[0])
        if sketch is not None and len(sketch.directions) == length.channels:
            _reduce(editor, length, sketch)
            reduced += 1
    if reduced:
        editor.finish()
    return reduced


def _reduce(editor: GraphEditor, length: _SquaredLength, sketch: Sketch) -> None:
    result, is_mean = length.node.output[0], length.node.op_type == "ReduceMean"
    scale = np.sqrt(sketch.rank / length.channels) if is_mean else 1.0
    directions = scale * sketch.directions.astype(np.float64)
    for convolution in length.convolutions:
        shorter = dataclasses.replace(
            convolution,
            weight=np.einsum("cr,cikl->rikl", directions, convolution.weight),
            bias=convolution.bias @ directions,
        )
        put_convolution(editor, convolution.output, shorter)
    keepdims = attribute(length.node, "keepdims", 1)
    short = editor.add(length.node.op_type, list(length.node.input), f"{result}_of_sketch", keepdims=keepdims)
    constant = sketch.constant / (length.channels if is_mean else 1)
    editor.replace(result, "Add", [short, editor.add_constant(f"{result}_constant", constant)])


def _squared_lengths(editor: GraphEditor) -> list[_SquaredLength]:
    found = []
    for node in editor.nodes("ReduceMean", "ReduceSum"):
        square = editor.producer(node.input[0], "Pow", "Mul")
        axes = editor.constant(node.input[1]) if len(node.input) > 1 else None
        if axes is None or axes.tolist() != [1] or square is None or not editor.is_square(square):
            continue
        if editor.only_consumer(square.output[0]) is None:
            continue
        convolutions = _added_up(editor, square.input[0])
        if convolutions and len({len(one.bias) for one in convolutions}) == 1:
            found.append(
                _SquaredLength(node=node, square=square, difference=square.input[0], convolutions=tuple(convolutions))
            )
    return found


def _added_up(editor: GraphEditor, tensor: str) -> list[Convolution]:
    """The convolutions whose outputs are added or subtracted to a tensor; none where there is anything else."""
    node = editor.producer(tensor, "Conv", "Add", "Sub")
    if node is None or editor.only_consumer(tensor) is None:
        return []
    if node.op_type == "Conv":
        convolution = convolution_of(editor, node)
        return [convolution] if convolution is not None and convolution.groups == 1 else []
    parts = [_added_up(editor, name) for name in node.input]
    return [one for part in parts for one in part] if all(parts) else []
