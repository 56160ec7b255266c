"""The search for what to leave out: minimal, deterministic, resumable."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from calibration.budget import Judge, Trial
from calibration.cost import Cost
from calibration.search import Journal, fewest_left_out
from tests.calibration.judges import EXACT

LAYERS = tuple("abcdefghij")


@dataclasses.dataclass
class Harms:
    """A judge of graphs that are lists of left out layers: the harms of all others add up."""

    harm: dict[str, float]
    asked: list[str] = dataclasses.field(default_factory=list)

    def cost(self, graph: bytes) -> Cost:
        self.asked.append(graph.decode())
        total = sum(harm for layer, harm in self.harm.items() if layer not in graph.decode())
        return dataclasses.replace(EXACT, score_noise=total)

    def trial(self, graph: bytes, *, whole: bool = False) -> Trial:
        cost = self.cost(graph)
        return Trial(cost=cost, image_auroc=None, used=cost.score_noise)


def search(harms: Harms, path: Path | None = None):  # type: ignore[no-untyped-def]
    journal = Journal(path, harms)  # type: ignore[arg-type]
    return fewest_left_out(LAYERS, lambda left_out: "".join(left_out).encode(), journal, "test")


@pytest.mark.parametrize("seed", range(20))
def test_as_few_are_left_out_as_any_choice_allows(seed: int) -> None:
    """Where harms add up, leaving out the worst is best: a brute-force search over all subsets finds no fewer."""
    drawn = np.random.default_rng(seed).exponential(0.3, len(LAYERS))
    harms = Harms(dict(zip(LAYERS, map(float, drawn), strict=True)))
    found = search(harms)
    fewest = next(
        count
        for count in range(len(LAYERS) + 1)
        if any(harms.trial("".join(chosen).encode()).used <= 1 for chosen in itertools.combinations(LAYERS, count))
    )
    assert len(found.left_out) == fewest and found.chosen.within_budget
    assert list(found.left_out) == sorted(found.left_out), "in the order of the graph"
    assert found.plain.used == pytest.approx(drawn.sum())
    if fewest:
        assert found.sensitivity == pytest.approx(harms.harm)


def test_what_proves_harmless_beside_others_is_taken_back() -> None:
    """`a` looks worst alone, yet all that matters is `b`."""

    class Odd(Harms):
        def trial(self, graph: bytes, *, whole: bool = False) -> Trial:
            return Trial(cost=self.cost(graph), image_auroc=None, used=0.5 if b"b" in graph else 2.0)

    found = search(Odd({"a": 3.0, "b": 2.0, "c": 1.0} | dict.fromkeys("defghij", 0.0)))
    assert found.left_out == ("b",)


def test_where_nothing_helps_all_are_left_out_and_said_to_miss() -> None:
    class Hopeless(Harms):
        def trial(self, graph: bytes, *, whole: bool = False) -> Trial:
            return Trial(cost=self.cost(graph), image_auroc=None, used=2.0)

    found = search(Hopeless(dict.fromkeys(LAYERS, 1.0)))
    assert found.left_out == LAYERS and not found.chosen.within_budget


def test_a_harmless_graph_is_measured_once() -> None:
    harms = Harms(dict.fromkeys(LAYERS, 0.01))
    assert search(harms).left_out == () and harms.asked == [""]


def test_an_interrupted_search_measures_nothing_twice(tmp_path: Path) -> None:
    harm = dict(zip(LAYERS, (0.9, 0.1, 0.2, 0.8, 0.1, 0.3, 0.7, 0.1, 0.2, 0.6), strict=True))
    whole = Harms(dict(harm))
    expected = search(whole)

    class PowerCut(Harms):
        def cost(self, graph: bytes) -> Cost:
            if len(self.asked) == 6:
                raise KeyboardInterrupt
            return super().cost(graph)

    journal, cut = tmp_path / "journal", PowerCut(dict(harm))
    with pytest.raises(KeyboardInterrupt):
        search(cut, journal)
    with journal.open("a") as file:
        file.write('{"cost 12')  # the line that was being written
    rest = Harms(dict(harm))
    assert search(rest, journal) == expected
    assert len(cut.asked) == 6 and cut.asked + rest.asked == whole.asked


def test_a_journal_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    assert search(Harms(dict.fromkeys(LAYERS, 0.3)), tmp_path / "no" / "folder").chosen.within_budget


def test_a_closed_journal_is_gone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", Harms({}))  # type: ignore[arg-type]
    journal.cost(b"")
    assert (tmp_path / "journal").exists()
    journal.close()
    assert not (tmp_path / "journal").exists()


def test_a_judge_is_what_the_journal_asks() -> None:
    assert {"cost", "trial"} <= set(dir(Judge)) & set(dir(Harms)), "the double above has the judge's verbs"
