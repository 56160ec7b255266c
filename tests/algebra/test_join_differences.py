"""Differences of convolutions of which only the length counts."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.algebra import total_macs
from edge_ad.algebra.join_differences import join_differences
from tests.algebra.graphs import applied, assert_same_answers, graph, node, noise, operators

CONSTANTS = {
    "u": noise(5, 3, 2, 3),
    "a": noise(5),
    "v": noise(5, 4, 2, 3, seed=1),
    "two": np.float32(2),
    "channels": np.array([1]),
}
TAIL = [
    node("Sub", ["p", "q"], ["d"], "difference"),
    node("Pow", ["d", "two"], ["s"]),
    node("ReduceMean", ["s", "channels"], ["y"], keepdims=0),
]


def pair(second: str = "z", **attributes: list[int]) -> list:
    return [node("Conv", ["x", "u", "a"], ["p"], "p"), node("Conv", [second, "v"], ["q"], "q", **attributes)]


def test_two_convolutions_become_one() -> None:
    before = graph([*pair(), *TAIL], CONSTANTS, x=(3, 6, 7), z=(4, 6, 7))
    count, after = applied(join_differences, before)
    assert (count, operators(after)) == (1, ["Concat", "Conv", "Pow", "ReduceMean"])
    assert total_macs(after) == total_macs(before)
    assert_same_answers(before, after)


def test_of_one_input_they_cost_half() -> None:
    constants = CONSTANTS | {"v": noise(5, 3, 2, 3, seed=1)}
    before = graph([*pair("x"), *TAIL], constants, x=(3, 6, 7))
    count, after = applied(join_differences, before)
    assert (count, operators(after)) == (1, ["Conv", "Pow", "ReduceMean"])
    assert total_macs(after) == total_macs(before) // 2
    assert_same_answers(before, after)


REFUSED = {
    "other pads": (pair(pads=[1, 1, 1, 1]), TAIL, (4, 4, 5)),
    "other strides": (pair(strides=[2, 1]), TAIL, (4, 11, 7)),
    "more than its square": (pair(), [*TAIL[:-1], node("Sum", ["s", "d"], ["y"])], (4, 6, 7)),
    "one of them read elsewhere": (pair(), [*TAIL[:-1], node("Sum", ["s", "p"], ["y"])], (4, 6, 7)),
    "a third power": (pair(), [TAIL[0], node("Pow", ["d", "a_third"], ["y"])], (4, 6, 7)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_left_alone(case: str) -> None:
    convolutions, tail, shape = REFUSED[case]
    before = graph([*convolutions, *tail], CONSTANTS | {"a_third": np.float32(3)}, x=(3, 6, 7), z=shape)
    count, after = applied(join_differences, before)
    assert count == 0
    assert after == before
