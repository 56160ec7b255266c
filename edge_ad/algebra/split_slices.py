"""A convolution whose channels are read in parts, as one convolution for each part."""

from __future__ import annotations

import dataclasses

from onnx import ModelProto, NodeProto

from edge_ad.algebra.convolution import convolution_of, put_convolution
from edge_ad.algebra.editor import GraphEditor

__all__ = ["split_slices"]


def split_slices(model: ModelProto) -> int:
    """Compute the parts of a convolution's channels where they are read, instead of cutting them out of the whole.

    (W * x + b)[i:j] = W[i:j] * x + b[i:j].

    requires  a dense Conv that is read by Slices of its channels alone, of step 1, which do not overlap
    ensures   a Conv in place of each Slice; fewer MACs by the channels that none of them reads

    Returns:
        How many Slices are gone.
    """
    editor = GraphEditor(model)
    gone = 0
    for node in editor.nodes("Conv"):
        convolution = convolution_of(editor, node)
        if convolution is None or convolution.groups != 1:
            continue
        channels = len(convolution.bias)
        readers = editor.consumers(node.output[0])
        parts = [part for reader in readers if (part := _channels(editor, reader, channels))]
        if editor.is_output(node.output[0]) or len(parts) < len(readers) or sum(map(len, parts)) > channels:
            continue
        for reader, part in zip(readers, parts, strict=True):
            kept = dataclasses.replace(
                convolution,
                name=f"{convolution.name}_{part.start}",
                weight=convolution.weight[part.start : part.stop],
                bias=convolution.bias[part.start : part.stop],
            )
            put_convolution(editor, reader.output[0], kept)
            gone += 1
    if gone:
        editor.finish()
    return gone


def _channels(editor: GraphEditor, node: NodeProto, channels: int) -> range | None:
    """The channels that a Slice of (N, channels, h, w) keeps; None where it does something else."""
    if node.op_type != "Slice" or len(node.input) < 4:
        return None
    starts, ends, axes, *steps = (editor.constant(name) for name in node.input[1:])
    if starts is None or ends is None or axes is None or axes.tolist() != [1]:
        return None
    if any(step is None or step.tolist() != [1] for step in steps):
        return None
    return range(channels)[int(starts[0]) : int(ends[0])]
