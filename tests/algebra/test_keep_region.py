"""A region that is looked at: inside nothing changes, outside nothing counts, and less is computed."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from edge_ad.algebra import total_macs
from edge_ad.algebra.keep_region import keep_region
from edge_ad.methods.linear_maps import blur_matrix, resize_matrix
from tests.algebra.graphs import answers, graph, node, noise

FLOOR = -50.0
ROWS, COLUMNS = resize_matrix(12, 24).astype("f4"), resize_matrix(14, 28).T.astype("f4")
BLURRED = (blur_matrix(24, 1.0) @ resize_matrix(12, 24)).astype("f4")
CONSTANTS = {
    "u": noise(6, 3, 3, 3),
    "v": noise(5, 6, 3, 3),
    "one": np.array([1], "i8"),
    "both": np.array([1, 2], "i8"),
    "rows": ROWS,
    "blurred": BLURRED,
    "columns": COLUMNS,
}


def network(*, pads: int = 0, rows: str = "rows", scored: str = "anomaly_map") -> ModelProto:
    """Convolutions, a distance, the map by two matrices, and the maximum of the map or of its cells."""
    nodes = [
        node("Conv", ["image", "u"], ["a"], pads=[pads] * 4),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "v"], ["c"], pads=[pads] * 4),
        node("Mul", ["c", "c"], ["d"]),
        node("ReduceMean", ["d", "one"], ["cells"], keepdims=0),
        node("MatMul", [rows, "cells"], ["by_row"]),
        node("MatMul", ["by_row", "columns"], ["anomaly_map"]),
        node("ReduceMax", [scored, "both"], ["score"], keepdims=0),
    ]
    less = 2 * (2 - 2 * pads)
    return graph(nodes, CONSTANTS, ("anomaly_map", "score"), image=(3, 12 + less, 14 + less))


def disc(row: int, column: int, radius: int) -> np.ndarray:
    y, x = np.ogrid[:24, :28]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


REGIONS = {
    "a disc": disc(12, 14, 6),
    "at the edge": disc(2, 25, 7),
    "one pixel": disc(9, 9, 0),
    "two parts": disc(5, 5, 2) | disc(19, 22, 3),
    "a box": np.pad(np.ones((6, 8), bool), ((3, 15), (4, 16))),
}


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("pads", [0, 1])
def test_the_map_is_the_same_inside_and_the_score_its_maximum(name: str, pads: int) -> None:
    region = REGIONS[name]
    before, after = network(pads=pads), network(pads=pads)
    assert keep_region(after, region, FLOOR)
    (whole, _), (kept, score) = answers(before, 4), answers(after, 4)
    assert kept.shape == whole.shape
    np.testing.assert_allclose(kept[:, region], whole[:, region], rtol=1e-5, atol=1e-6)
    assert (kept[:, ~region] == FLOOR).all()
    np.testing.assert_allclose(score, whole[:, region].max(axis=1), rtol=1e-5)
    assert total_macs(after) < total_macs(before)


def test_of_cells_those_count_that_make_more_of_the_inside() -> None:
    """A cell is 2 x 2 pixels, so the rows 6 to 11 and columns 8 to 17 are the cells 3 to 5 and 4 to 8."""
    region = np.zeros((24, 28), bool)
    region[6:12, 8:18] = True
    before, after = (network(rows="blurred", scored="cells") for _ in "12")
    shown = network(rows="blurred", scored="cells")
    shown.graph.output.add().name = "cells"
    assert keep_region(after, region, FLOOR)
    (whole, _, cells), (kept, score) = answers(shown, 3), answers(after, 3)
    np.testing.assert_allclose(kept[:, region], whole[:, region], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(score, cells[:, 3:6, 4:9].max(axis=(1, 2)), rtol=1e-5)
    assert total_macs(after) < total_macs(before)


def test_less_is_computed_by_as_much_as_the_receptive_field_allows() -> None:
    """Rows 6 to 11 of the map read the cells 2 to 6 of 12; those, 7 rows of the first convolution of 14."""
    region = np.zeros((24, 28), bool)
    region[6:12] = True
    model = network()
    before = total_macs(model)
    assert keep_region(model, region, FLOOR)
    whole = 14 * 16 * 6 * 27 + 12 * 14 * 5 * 54 + 24 * 12 * 14 + 24 * 14 * 28
    part = 7 * 16 * 6 * 27 + 5 * 14 * 5 * 54 + 6 * 5 * 14 + 6 * 14 * 28
    assert (before, total_macs(model)) == (whole, part)


@pytest.mark.parametrize(("operator", "scored"), [("ReduceMax", "by_row"), ("ReduceMean", "anomaly_map")])
def test_a_score_of_another_kind_is_refused_and_nothing_changed(operator: str, scored: str) -> None:
    """Of something that the map is not made of as it is of cells, or not a maximum."""
    model = network(scored=scored)
    model.graph.node[-1].op_type = operator
    untouched = model.SerializeToString()
    assert not keep_region(model, REGIONS["a disc"], FLOOR)
    assert model.SerializeToString() == untouched
