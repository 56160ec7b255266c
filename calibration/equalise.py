"""Channels of like size: what INT8's one scale per activation asks for.

requires  convolutions with constant weights of their own
ensures   the same function. Between the convolutions that write channels and those that read them, with nothing but
          channel by channel homogeneous operators in between (ReLU, pooling, sums of residual branches), channel c is
          divided by a factor s_c: s(x / s) = x, relu(x / s) = relu(x) / s. Writers' weights take 1 / s_c, readers' s_c

A channel much larger than the others takes all the steps of the tensor's scale. Dividing it moves the difference
into the readers' weights; s_c = sqrt(a_c / w_c), of the channel's largest activation and its largest weight, shares
it between the two (Nagel et al., "Data-Free Quantization", ICCV 2019, sec. 4.1; Xiao et al., "SmoothQuant", ICML 2023).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, numpy_helper

from calibration.observe import Observation

__all__ = ["equalise"]

_HOMOGENEOUS = {"Add", "AveragePool", "Identity", "LeakyRelu", "MaxPool", "Relu"}
_LARGEST_FACTOR = 64.0  # either way: a channel that is nearly silent is not blown up beyond reason


@dataclass
class _Stream:
    """Tensors whose channels can be scaled together."""

    tensors: set[str]
    writers: list[NodeProto] = field(default_factory=list)
    readers: list[NodeProto] = field(default_factory=list)
    closed: bool = True  # nothing else writes or reads it


def equalise(model: ModelProto, observations: Mapping[str, Observation]) -> ModelProto | None:
    """A copy with channels of like size; None where no channels can be scaled.

    Args:
        model: From load_named.
        observations: Of what the convolutions read.
    """
    result = ModelProto()
    result.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in result.graph.initializer}
    uses = Counter(name for node in result.graph.node for name in node.input)
    streams = [stream for stream in _streams(result, set(weights)) if _scalable(stream, weights, uses)]
    kernels = {name: numpy_helper.to_array(tensor) for name, tensor in weights.items()}
    factors = [_factors(stream, kernels, observations) for stream in streams]
    for stream, factor in zip(streams, factors, strict=True):
        for node in stream.writers:
            for name in (name for name in node.input[1:] if name):
                kernels[name] = kernels[name] / factor.reshape(-1, *[1] * (kernels[name].ndim - 1))
        for node in stream.readers:
            kernels[node.input[1]] = kernels[node.input[1]] * factor[None, :, None, None]
    for name in {name for stream in streams for node in (*stream.writers, *stream.readers) for name in node.input[1:]}:
        if name:
            weights[name].CopyFrom(numpy_helper.from_array(kernels[name].astype(np.float32), name))
    return result if streams else None


def _factors(
    stream: _Stream, kernels: Mapping[str, npt.NDArray[np.float32]], observations: Mapping[str, Observation]
) -> npt.NDArray[np.float64]:
    """s_c of every channel, around 1: magnitudes stay where they were, because float16 must hold them too."""
    largest = [np.asarray(observations[node.input[0]].channel_largest, np.float64) for node in stream.readers]
    activation = np.max(largest, axis=0)
    weight = np.max([np.abs(kernels[node.input[1]]).max(axis=(0, 2, 3)) for node in stream.readers], axis=0)
    alive = (activation > 0) & (weight > 0)
    factor = np.ones(len(activation))
    factor[alive] = np.sqrt(activation[alive] / weight[alive])
    if alive.any():
        factor[alive] /= np.median(factor[alive])
    return np.clip(factor, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)


def _streams(model: ModelProto, constants: set[str]) -> list[_Stream]:
    """Every set of tensors that homogeneous operators connect, with the convolutions at its ends."""
    of: dict[str, _Stream] = {}
    for node in model.graph.node:
        names = [*node.input, *node.output]
        joins = node.op_type in _HOMOGENEOUS and not constants & set(node.input)
        for group in [names] if joins else [[name] for name in names]:
            _join(of, [name for name in group if name and name not in constants])
    for node in model.graph.node:
        if node.op_type in _HOMOGENEOUS and not constants & set(node.input):
            continue
        for name in (name for name in node.input if name in of):
            is_image_of_conv = node.op_type == "Conv" and name == node.input[0]
            of[name].readers.append(node)
            of[name].closed &= is_image_of_conv
        for name in node.output:
            of[name].writers.append(node)
            of[name].closed &= node.op_type == "Conv"
    for value in (*model.graph.input, *model.graph.output):
        if value.name in of:
            of[value.name].closed = False
    return list({id(stream): stream for stream in of.values()}.values())


def _join(of: dict[str, _Stream], names: list[str]) -> None:
    joined = _Stream(set(names))
    for name in names:
        if name in of:
            joined.tensors |= of[name].tensors
    for name in joined.tensors:
        of[name] = joined


def _scalable(stream: _Stream, weights: Mapping[str, object], uses: Counter[str]) -> bool:
    """Dense convolutions at every end, whose weights are theirs alone; none that reads what it writes itself."""
    ends = [*stream.writers, *stream.readers]
    own = all(uses[name] == 1 and name in weights for node in ends for name in node.input[1:] if name)
    dense = all(attribute.i == 1 for node in ends for attribute in node.attribute if attribute.name == "group")
    distinct = len({node.name for node in ends}) == len(ends)
    return stream.closed and bool(stream.writers and stream.readers) and own and dense and distinct
