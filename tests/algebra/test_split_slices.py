"""Channels that are computed where they are read."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.algebra import total_macs
from edge_ad.algebra.split_slices import split_slices
from tests.algebra.graphs import applied, assert_same_answers, graph, node, noise, operators

CONV = node("Conv", ["x", "w", "b"], ["c"], "conv")
CONSTANTS = {"w": noise(6, 3, 2, 2), "b": noise(6), "axis": np.array([1]), "step": np.array([1])}


def cut(output: str, start: int, end: int, axis: int = 1) -> tuple[list, dict[str, np.ndarray]]:
    """A Slice of c, and its constants."""
    names = {f"{output}_{name}": np.array([value]) for name, value in (("from", start), ("to", end), ("axis", axis))}
    return [node("Slice", ["c", *names], [output])], names


def halves(second: tuple[int, int] = (4, 6), axis: int = 1) -> tuple[list, dict[str, np.ndarray]]:
    """The first 4 of 6 channels, and others, as two outputs."""
    (one, of_one), (two, of_two) = cut("y", 0, 4, axis), cut("z", *second, axis)
    return [CONV, *one, *two], CONSTANTS | of_one | of_two


def test_every_part_becomes_a_convolution() -> None:
    nodes, constants = halves()
    before = graph(nodes, constants, ("y", "z"), x=(3, 4, 5))
    count, after = applied(split_slices, before)
    assert (count, operators(after)) == (2, ["Conv", "Conv"])
    assert len({one.name for one in after.graph.node}) == 2
    assert total_macs(after) == total_macs(before)
    assert_same_answers(before, after)


def test_channels_that_nobody_reads_are_not_computed() -> None:
    nodes, constants = halves(second=(-1, 1000))
    before = graph(nodes, constants, ("y", "z"), x=(3, 4, 5))
    _, after = applied(split_slices, before)
    assert total_macs(after) == total_macs(before) * 5 // 6
    assert_same_answers(before, after)


@pytest.mark.parametrize("case", ["overlapping", "of rows", "also read whole"])
def test_anything_else_is_left_alone(case: str) -> None:
    nodes, constants = halves(second=(1, 6) if case == "overlapping" else (4, 6), axis=2 if case == "of rows" else 1)
    before = graph(nodes, constants, ("y", "z", "c") if case == "also read whole" else ("y", "z"), x=(3, 6, 6))
    count, after = applied(split_slices, before)
    assert count == 0
    assert after == before
