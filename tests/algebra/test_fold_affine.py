"""Factors and summands after a convolution."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.algebra.fold_affine import fold_affine
from tests.algebra.graphs import applied, assert_same_answers, graph, node, noise, operators

CONV = node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1])
CONSTANTS = {"w": noise(4, 3, 3, 3), "b": noise(4)}
AFTER = {
    "add": node("Add", ["c", "k"], ["y"]),
    "subtract": node("Sub", ["c", "k"], ["y"]),
    "subtract from": node("Sub", ["k", "c"], ["y"]),
    "multiply": node("Mul", ["k", "c"], ["y"]),
    "divide": node("Div", ["c", "k"], ["y"]),
}
PER_CHANNEL = {"one": (), "of a channel": (4, 1, 1), "with a batch": (1, 4, 1, 1)}


@pytest.mark.parametrize("shape", PER_CHANNEL)
@pytest.mark.parametrize("operation", AFTER)
def test_it_is_folded_and_nothing_changes(operation: str, shape: str) -> None:
    constants = CONSTANTS | {"k": noise(*PER_CHANNEL[shape]) + np.float32(3)}
    before = graph([CONV, AFTER[operation]], constants, x=(3, 5, 6))
    count, after = applied(fold_affine, before)
    assert (count, operators(after)) == (1, ["Conv"])
    assert_same_answers(before, after)


def test_a_chain_is_folded_to_its_end() -> None:
    """As the teacher's statistics are: minus the mean, by the deviation. The convolution has no bias yet."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("Sub", ["c", "mean"], ["d"]),
        node("Div", ["d", "std"], ["y"]),
    ]
    constants = {"w": noise(4, 3, 2, 2), "mean": noise(1, 4, 1, 1), "std": np.abs(noise(1, 4, 1, 1)) + 0.5}
    before = graph(nodes, constants, x=(3, 5, 6))
    count, after = applied(fold_affine, before)
    assert (count, [one.name for one in after.graph.node]) == (2, ["conv"]), "it keeps its name"
    assert len(after.graph.initializer) == 2, "the old constants are gone"
    assert_same_answers(before, after)


REFUSED = {
    "a constant that changes from place to place": ([CONV, node("Add", ["c", "k"], ["y"])], noise(4, 3, 4)),
    "a constant along the width": ([CONV, node("Add", ["c", "k"], ["y"])], noise(4)),
    "a constant divided by": ([CONV, node("Div", ["k", "c"], ["y"])], noise(4, 1, 1)),
    "a division by zero": ([CONV, node("Div", ["c", "k"], ["y"])], np.zeros((4, 1, 1), np.float32)),
    "another reader": ([CONV, node("Add", ["c", "k"], ["s"]), node("Sum", ["s", "c"], ["y"])], noise(4, 1, 1)),
    "its own square": ([CONV, node("Mul", ["c", "c"], ["y"])], noise(4, 1, 1)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_left_alone(case: str) -> None:
    nodes, constant = REFUSED[case]
    before = graph(nodes, CONSTANTS | {"k": constant}, x=(3, 3, 4))
    count, after = applied(fold_affine, before)
    assert count == 0
    assert after == before
