"""INT8 and FP8 with a budget: the best preparation, the fewest convolutions left in higher precision.

Biases always make up for the mean error of the weights; ranges and equalised channels are tried.
Convolutions that are left out run in float16, where their ranges allow it: what stays behind would otherwise cost a
GPU more than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from calibration.budget import Trial
from calibration.equalise import equalise
from calibration.fp16 import half_safe
from calibration.half import halve
from calibration.observe import Observation
from calibration.qdq import FP8, Format, convolutions, quantise
from calibration.ranges import CLIPPING
from calibration.search import Journal, SearchResult, fewest_left_out
from calibration.trunk import load_named
from edge_ad.progress import Progress

__all__ = ["EightBitGraph", "Observe", "eight_bits_from_fp32"]

Observe = Callable[[ModelProto], Mapping[str, Observation]]


@dataclass(frozen=True, kw_only=True)
class EightBitGraph:
    """A quantised graph and how it came about.

    Attributes:
        ranges: How it was prepared: a key of CLIPPING, with ", equalised" where channels were.
        tried: What everything quantised costs, by such preparation.
        in_float32: Convolutions left out that float16 cannot hold.
        search: Which convolutions were left out.
    """

    content: bytes
    ranges: str
    tried: dict[str, Trial]
    in_float32: tuple[str, ...]
    search: SearchResult


@dataclass(frozen=True, kw_only=True)
class _Preparation:
    """A float32 graph, what was observed of it, and where its activations are clipped."""

    model: ModelProto
    observations: Mapping[str, Observation]
    clips: Mapping[str, float]

    @classmethod
    def of(cls, model: ModelProto, observations: Mapping[str, Observation], clipping: str) -> _Preparation:
        ends = {name for node in convolutions(model) for name in (node.input[0], node.output[0])}
        clips = {name: CLIPPING[clipping](observations[name]) for name in ends}
        return cls(model=model, observations=observations, clips=clips)

    def quantised(self, layers: Collection[str], form: Format) -> ModelProto:
        means = {node.input[0]: np.asarray(self.observations[node.input[0]].channel_mean) for node in self.convolutions}
        return quantise(self.model, layers, self.clips, form, means)

    @property
    def convolutions(self) -> list[NodeProto]:
        return convolutions(self.model)


def eight_bits_from_fp32(
    model: ModelProto,
    form: Format,
    observations: Mapping[str, Observation],
    observe_in: Observe,
    journal: Journal,
) -> EightBitGraph:
    """Quantise as many convolutions as the budget allows.

    Args:
        model: From load_named.
        observations: Of trunk_tensors(model).
        observe_in: Gives the same of another graph.
    """
    layers = [node.name for node in convolutions(model)]
    prepared = _preparations(model, form, observations, observe_in)
    tried = {}
    with Progress(f"{form.name} ranges", len(prepared)) as progress:
        for name, preparation in prepared.items():
            tried[name] = journal.trial(preparation.quantised(layers, form).SerializeToString(), whole=True)
            progress.step()
    ranges = min(prepared, key=lambda name: _rank(tried[name]))
    best = prepared[ranges]
    safe, _ = half_safe(best.model, best.observations)

    def deployed(left_out: tuple[str, ...]) -> bytes:
        graph = best.quantised([layer for layer in layers if layer not in left_out], form)
        halves = safe & set(left_out)
        if halves:
            graph = halve(load_named(graph.SerializeToString()), halves)
        content: bytes = graph.SerializeToString()
        return content

    search = fewest_left_out(layers, deployed, journal, form.name)
    return EightBitGraph(
        content=deployed(search.left_out),
        ranges=ranges,
        tried=tried,
        in_float32=tuple(layer for layer in search.left_out if layer not in safe),
        search=search,
    )


def _rank(tried: Trial) -> tuple[float, float]:
    """What keeps the budget comes first, and of that what is nearest to float32."""
    return max(tried.used, 1.0), tried.cost.score_shift_mean + 1 - tried.cost.map_correlation


def _preparations(
    model: ModelProto, form: Format, observations: Mapping[str, Observation], observe_in: Observe
) -> dict[str, _Preparation]:
    if form is FP8:  # a float format's steps grow with the value: clipping and equalising gain nothing
        return {"minmax": _Preparation.of(model, observations, "minmax")}
    prepared = {name: _Preparation.of(model, observations, name) for name in CLIPPING}
    equal = equalise(model, observations)
    if equal is not None:
        seen = observe_in(equal)
        prepared |= {f"{name}, equalised": _Preparation.of(equal, seen, name) for name in CLIPPING}
    return prepared
