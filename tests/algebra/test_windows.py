"""Every kind of node that a window passes through: a convolution before it shrinks, and no answer changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto

from edge_ad.algebra import total_macs
from edge_ad.algebra.crop import crop
from edge_ad.methods.linear_maps import blur_matrix, resize_matrix
from tests.algebra.graphs import applied, assert_same_answers, graph, node, noise, operators

SIZE = (12, 14)
CONSTANTS = {
    "k": noise(6, 3, 3, 3),
    "one": np.array([1], "i8"),
    "axes": np.array([2, 3], "i8"),
    "from": np.array([3, -11], "i8"),
    "to": np.array([8, 9], "i8"),
    "from_again": np.array([1], "i8"),
    "to_again": np.array([4], "i8"),
    "axis": np.array([2], "i8"),
    "split": np.array([-1, 2, 3, 12, 14], "i8"),
    "six": noise(6, 1, 1),
    "everywhere": noise(12, 14),
    "blur": blur_matrix(14, 0.5).T.astype("f4"),
    "higher": resize_matrix(12, 24).astype("f4"),
    "depth": noise(6, 1, 3, 3),
    "v": noise(4, 6, 3, 3),
    "two": np.array(2.0, "f4"),
}

# What lies between the convolution's (N, 6, 12, 14) and the window that is read, and that window's axes.
BETWEEN: dict[str, list[NodeProto]] = {
    "one input": [node("Relu", ["c"], ["d"])],
    "a channel's constant": [node("Mul", ["c", "six"], ["d"])],
    "a pixel's constant": [node("Sub", ["c", "everywhere"], ["d"])],
    "a scalar": [node("Pow", ["c", "two"], ["d"])],
    "a residual": [node("Relu", ["c"], ["r"]), node("Add", ["r", "c"], ["d"])],
    "channels side by side": [node("Relu", ["c"], ["r"]), node("Concat", ["r", "c"], ["d"], axis=1)],
    "a mean kept": [node("ReduceMean", ["c", "one"], ["d"], keepdims=1)],
    "a mean dropped": [
        node("ReduceMean", ["c", "one"], ["m"], keepdims=0),
        node("Unsqueeze", ["m", "one"], ["d"]),
    ],
    "an axis gone and back": [
        node("ReduceMax", ["c", "one"], ["m"], keepdims=1),
        node("Squeeze", ["m", "one"], ["s"]),
        node("Unsqueeze", ["s", "one"], ["d"]),
    ],
    "channels in groups": [node("Reshape", ["c", "split"], ["g"]), node("ReduceSum", ["g", "one"], ["d"], keepdims=0)],
    "a window of a window": [node("Slice", ["c", "from_again", "to_again", "one"], ["d"])],
    "matrices": [node("MatMul", ["higher", "c"], ["h"]), node("MatMul", ["h", "blur"], ["d"])],
    "a convolution": [node("Conv", ["c", "v"], ["d"])],
    "zeros around": [node("Conv", ["c", "v"], ["d"], pads=[1, 1, 1, 1])],
    "dilation": [node("Conv", ["c", "v"], ["d"], pads=[2, 2, 2, 2], dilations=[2, 2])],
    "depthwise": [node("Conv", ["c", "depth"], ["d"], pads=[1, 1, 1, 1], group=6)],
    "an average of 3": [node("AveragePool", ["c"], ["d"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
    "an average that counts zeros": [
        node("AveragePool", ["c"], ["d"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    ],
    "a maximum of 3": [node("MaxPool", ["c"], ["d"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
}


def windowed(nodes: list[NodeProto], **of_convolution: Any) -> Any:
    first = node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1], **of_convolution)
    last = node("Slice", ["d", "from", "to", "axes"], ["y"])
    return graph([first, *nodes, last], CONSTANTS, x=(3, *SIZE))


@pytest.mark.parametrize("name", BETWEEN)
def test_what_comes_before_shrinks_and_the_answer_does_not_change(name: str) -> None:
    before = windowed(BETWEEN[name])
    count, after = applied(crop, before)
    assert count > 0
    assert total_macs(after) < total_macs(before)
    assert_same_answers(before, after)


def test_strides() -> None:
    """A window of the second convolution's rows 1 to 2 and columns 1 to 3 reads rows 1 to 5 and columns 1 to 7."""
    nodes = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Conv", ["c", "v"], ["d"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Slice", ["d", "first", "end", "axes"], ["y"]),
    ]
    corners = {"first": np.array([1, 1], "i8"), "end": np.array([3, 4], "i8")}
    before = graph(nodes, CONSTANTS | corners, x=(3, *SIZE))
    _, after = applied(crop, before)
    assert total_macs(after) == 5 * 7 * 6 * 27 + 2 * 3 * 4 * 54
    assert_same_answers(before, after)


def test_axes_in_another_order() -> None:
    """Rows and columns 3 to 7 of channels last."""
    nodes = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        node("Slice", ["t", "from", "to", "middle"], ["y"]),
    ]
    before = graph(nodes, CONSTANTS | {"middle": np.array([1, 2], "i8")}, x=(3, *SIZE))
    _, after = applied(crop, before)
    assert total_macs(after) == 5 * 6 * 6 * 27, "rows 3 to 7, columns 3 to 8"
    assert_same_answers(before, after)


def test_columns_that_are_joined_with_channels_stay_whole_and_rows_do_not() -> None:
    nodes = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        node("Reshape", ["t", "shape"], ["d"]),
        node("Slice", ["d", "from_again", "to_again", "one"], ["y"]),
    ]
    before = graph(nodes, CONSTANTS | {"shape": np.array([-1, 12, 14 * 6], "i8")}, x=(3, *SIZE))
    _, after = applied(crop, before)
    assert total_macs(after) == 3 * 14 * 6 * 27
    assert_same_answers(before, after)


def test_two_windows_of_one_tensor_are_made_together() -> None:
    """Rows 1 to 3 and rows 3 to 7: what both need is computed once, and each reads its part."""
    nodes = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("Slice", ["r", "from_again", "to_again", "axis"], ["y"]),
        node("Slice", ["r", "from", "to", "axes"], ["z"]),
    ]
    before = graph(nodes, CONSTANTS, ("y", "z"), x=(3, *SIZE))
    _, after = applied(crop, before)
    assert total_macs(after) == 7 * 14 * 6 * 27
    assert operators(after).count("Conv") == 1
    assert_same_answers(before, after)


def test_what_is_not_known_is_needed_whole() -> None:
    nodes = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Softmax", ["c"], ["d"], axis=3),
        node("Slice", ["d", "from", "to", "axes"], ["y"]),
    ]
    before = graph(nodes, CONSTANTS, x=(3, *SIZE))
    count, after = applied(crop, before)
    assert (count, after) == (0, before)
