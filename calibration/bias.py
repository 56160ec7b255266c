"""What every convolution's output lacks on average in eight bits: what its bias can make up for.

Two answers. Of the weights alone: what rounding took from them, times the mean of what they are applied to (Nagel et
al., "Data-Free Quantization", ICCV 2019, sec. 4.2). Or of everything, measured beside float32 on real frames: what
rounding and clipping add to activations, and what ReLU makes of it, does not average out either, and over a flat
background one and the same error covers half of the image (Finkelstein et al., "Fighting Quantization Bias With
Bias", 2019). Which serves a graph better is measured (calibration/eight_bits.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, numpy_helper, utils
from scipy.stats import trim_mean

from calibration.observe import Observation
from calibration.qdq import Format, Lacking, convolutions, rounded_weights
from calibration.trunk import load_named
from edge_ad.backends.onnxruntime import open_session
from edge_ad.frame import Image

__all__ = ["lacking", "lacking_of_weights"]

PLACES = 4096  # of every frame and channel that are looked at
RARE = 0.1  # share of the errors on either side that do not count: bright spots that were clipped are no mean error

State = dict[str, npt.NDArray[Any]]
"""Of one frame: the tensors that the rest of the graph reads."""


def lacking_of_weights(model: ModelProto, form: Format, observations: Mapping[str, Observation]) -> Lacking:
    """What convolutions lack because their weights were rounded, borders aside.

    Args:
        model: A float32 graph.
        observations: Of what its convolutions read.
    """
    kernels = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for node in convolutions(model):
        kernel = kernels[node.input[1]]
        values, scale = rounded_weights(kernel, form)
        lost = kernel - values.astype(np.float32) * scale[:, None, None, None]
        groups = next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)
        means = np.asarray(observations[node.input[0]].channel_mean).reshape(groups, -1)
        of_group = np.repeat(means, len(lost) // groups, axis=0)
        found[node.name] = np.asarray((lost.sum((2, 3)) * of_group).sum(1), np.float32)
    return found


def lacking(model: ModelProto, quantised: ModelProto, frames: Sequence[Image]) -> Lacking:
    """What convolutions lack for whatever reason, each when those before it lack nothing any more.

    Args:
        model: A float32 graph, from load_named.
        quantised: The same with all of its convolutions quantised, and biases as they were.
        frames: Of the camera; a few will do. Of each, some activations are held in memory.
    """
    exact: list[State] = [{"image": frame[None]} for frame in frames]
    rounded: list[State] = [{"image": frame[None]} for frame in frames]
    found = {}
    for part, of_quantised in zip(_parts(model), _parts(load_named(quantised.SerializeToString())), strict=True):
        lost = []
        for one, other in zip(exact, rounded, strict=True):
            part.advance(one)
            of_quantised.advance(other)
            lost.append(_at_some_places(one[part.output]) - _at_some_places(other[part.output]))
        found[part.name] = np.asarray(trim_mean(np.concatenate(lost, axis=1), RARE, axis=1), np.float32)
        for state in rounded:
            state[part.output] += found[part.name][:, None, None]
    return found


def _at_some_places(response: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(1, channels, h, w) to (channels, about PLACES)."""
    of_channels = response.reshape(response.shape[1], -1)
    return of_channels[:, :: max(1, of_channels.shape[1] // PLACES)]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A graph up to and with a convolution, from where the one before it ended.

    Attributes:
        name, output: Of the convolution.
        reads, writes: Tensors.
        kept: Tensors that are there before it and that later parts read too.
    """

    name: str
    output: str
    session: Any
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    kept: tuple[str, ...]

    def advance(self, state: State) -> None:
        """From before this part to behind it."""
        values = self.session.run(self.writes, {name: state[name] for name in self.reads})
        for name in {*state} - {*self.kept}:
            del state[name]
        state.update(zip(self.writes, values, strict=True))


def _parts(model: ModelProto) -> list[_Part]:
    """The graph cut behind every convolution; what only follows the last is left out."""
    nodes = _of_frames(model)
    ends = [index for index, node in enumerate(nodes) if node.op_type == "Conv"]
    starts = [0, *(end + 1 for end in ends)]
    extractor = utils.Extractor(model)
    parts, there = [], {"image"}
    for start, end in zip(starts, ends, strict=False):
        within, after = nodes[start : end + 1], nodes[end + 1 : ends[-1] + 1]
        later = {name for node in after for name in node.input}
        reads = {name for node in within for name in node.input} & there
        writes = {name for node in within for name in node.output} & (later | {*nodes[end].output})
        part = extractor.extract_model(sorted(reads), sorted(writes))
        parts.append(
            _Part(
                name=nodes[end].name,
                output=nodes[end].output[0],
                session=open_session(part.SerializeToString(), "a part of a graph", integer_kernels=False),
                reads=tuple(sorted(reads)),
                writes=tuple(sorted(writes)),
                kept=tuple(sorted(there & later)),
            )
        )
        there = there & later | writes
    return parts


def _of_frames(model: ModelProto) -> list[NodeProto]:
    """The nodes that depend on the frame, in the order of the graph; the others dequantise weights."""
    reached, nodes = {"image"}, []
    for node in model.graph.node:
        if reached & {*node.input}:
            reached |= {*node.output}
            nodes.append(node)
    return nodes
