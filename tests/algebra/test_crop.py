"""Rows and columns that a pool drops, and all that they would have needed."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.algebra import total_macs
from edge_ad.algebra.crop import crop
from tests.algebra.graphs import applied, assert_same_answers, graph, node, noise, operators

POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}
CONSTANTS = {"u": noise(5, 3, 4, 4), "v": noise(2, 5, 3, 3), "w": noise(2, 3, 1, 1)}


def chain(pool: str = "AveragePool", **of_second: list[int]) -> list:
    """As a PDN begins: convolution, ReLU, pool, twice."""
    return [
        node("Conv", ["x", "u"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node(pool, ["b"], ["c"], **POOL),
        node("Conv", ["c", "v"], ["d"], **of_second),
        node("Relu", ["d"], ["e"]),
        node(pool, ["e"], ["y"], **POOL),
    ]


@pytest.mark.parametrize("pool", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize("size", [(21, 19), (20, 22), (23, 17)], ids=str)
def test_the_start_is_cropped_and_the_end_is_the_same(pool: str, size: tuple[int, int]) -> None:
    before = graph(chain(pool), CONSTANTS, x=(3, *size))
    count, after = applied(crop, before)
    assert count == 5, "all but the last pool make less"
    assert operators(after) == ["Slice", *operators(before)]
    assert total_macs(after) < total_macs(before)
    assert_same_answers(before, after)


def test_by_hand() -> None:
    """21 rows: 18 after the kernel of 4, 9 after the pool, 7 after the kernel of 3, 3 after the pool. Those read 6, 8,
    16 and 19 rows.
    """
    _, after = applied(crop, graph(chain(), CONSTANTS, x=(3, 21, 21)))
    ends = next(one for one in after.graph.initializer if one.name == after.graph.node[0].input[2])
    assert np.frombuffer(ends.raw_data, np.int64).tolist() == [19, 19]


def test_chains_of_one_image_share_the_slice_and_others_see_it_whole() -> None:
    """As student and teacher do; the third, like the autoencoder, has a border of zeros."""
    nodes = [
        node("Relu", ["x"], ["image"]),
        node("Conv", ["image", "u"], ["a"]),
        node("AveragePool", ["a"], ["y"], **POOL),
        node("Conv", ["image", "u"], ["b"]),
        node("MaxPool", ["b"], ["z"], **POOL),
        node("Conv", ["image", "w"], ["whole"], pads=[1, 1, 1, 1]),
    ]
    before = graph(nodes, CONSTANTS, ("y", "z", "whole"), x=(3, 8, 8))
    count, after = applied(crop, before)
    assert (count, operators(after).count("Slice")) == (2, 1), "two convolutions of one smaller image"
    assert_same_answers(before, after)


REFUSED = {
    "nothing is dropped": (chain(), ("y",), (23, 23)),
    "what is dropped is also returned": (chain(), ("y", "d"), (21, 21)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_left_alone(case: str) -> None:
    nodes, outputs, size = REFUSED[case]
    before = graph(nodes, CONSTANTS, outputs, x=(3, *size))
    count, after = applied(crop, before)
    assert count == 0
    assert after == before
