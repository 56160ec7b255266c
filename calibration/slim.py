"""Fewer multiplications before fewer bits: lower ranks and fewer units, as far as a part of the budget allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from edge_ad.algebra.units import UnitFit
from edge_ad.frame import Image
from edge_ad.progress import Progress

__all__ = ["SHARE", "Slimmed", "slim"]

SHARE = 0.5  # of the budget; the rest is for fewer bits
WORTH = 0.05  # of the multiply-accumulates: what saves less is better left to fewer bits
FRAMES = 16  # images that ranks are found on; each counts twice, with and without a defect
UNIT_FRAMES = 288  # that units are fitted to, with a defect and without: of few images each several times
UNITS = (256, 384, 512, 768)
MISSED = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)  # shares of a response's variance that a convolution may lose
MISSED_UPSAMPLED = (0.1, 0.05, 0.03, 0.02)  # likewise, of those that no other convolution follows

Change = Callable[[ModelProto], dict[str, int]]
"""Lowers ranks of a graph in place; returns them by the name of what was changed."""

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
    """Lower ranks of differences, units of heads, ranks of upsampled and of other convolutions, as far as may be.

    One after the other, each as far as half the budget allows for all of them so far.

    Args:
        model: A float32 graph.
        paths: Normal images of the camera's size.
    """
    macs_before = total_macs(model)
    model, _ = optimise(model)  # of a bundle from before the exact passes; else there is nothing to do
    frames = list(with_defects(evenly(paths, FRAMES), seed))
    ladders: tuple[tuple[str, str, Ladder], ...] = (
        ("differences", "ranks of differences", lambda graph: _of_differences(graph, frames, seed)),
        ("units", "units of heads", lambda graph: _of_units(graph, paths, seed)),
        (
            "convolutions",
            "ranks of upsampled convolutions",
            lambda graph: _of_ranks(lower_upsampled_ranks, find_upsampled_subspaces(graph, frames), MISSED_UPSAMPLED),
        ),
        (
            "convolutions",
            "ranks of convolutions",
            lambda graph: _of_ranks(lower_ranks, find_subspaces(graph, frames), MISSED),
        ),
    )
    chosen: dict[str, dict[str, int]] = {"differences": {}, "units": {}, "convolutions": {}}
    used = 0.0
    for kind, what, ladder in ladders:
        model, lowered, of_this = _first_within(model, ladder(model), journal, what)
        chosen[kind] |= lowered
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
        def change(graph: ModelProto) -> dict[str, int]:
            chosen = smallest_within(sketches, error)
            reduce_rank(graph, chosen)
            return {name: one.rank for name, one in chosen.items()}

        return change

    errors = sorted({one.error for of_one in sketches.values() for one in of_one}, reverse=True)
    return [sketched(error) for error in errors]


def _of_units(model: ModelProto, paths: Sequence[Path], seed: int) -> list[Change]:
    images = evenly(paths, UNIT_FRAMES)
    several = [path for path in images for _ in range(UNIT_FRAMES // len(images))]
    hidden = sample_hidden(model, with_defects(several, seed), 2 * len(several), seed)
    fits = {name: UnitFit(of_one, UNITS[-1], seed) for name, of_one in hidden.items()}

    def fitted(count: int) -> Change:
        def change(graph: ModelProto) -> dict[str, int]:
            return reduce_units(
                graph, {name: of_one.fit(count) for name, of_one in fits.items() if 4 * count <= 3 * of_one.width}
            )

        return change

    return [fitted(count) for count in UNITS] if fits else []


def _of_ranks(
    lower: Callable[[ModelProto, Mapping[str, Subspace], float], dict[str, int]],
    subspaces: Mapping[str, Subspace],
    shares: Sequence[float],
) -> list[Change]:
    def lowered(missed: float) -> Change:
        return lambda graph: lower(graph, subspaces, missed)

    return [lowered(missed) for missed in shares]


def _first_within(
    model: ModelProto, changes: Sequence[Change], journal: Journal, what: str
) -> tuple[ModelProto, dict[str, int], float]:
    """The first change that keeps to its share of the budget, its ranks, and what it uses; else the model itself."""
    tried: list[dict[str, int]] = []
    macs = total_macs(model)
    with Progress(what, len(changes)) as progress:
        for change in changes:
            changed = ModelProto()
            changed.CopyFrom(model)
            ranks = change(changed)
            progress.step()
            if not ranks or ranks in tried or total_macs(changed) > (1 - WORTH) * macs:
                continue
            tried.append(ranks)
            used = journal.trial(changed.SerializeToString()).used
            if used <= SHARE:
                return changed, ranks, used
    return model, {}, 0.0
