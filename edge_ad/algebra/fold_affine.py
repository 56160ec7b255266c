"""A factor and a summand for every channel, worked into the convolution before them."""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import ModelProto, NodeProto

from edge_ad.algebra.convolution import convolution_of, put_convolution
from edge_ad.algebra.editor import Array, GraphEditor

__all__ = ["fold_affine"]


def fold_affine(model: ModelProto) -> int:
    """Fold what is added to, subtracted from, multiplied with or divided into a convolution's channels.

    f (W * x + b) + s = (f W) * x + (f b + s), whatever the padding: W sees the same zeros.

    requires  Conv -> Add, Sub, Mul or Div with a constant of one value, or one for each channel; nothing else reads
              the convolution's output
    ensures   the convolution alone, its weights and bias rounded to float32 once; as many MACs as before

    Returns:
        How many nodes are folded.
    """
    folded = 0
    while count := _fold_once(model):
        folded += count
    return folded


def _fold_once(model: ModelProto) -> int:
    editor = GraphEditor(model)
    folded = 0
    for node in editor.nodes("Conv"):
        convolution = convolution_of(editor, node)
        after = editor.only_consumer(node.output[0])
        if convolution is None or after is None:
            continue
        affine = _affine(editor, after, node.output[0], len(convolution.bias))
        if affine is not None:
            factor, summand = affine
            scaled = dataclasses.replace(
                convolution,
                weight=convolution.weight * factor[:, None, None, None],
                bias=convolution.bias * factor + summand,
            )
            put_convolution(editor, after.output[0], scaled)
            folded += 1
    if folded:
        editor.finish()
    return folded


def _affine(editor: GraphEditor, node: NodeProto, channels_of: str, channels: int) -> tuple[Array, Array] | None:
    """Factor and summand (channels,) of a node that reads `channels_of`; None where it is not affine."""
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    comes_first = node.input[0] == channels_of
    values = _per_channel(editor.constant(node.input[1 if comes_first else 0]), channels)
    if values is None:
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    match node.op_type, comes_first:
        case "Add", _:
            return ones, values
        case "Sub", True:
            return ones, -values
        case "Sub", False:
            return -ones, values
        case "Mul", _:
            return values, zeros
        case "Div", True if values.all():
            return 1 / values, zeros
    return None


def _per_channel(constant: Array | None, channels: int) -> Array | None:
    """(channels,) float64 of a constant that is the same along all other axes of (N, channels, h, w)."""
    if constant is None or constant.ndim > 4:
        return None
    shape = (1,) * (4 - constant.ndim) + constant.shape
    if shape[0] != 1 or shape[2:] != (1, 1) or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(constant.reshape(-1).astype(np.float64), (channels,))
