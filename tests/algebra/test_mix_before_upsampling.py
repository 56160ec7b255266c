"""Products and convolutions at the resolution of what they read."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.algebra import total_macs
from edge_ad.algebra.mix_before_upsampling import convolve_before_upsampling, project_before_upsampling
from tests.algebra.graphs import applied, assert_same_answers, graph, node, noise, operators

SIZES = {"fine": np.array([1, 1, 2, 2], np.float32), "coarse": np.array([1, 1, 4, 4], np.float32)}
CORNERS = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
MEAN = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}

# As SuperSimpleNet makes its features: both layers upscaled, stacked, then averaged with zeros beyond the border.
FEATURES = [
    node("Resize", ["x", "", "fine"], ["ux"], **CORNERS),
    node("Resize", ["z", "", "coarse"], ["uz"], **CORNERS),
    node("Concat", ["ux", "uz"], ["stack"], axis=1),
    node("AveragePool", ["stack"], ["features"], count_include_pad=1, **MEAN),
]
# As SimpleNet does: averaged first, without the border, and the coarse layer upscaled to the fine one.
SIMPLER = [
    node("AveragePool", ["x"], ["mx"], **MEAN),
    node("AveragePool", ["z"], ["mz"], **MEAN),
    node("Resize", ["mz", "", "fine"], ["uz"], mode="linear"),
    node("Concat", ["mx", "uz"], ["features"], axis=1),
]
PRODUCT = [node("Transpose", ["features"], ["cells"], perm=[0, 2, 3, 1]), node("MatMul", ["cells", "m"], ["y"], "head")]
INPUTS = {"x": (20, 8, 10), "z": (40, 4, 5)}
MATRIX = {"m": noise(60, 32)}


def test_a_product_of_upscaled_features() -> None:
    before = graph([*FEATURES, *PRODUCT], SIZES | MATRIX, **INPUTS)
    count, after = applied(project_before_upsampling, before)
    assert count == 1
    assert not {"Resize", "AveragePool"} & set(operators(after)), "what nobody needs is gone"
    by_cell = (20 * 80 + 40 * 20) * 32
    by_row = 16 * (8 * 10 + 4 * 5) * 32
    by_column = 16 * 20 * (10 + 5) * 32
    assert total_macs(after) == by_cell + by_row + by_column < 0.6 * total_macs(before)
    assert_same_answers(before, after)


def test_features_of_full_resolution_are_added() -> None:
    before = graph([*SIMPLER, *PRODUCT], SIZES | {"m": noise(36, 32)}, x=(4, 8, 10), z=(32, 4, 5))
    count, after = applied(project_before_upsampling, before)
    assert (count, operators(after).count("AveragePool"), operators(after).count("Resize")) == (1, 2, 0)
    assert after.graph.node[-1].op_type == "Add"
    assert_same_answers(before, after)


KERNELS = {"square": ((5, 5), [2, 2, 2, 2]), "lopsided": ((3, 2), [2, 0, 1, 1]), "no border": ((3, 3), [0, 0, 0, 0])}


@pytest.mark.parametrize("case", KERNELS)
def test_a_convolution_of_upscaled_features(case: str) -> None:
    kernel, pads = KERNELS[case]
    constants = SIZES | {"k": noise(7, 60, *kernel), "b": noise(7)}
    nodes = [*FEATURES, node("Conv", ["features", "k", "b"], ["y"], "context", pads=pads)]
    before = graph(nodes, constants, **INPUTS)
    count, after = applied(convolve_before_upsampling, before)
    assert count == 1
    assert "Resize" not in operators(after)
    assert total_macs(after) < 0.6 * total_macs(before)
    assert_same_answers(before, after)


def test_a_convolution_and_a_product_of_the_same_features() -> None:
    constants = SIZES | MATRIX | {"k": noise(7, 60, 5, 5), "b": noise(7)}
    nodes = [*FEATURES, node("Conv", ["features", "k", "b"], ["z1"], pads=[2, 2, 2, 2]), *PRODUCT]
    before = graph(nodes, constants, ("y", "z1"), **INPUTS)
    _, between = applied(project_before_upsampling, before)
    count, after = applied(convolve_before_upsampling, between)
    assert (count, operators(after).count("Resize")) == (1, 0)
    assert_same_answers(before, after)


PLAIN = [node("Relu", ["x"], ["features"])]
OTHERWISE = [node("Transpose", ["features"], ["cells"], perm=[0, 3, 2, 1]), PRODUCT[1]]
OTHER_PRODUCTS = {
    "features of one resolution": ([*PLAIN, *PRODUCT], noise(20, 32)),
    "another order of axes": ([*FEATURES, *OTHERWISE], MATRIX["m"]),
}


@pytest.mark.parametrize("case", OTHER_PRODUCTS)
def test_other_products_are_left_alone(case: str) -> None:
    nodes, matrix = OTHER_PRODUCTS[case]
    before = graph(nodes, SIZES | {"m": matrix}, **INPUTS)
    count, after = applied(project_before_upsampling, before)
    assert count == 0
    assert after == before


REFUSED = {
    "strides": {"strides": [2, 2]},
    "dilations": {"dilations": [2, 2]},
    "groups": {"group": 2},
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_convolutions_are_left_alone(case: str) -> None:
    attributes = REFUSED[case]
    inputs = 60 // attributes.get("group", 1)
    nodes = [*FEATURES, node("Conv", ["features", "k"], ["y"], **attributes)]
    before = graph(nodes, SIZES | {"k": noise(8, inputs, 5, 5)}, **INPUTS)
    count, after = applied(convolve_before_upsampling, before)
    assert count == 0
    assert after == before


def test_a_convolution_that_would_cost_as_much_is_left_alone() -> None:
    """As the autoencoder's are: few channels, and twice the resolution."""
    nodes = [node("Resize", ["x", "", "fine"], ["features"], mode="linear"), node("Conv", ["features", "k"], ["y"])]
    before = graph(nodes, SIZES | {"k": noise(4, 4, 4, 4)}, x=(4, 16, 16))
    assert applied(convolve_before_upsampling, before)[0] == 0
