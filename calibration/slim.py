"""Fewer multiplications before fewer bits: lower ranks and fewer units, as far as a part of the budget allows."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from calibration.observe import evenly, with_defects
from calibration.search import Journal
from calibration.trunk import load_named
from edge_ad.algebra import optimise, total_macs
from edge_ad.algebra.low_rank import (
    Subspace,
    find_subspaces,
    find_upsampled_subspaces,
    lower_ranks,
    lower_upsampled_ranks,
)
from edge_ad.algebra.reduce_rank import reduce_rank, sample_differences
from edge_ad.algebra.reduce_units import reduce_units, sample_hidden
from edge_ad.algebra.sketch import fit_sketches, smallest_within
from edge_ad.algebra.units import UnitFit, Units
from edge_ad.frame import Image
from edge_ad.progress import Progress

__all__ = ["SHARE", "Slimmed", "slim"]

SHARE = 0.5  # of the budget; the rest is for fewer bits
WORTH = 0.05  # of the multiply-accumulates: what saves less is better left to fewer bits
WORTH_OF_RANKS = 0.25  # likewise of convolutions, which in fewer channels bear fewer bits less well
FRAMES = 16  # images that ranks are found on; each counts twice, with and without a defect
UNIT_FRAMES = 288  # that units are fitted to, with a defect and without: of few images each several times
UNITS = (256, 384, 512, 768)
MISSED = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)  # shares of a response's variance that a convolution may lose
MISSED_UPSAMPLED = (0.1, 0.05, 0.03, 0.02)  # likewise, of those that no other convolution follows

Lowered = dict[str, dict[str, int]]
"""Ranks by the name of what was changed, for each kind: "differences", "units", "convolutions"."""

Change = Callable[[ModelProto], Lowered]
"""Lowers ranks of a graph in place; returns them."""

Ladder = Callable[[ModelProto], Sequence[Change]]
"""The changes that may be made to a graph, the least exact first."""


@dataclass(frozen=True, kw_only=True)
class Slimmed:
    """A float32 graph of less work.

    Attributes:
        differences: Rank of each difference of features, by name.
        units: Of each head's hidden layer, by name.
        convolutions: Rank of each convolution that became two, by name.
        macs_before, macs_after: Multiply-accumulates for one frame.
        used: Share of the whole budget.
    """

    model: ModelProto
    differences: dict[str, int]
    units: dict[str, int]
    convolutions: dict[str, int]
    macs_before: int
    macs_after: int
    used: float

    def facts(self) -> dict[str, Any]:
        """All but the graph, for the report."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "model"}


def slim(model: ModelProto, paths: Sequence[Path], journal: Journal, seed: int = 0) -> Slimmed:
    """Lower ranks of differences, of heads (units and what is upsampled), and of convolutions, as far as may be.

    One after the other, each as far as half the budget allows for all of them so far.

    Args:
        model: A float32 graph.
        paths: Normal images of the camera's size.
    """
    macs_before = total_macs(model)
    model, _ = optimise(model)  # of a bundle from before the exact passes; else there is nothing to do
    frames = list(with_defects(evenly(paths, FRAMES), seed))
    ladders: tuple[tuple[str, float, Ladder], ...] = (
        ("ranks of differences", WORTH, lambda graph: _of_differences(graph, frames, seed)),
        ("units and ranks of heads", WORTH, lambda graph: _of_heads(graph, paths, frames, seed)),
        ("ranks of convolutions", WORTH_OF_RANKS, lambda graph: _of_ranks(find_subspaces(graph, frames))),
    )
    chosen: Lowered = {"differences": {}, "units": {}, "convolutions": {}}
    used = 0.0
    for what, worth, ladder in ladders:
        model, lowered, of_this = _first_within(model, ladder(model), worth, journal, what)
        for kind, ranks in lowered.items():
            chosen[kind] |= ranks
        used = of_this if lowered else used
    return Slimmed(
        model=load_named(model.SerializeToString()),
        **chosen,
        macs_before=macs_before,
        macs_after=total_macs(model),
        used=used,
    )


