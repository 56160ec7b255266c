"""Upsampling and averaging as matrices, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edge_ad.algebra.editor import GraphEditor
from edge_ad.algebra.separable import sources_of
from tests.algebra.graphs import answers, graph, node, noise

SIZES = {"scales": np.array([1, 1, 2, 3], np.float32), "sizes": np.array([9, 8]), "small": np.array([3, 4])}
LINEAR = {"mode": "linear", "axes": [2, 3]}
NODES = {
    "by scales": node("Resize", ["x", "", "scales"], ["y"], mode="linear"),
    "half pixel": node("Resize", ["x", "", "", "sizes"], ["y"], **LINEAR),
    "torch's": node(
        "Resize", ["x", "", "", "sizes"], ["y"], coordinate_transformation_mode="pytorch_half_pixel", **LINEAR
    ),
    "corners": node("Resize", ["x", "", "", "sizes"], ["y"], coordinate_transformation_mode="align_corners", **LINEAR),
    "shrinking": node("Resize", ["x", "", "", "small"], ["y"], **LINEAR),
    "mean, zeros count": node("AveragePool", ["x"], ["m"], kernel_shape=[3, 5], pads=[1, 2, 1, 2], count_include_pad=1),
    "mean of what is there": node("AveragePool", ["x"], ["m"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "lopsided mean": node("AveragePool", ["x"], ["m"], kernel_shape=[2, 2], pads=[0, 1, 1, 0]),
}
UPSAMPLED = node("Resize", ["m", "", "", "sizes"], ["y"], **LINEAR)


@pytest.mark.parametrize("case", NODES)
def test_rows_and_columns_do_what_the_node_does(case: str) -> None:
    """A mean alone leaves the resolution as it is, and is its own source: it is upsampled after."""
    first = NODES[case]
    if first.output[0] == "y":
        model = graph([first], SIZES, x=(3, 4, 5))
        (y,), inner, name = answers(model, 2), noise(2, 3, 4, 5, seed=2), "x"
    else:
        model = graph([first, UPSAMPLED], SIZES, ("y", "m"), x=(3, 4, 5))
        (y, inner), name = answers(model, 2), "m"
    (source,) = sources_of(GraphEditor(model), "y")
    assert (source.tensor, source.channels) == (name, 3)
    assert source.maps is not None
    rows, columns = source.maps
    np.testing.assert_allclose(rows @ inner @ columns.T, y, atol=1e-6)


@pytest.mark.parametrize("case", ["mean, zeros count", "mean of what is there", "lopsided mean"])
def test_the_mean_of_an_upsampled_map_is_a_matrix_too(case: str) -> None:
    mean = NODES[case]
    nodes = [
        node("Resize", ["x", "", "", "sizes"], ["u"], **LINEAR),
        node("AveragePool", ["u"], ["y"], **{one.name: helper.get_attribute_value(one) for one in mean.attribute}),
    ]
    model = graph(nodes, SIZES, x=(3, 4, 5))
    (source,) = sources_of(GraphEditor(model), "y")
    (y,) = answers(model, 2)
    assert source.tensor == "x" and source.maps is not None
    rows, columns = source.maps
    np.testing.assert_allclose(rows @ noise(2, 3, 4, 5, seed=2) @ columns.T, y, atol=1e-6)


def test_a_stack_has_the_sources_of_all_its_parts() -> None:
    nodes = [
        node("Resize", ["x", "", "", "sizes"], ["u"], **LINEAR),
        node("Relu", ["z"], ["r"]),
        node("Concat", ["r", "u"], ["y"], axis=1),
    ]
    model = graph(nodes, SIZES, x=(3, 4, 5), z=(2, 9, 8))
    sources = sources_of(GraphEditor(model), "y")
    assert [(one.tensor, one.channels, one.maps is None) for one in sources] == [("r", 2, True), ("x", 3, False)]


FOREIGN = {
    "nearest": node("Resize", ["x", "", "", "sizes"], ["y"], mode="nearest", axes=[2, 3]),
    "cubic": node("Resize", ["x", "", "", "sizes"], ["y"], mode="cubic", axes=[2, 3]),
    "antialiased": node("Resize", ["x", "", "", "small"], ["y"], antialias=1, **LINEAR),
    "in proportion": node("Resize", ["x", "", "", "sizes"], ["y"], keep_aspect_ratio_policy="not_larger", **LINEAR),
    "scales that are rounded": node("Resize", ["x", "", "odd"], ["y"], mode="linear"),
    "pool": node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    "maximum": node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_such_map_is_its_own_source(case: str) -> None:
    model = graph([FOREIGN[case]], SIZES | {"odd": np.array([1, 1, 1.3, 1.3], np.float32)}, x=(3, 4, 5))
    assert [(one.tensor, one.maps) for one in sources_of(GraphEditor(model), "y")] == [("y", None)]
