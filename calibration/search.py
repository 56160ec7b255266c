"""The fewest convolutions to leave in higher precision while the budget holds.

Each convolution's harm is measured once, alone. The worst are left out until the budget holds (bisection: leaving
out more costs less); then each of them, the least harmful first, is taken back where the budget allows. What
remains is minimal: none of it can be spared. Deterministic; every graph that was tried is remembered on disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.budget import Judge, Trial
from calibration.cost import Cost
from edge_ad.progress import Progress

__all__ = ["Journal", "SearchResult", "fewest_left_out"]

Make = Callable[[tuple[str, ...]], bytes]
"""The graph to judge, of the layers that are left out."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What to leave out and why.

    Attributes:
        left_out: In the order of the graph.
        sensitivity: By layer: score noise (Cost.score_noise) when it alone is quantised. Empty where
            nothing had to be left out, so nothing had to be measured.
        plain: With everything quantised.
        chosen: With `left_out` left out.
    """

    left_out: tuple[str, ...]
    sensitivity: dict[str, float]
    plain: Trial
    chosen: Trial


class Journal:
    """Measurements by graph, in a file of JSON lines: an interrupted calibration goes on where it was.

    Args:
        path: The file; None keeps nothing. A line that was not written to its end is ignored.
    """

    def __init__(self, path: Path | None, judge: Judge) -> None:
        self.path, self.judge = path, judge
        self._known: dict[str, dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path and path.exists() else ():
            try:
                self._known.update(json.loads(line))
            except ValueError:
                continue

    def cost(self, graph: bytes) -> Cost:
        """As Judge.cost."""
        row = self._remembered("cost", graph, lambda: dataclasses.asdict(self.judge.cost(graph)))
        return Cost(**row)

    def trial(self, graph: bytes, *, whole: bool = False) -> Trial:
        """As Judge.trial."""
        kind = "whole trial" if whole else "trial"
        row = self._remembered(kind, graph, lambda: dataclasses.asdict(self.judge.trial(graph, whole=whole)))
        return Trial(**(row | {"cost": Cost(**row["cost"])}))

    def _remembered(self, kind: str, graph: bytes, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        key = f"{kind} {hashlib.sha256(graph).hexdigest()}"
        if key not in self._known:
            self._known[key] = measure()
            self._write(json.dumps({key: self._known[key]}) + "\n")
        return self._known[key]

    def _write(self, line: str) -> None:
        """Where nothing can be written, an interruption costs what was measured, and no more."""
        with contextlib.suppress(OSError):
            if self.path:
                with self.path.open("a") as file:
                    file.write(line)

    def close(self) -> None:
        """Forget: the calibration is done."""
        if self.path:
            self.path.unlink(missing_ok=True)


def fewest_left_out(layers: Sequence[str], make: Make, journal: Journal, what: str) -> SearchResult:
    """Search.

    Args:
        layers: All candidates, in the order of the graph.
        what: The precision, for the progress bars.
    """

    def trial(left_out: Sequence[str]) -> Trial:
        return journal.trial(make(tuple(layer for layer in layers if layer in left_out)))

    plain = journal.trial(make(()), whole=True)
    if plain.within_budget or not layers:
        return SearchResult(left_out=(), sensitivity={}, plain=plain, chosen=plain)
    sensitivity = {}
    with Progress(f"{what} sensitivity", len(layers)) as progress:
        for layer in layers:
            alone = tuple(other for other in layers if other != layer)
            sensitivity[layer] = journal.cost(make(alone)).score_noise
            progress.step()
    worst_first = sorted(layers, key=lambda layer: -sensitivity[layer])
    with Progress(f"{what} search", len(layers)) as progress:
        kept, chosen = _bisect(worst_first, trial, progress)
        for layer in reversed(kept):
            if not chosen.within_budget:
                break
            fewer = [other for other in kept if other != layer]
            candidate = trial(fewer)
            progress.step()
            if candidate.within_budget:
                kept, chosen = fewer, candidate
    left_out = tuple(layer for layer in layers if layer in kept)
    return SearchResult(left_out=left_out, sensitivity=sensitivity, plain=plain, chosen=chosen)


def _bisect(
    worst_first: Sequence[str], trial: Callable[[Sequence[str]], Trial], progress: Progress
) -> tuple[list[str], Trial]:
    """The shortest run of the worst that keeps the budget, or all of them; nothing is known not to."""
    too_few, enough = 0, len(worst_first)
    chosen = None
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        candidate = trial(worst_first[:middle])
        progress.step()
        if candidate.within_budget:
            enough, chosen = middle, candidate
        else:
            too_few = middle
    kept = list(worst_first[:enough])
    return kept, chosen or trial(kept)