def _of_differences(model: ModelProto, frames: Sequence[Image], seed: int) -> list[Change]:
    sketches = fit_sketches(sample_differences(model, frames, seed), seed=seed)

    def sketched(error: float) -> Change:
        def change(graph: ModelProto) -> Lowered:
            chosen = smallest_within(sketches, error)
            reduce_rank(graph, chosen)
            return {"differences": {name: one.rank for name, one in chosen.items()}}

        return change

    errors = sorted({one.error for of_one in sketches.values() for one in of_one}, reverse=True)
    return [sketched(error) for error in errors]


def _of_heads(model: ModelProto, paths: Sequence[Path], frames: Sequence[Image], seed: int) -> list[Change]:
    """Every number of units with every rank of what is upsampled: either may use up what the other needs."""
    fits = _unit_fits(model, paths, seed)
    subspaces = find_upsampled_subspaces(model, frames)

    @functools.cache
    def fitted(name: str, count: int) -> Units:
        return fits[name].fit(count)

    def lowered(count: int, missed: float, of_head: Callable[[str, int], Units] = fitted) -> Change:
        def change(graph: ModelProto) -> Lowered:
            units = {name: of_head(name, count) for name, fit in fits.items() if 4 * count <= 3 * fit.width}
            return {
                "units": reduce_units(graph, units),
                "convolutions": lower_upsampled_ranks(graph, subspaces, missed),
            }

        return change

    def work(of: tuple[int, float]) -> int:
        graph = ModelProto()
        graph.CopyFrom(model)
        lowered(*of, lambda name, count: _of_no_use(fits[name].width, count))(graph)
        return total_macs(graph)

    counts = (*UNITS, max(fit.width for fit in fits.values())) if fits else (0,)
    shares = (*MISSED_UPSAMPLED, 0.0) if subspaces else (0.0,)
    pairs = itertools.product(counts, shares) if fits or subspaces else ()
    return [lowered(*of) for of in sorted(pairs, key=work)]


def _unit_fits(model: ModelProto, paths: Sequence[Path], seed: int) -> dict[str, UnitFit]:
    images = evenly(paths, UNIT_FRAMES)
    several = [path for path in images for _ in range(UNIT_FRAMES // len(images))]
    hidden = sample_hidden(model, with_defects(several, seed), 2 * len(several), seed)
    return {name: UnitFit(of_one, UNITS[-1], seed) for name, of_one in hidden.items()}


def _of_no_use(width: int, count: int) -> Units:
    """Units whose work can be counted before there are any."""
    return Units(mix=np.zeros((width, count)), bias=np.zeros(count), few=np.zeros(count), constant=0.0, error=1.0)


def _of_ranks(subspaces: Mapping[str, Subspace]) -> list[Change]:
    def lowered(missed: float) -> Change:
        return lambda graph: {"convolutions": lower_ranks(graph, subspaces, missed)}

    return [lowered(missed) for missed in MISSED]


def _first_within(
    model: ModelProto, changes: Sequence[Change], worth: float, journal: Journal, what: str
) -> tuple[ModelProto, Lowered, float]:
    """The first change that keeps to its share of the budget, its ranks, and what it uses; else the model itself."""
    tried: list[Lowered] = []
    macs = total_macs(model)
    with Progress(what, len(changes)) as progress:
        for change in changes:
            changed = ModelProto()
            changed.CopyFrom(model)
            ranks = change(changed)
            progress.step()
            if not any(ranks.values()) or ranks in tried or total_macs(changed) > (1 - worth) * macs:
                continue
            tried.append(ranks)
            used = journal.trial(changed.SerializeToString()).used
            if used <= SHARE:
                return changed, ranks, used
    return model, {}, 0.0
