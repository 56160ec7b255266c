"""INT8 and FP8 with a budget: the best preparation, the fewest convolutions left in higher precision.

Ranges, equalised channels, and what biases make up for are tried.
Convolutions that are left out run in float16, where their ranges allow it: what stays behind would otherwise cost a
GPU more than all the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from calibration.bias import lacking, lacking_of_weights
from calibration.budget import Trial
from calibration.equalise import equalise
from calibration.fp16 import half_safe
from calibration.half import halve
from calibration.observe import Observation
from calibration.qdq import FP8, Format, Lacking, convolutions, quantise
from calibration.ranges import CLIPPING
from calibration.search import Journal, SearchResult, fewest_left_out
from calibration.trunk import load_named
from edge_ad.frame import Image
from edge_ad.progress import Progress

__all__ = ["OF_WEIGHTS", "EightBitGraph", "Observe", "eight_bits_from_fp32"]

OF_WEIGHTS = ", biases of the weights"

Observe = Callable[[ModelProto], Mapping[str, Observation]]


@dataclass(frozen=True, kw_only=True)
class EightBitGraph:
    """A quantised graph and how it came about.

    Attributes:
        ranges: How it was prepared: a key of CLIPPING, with ", equalised" where channels were, and OF_WEIGHTS where
            biases make up for rounded weights alone, not for all that was measured.
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
    """A float32 graph, what was observed of it, where its activations are clipped, and what its biases make up for."""

    model: ModelProto
    observations: Mapping[str, Observation]
    form: Format
    clips: Mapping[str, float]
    lacking: Lacking

    @classmethod
    def of(
        cls,
        model: ModelProto,
        observations: Mapping[str, Observation],
        clipping: str,
        form: Format,
        frames: Sequence[Image],
    ) -> _Preparation:
        nodes = convolutions(model)
        ends = {name for node in nodes for name in (node.input[0], node.output[0])}
        clips = {name: CLIPPING[clipping](observations[name]) for name in ends}
        quantised = quantise(model, [node.name for node in nodes], clips, form)
        found = lacking(model, quantised, frames)
        return cls(model=model, observations=observations, form=form, clips=clips, lacking=found)

    def of_weights(self) -> _Preparation:
        """The same with biases that make up for rounded weights alone."""
        return dataclasses.replace(self, lacking=lacking_of_weights(self.model, self.form, self.observations))

    def quantised(self, layers: Collection[str]) -> ModelProto:
        return quantise(self.model, layers, self.clips, self.form, self.lacking)


def eight_bits_from_fp32(
    model: ModelProto,
    form: Format,
    observations: Mapping[str, Observation],
    observe_in: Observe,
    frames: Sequence[Image],
    journal: Journal,
) -> EightBitGraph:
    """Quantise as many convolutions as the budget allows.

    Args:
        model: From load_named.
        observations: Of trunk_tensors(model).
        observe_in: Gives the same of another graph.
        frames: What biases are corrected on: memory holds a few activations of each at once.
    """
    layers = [node.name for node in convolutions(model)]
    prepared = _preparations(model, form, observations, observe_in, frames)
    tried: dict[str, Trial] = {}

    def try_out(name: str, progress: Progress) -> None:
        tried[name] = journal.trial(prepared[name].quantised(layers).SerializeToString(), whole=True)
        progress.step()

    with Progress(f"{form.name} ranges", 2 * len(prepared)) as progress:
        for name in list(prepared):
            try_out(name, progress)
        for name in sorted(tried, key=lambda name: _rank(tried[name])):
            prepared[name + OF_WEIGHTS] = prepared[name].of_weights()
            try_out(name + OF_WEIGHTS, progress)
            if any(trial.within_budget for trial in tried.values()):
                break
    ranges = min(tried, key=lambda name: _rank(tried[name]))
    best = prepared[ranges]
    safe, _ = half_safe(best.model, best.observations)

    def deployed(left_out: tuple[str, ...]) -> bytes:
        graph = best.quantised([layer for layer in layers if layer not in left_out])
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
    return max(tried.used, 1.0), tried.cost.score_noise + 1 - tried.cost.map_correlation


def _preparations(
    model: ModelProto,
    form: Format,
    observations: Mapping[str, Observation],
    observe_in: Observe,
    frames: Sequence[Image],
) -> dict[str, _Preparation]:
    # A float format's steps grow with the value: clipping and equalising gain nothing.
    clippings = ["minmax"] if form is FP8 else [*CLIPPING]
    variants = {"": (model, observations)}
    equal = None if form is FP8 else equalise(model, observations)
    if equal is not None:
        variants[", equalised"] = (equal, observe_in(equal))
    prepared = {}
    with Progress(f"{form.name} biases", len(variants) * len(clippings)) as progress:
        for suffix, (graph, seen) in variants.items():
            for name in clippings:
                prepared[name + suffix] = _Preparation.of(graph, seen, name, form, frames)
                progress.step()
    return prepared
