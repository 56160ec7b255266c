"""INT8 and FP8 with a budget: the best ranges, the fewest convolutions left in higher precision.

Convolutions that are left out run in float16, where their ranges allow it: what stays behind would otherwise cost a
GPU more than all the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from calibration.fp16 import half_safe
from calibration.half import halve
from calibration.observe import Observation
from calibration.qdq import FP8, Format, convolutions, quantise
from calibration.ranges import CLIPPING
from calibration.search import Journal, SearchResult, fewest_left_out
from calibration.trunk import load_named
from edge_ad.progress import Progress

__all__ = ["EightBitGraph", "eight_bits_from_fp32"]


@dataclass(frozen=True, kw_only=True)
class EightBitGraph:
    """A quantised graph and how it came about.

    Attributes:
        clipping: How ranges were clipped; a key of CLIPPING.
        bias_corrected: Whether biases make up for the mean error of the weights.
        tried: Share of the budget that everything quantised uses, by clipping, with and without corrected biases.
        in_float32: Convolutions left out that float16 cannot hold.
        search: Which convolutions were left out.
    """

    content: bytes
    clipping: str
    bias_corrected: bool
    tried: dict[str, float]
    in_float32: tuple[str, ...]
    search: SearchResult


def eight_bits_from_fp32(
    model: ModelProto, form: Format, observations: Mapping[str, Observation], journal: Journal
) -> EightBitGraph:
    """Quantise as many convolutions as the budget allows.

    Args:
        model: From load_named.
        observations: Of trunk_tensors(model).
    """
    layers = [node.name for node in convolutions(model)]
    read = {node.input[0] for node in convolutions(model)}
    written = {node.output[0] for node in convolutions(model)}
    means = {name: np.asarray(observations[name].channel_mean) for name in read}
    # A float format's steps grow with the value: clipping gains nothing.
    names = ["minmax"] if form is FP8 else list(CLIPPING)
    clips = {name: {tensor: CLIPPING[name](observations[tensor]) for tensor in read | written} for name in names}

    def quantised(left_out: Collection[str], clipping: str, corrected: bool) -> ModelProto:
        chosen = [layer for layer in layers if layer not in left_out]
        return quantise(model, chosen, clips[clipping], form, means if corrected else None)

    choices = [(name, corrected) for name in names for corrected in (False, True)]
    tried = {}
    with Progress(f"{form.name} ranges", len(choices)) as progress:
        for choice in choices:
            cost = journal.cost(quantised((), *choice).SerializeToString())
            tried[choice] = journal.judge.budget.used(cost, None)
            progress.step()
    clipping, corrected = min(choices, key=lambda choice: tried[choice])

    safe, _ = half_safe(model, observations)

    def deployed(left_out: tuple[str, ...]) -> bytes:
        graph = quantised(left_out, clipping, corrected)
        halves = safe & set(left_out)
        if halves:
            graph = halve(load_named(graph.SerializeToString()), halves)
        content: bytes = graph.SerializeToString()
        return content

    search = fewest_left_out(layers, deployed, journal, form.name)
    return EightBitGraph(
        content=deployed(search.left_out),
        clipping=clipping,
        bias_corrected=corrected,
        tried={f"{name}{', corrected' if fixed else ''}": used for (name, fixed), used in tried.items()},
        in_float32=tuple(layer for layer in search.left_out if layer not in safe),
        search=search,
    )
