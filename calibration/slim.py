"""Fewer multiplications before fewer bits: lower ranks, as low as a part of the budget allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto

from calibration.search import Journal
from calibration.trunk import load_named
from edge_ad.algebra import optimise, total_macs
from edge_ad.algebra.low_rank import find_subspaces, lower_ranks
from edge_ad.algebra.reduce_rank import reduce_rank, sample_differences
from edge_ad.algebra.sketch import fit_sketches, smallest_within
from edge_ad.frame import Image
from edge_ad.progress import Progress

__all__ = ["SHARE", "Slimmed", "slim"]

SHARE = 0.5  # of the budget; the rest is for fewer bits
MISSED = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)  # shares of a response's variance that a convolution may lose

Change = Callable[[ModelProto], dict[str, int]]
"""Lowers ranks of a graph in place; returns them by the name of what was changed."""


@dataclass(frozen=True, kw_only=True)
class Slimmed:
    """A float32 graph of less work.

    Attributes:
        differences: Rank of each difference of features, by name.
        convolutions: Rank of each convolution that became two, by name.
        macs_before, macs_after: Multiply-accumulates for one frame.
        used: Share of the whole budget.
    """

    model: ModelProto
    differences: dict[str, int]
    convolutions: dict[str, int]
    macs_before: int
    macs_after: int
    used: float

    def facts(self) -> dict[str, Any]:
        """All but the graph, for the report."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "model"}


def slim(model: ModelProto, frames: Sequence[Image], journal: Journal, seed: int = 0) -> Slimmed:
    """Lower ranks of differences, then of convolutions, each as far as half the budget allows.

    Args:
        model: A float32 graph.
        frames: Normal ones and the same with synthetic defects, of one part next to each other.
    """
    macs_before = total_macs(model)
    model, _ = optimise(model)  # of a bundle from before the exact passes; else there is nothing to do
    sketches = fit_sketches(sample_differences(model, frames, seed), seed=seed)

    def sketched(error: float) -> Change:
        def change(graph: ModelProto) -> dict[str, int]:
            chosen = smallest_within(sketches, error)
            reduce_rank(graph, chosen)
            return {name: one.rank for name, one in chosen.items()}

        return change

    errors = sorted({one.error for of_one in sketches.values() for one in of_one}, reverse=True)
    shorter, differences, used = _first_within(model, [sketched(error) for error in errors], journal, "differences")
    subspaces = find_subspaces(shorter, frames)

    def factorised(missed: float) -> Change:
        return lambda graph: lower_ranks(graph, subspaces, missed)

    slimmer, convolutions, used_after = _first_within(
        shorter, [factorised(missed) for missed in MISSED], journal, "convolutions"
    )
    return Slimmed(
        model=load_named(slimmer.SerializeToString()),
        differences=differences,
        convolutions=convolutions,
        macs_before=macs_before,
        macs_after=total_macs(slimmer),
        used=used_after if convolutions else used,
    )


def _first_within(
    model: ModelProto, changes: Iterable[Change], journal: Journal, what: str
) -> tuple[ModelProto, dict[str, int], float]:
    """The first change that keeps to its share of the budget, its ranks, and what it uses; else the model itself."""
    tried: list[dict[str, int]] = []
    changes = list(changes)
    with Progress(f"ranks of {what}", len(changes)) as progress:
        for change in changes:
            changed = ModelProto()
            changed.CopyFrom(model)
            ranks = change(changed)
            progress.step()
            if not ranks or ranks in tried:
                continue
            tried.append(ranks)
            used = journal.trial(changed.SerializeToString()).used
            if used <= SHARE:
                return changed, ranks, used
    return model, {}, 0.0
