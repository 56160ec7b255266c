"""Only the region that matters: the part, not the background."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto

from edge_ad.algebra.crop import crop
from edge_ad.algebra.editor import GraphEditor, attribute
from edge_ad.algebra.windows import Span
from edge_ad.backends.onnxruntime import OUTPUTS

__all__ = ["keep_region"]

Mask = npt.NDArray[np.bool_]

MAP, SCORE = OUTPUTS


def keep_region(model: ModelProto, region: Mask, floor: float) -> bool:
    """Look for anomalies in a region of the map alone, and compute no more than that takes.

    requires  a score that is the maximum of the map, or of cells that the map is made of by two constant matrices
    ensures   a map that is the same inside the region and `floor` outside; as score the highest value inside (of cells:
              of those that make more of the inside than of the outside); what only the rest of the frame needed is not
              computed

    Args:
        model: A float32 graph; changed in place.
        region: (h, w) as the map is, with one pixel or more that is looked at.
        floor: What the map says of the rest; below every threshold.

    Returns:
        Whether the score is of that kind; if not, nothing was changed.
    """
    editor = GraphEditor(model)
    of_map, of_score = editor.producer(MAP), editor.producer(SCORE, "ReduceMax")
    if of_map is None or of_score is None or attribute(of_score, "keepdims", 1):
        return False
    scored = of_score.input[0]
    cells = None if scored == MAP else _cells_of(editor, of_map, scored, region)
    if scored != MAP and cells is None:
        return False
    attributes = {one.name: attribute(of_map, one.name, None) for one in of_map.attribute}
    everywhere = editor.add(of_map.op_type, list(of_map.input), f"{MAP}_everywhere", **attributes)
    inside = _inside(editor, everywhere, region, floor)
    (top, bottom), (left, right) = _box(region)
    height, width = region.shape
    pads = editor.add_constant(f"{MAP}_pads", [0, top, left, 0, height - bottom, width - right], np.int64)
    editor.replace(MAP, "Pad", [inside, pads, editor.add_constant(f"{MAP}_floor", floor)], name=f"{MAP}_padded")
    highest_of = inside if cells is None else _inside(editor, scored, cells, floor)
    editor.replace(SCORE, "ReduceMax", [highest_of, *of_score.input[1:]], keepdims=0)
    editor.finish()
    crop(model)
    return True


def _cells_of(editor: GraphEditor, of_map: NodeProto, scored: str, region: Mask) -> Mask | None:
    """Which cells make more of the region than of the rest; None where the map is not rows @ cells @ columns."""
    by_row = editor.producer(of_map.input[0], "MatMul") if of_map.op_type == "MatMul" else None
    if by_row is None or by_row.input[1] != scored:
        return None
    rows, columns = editor.constant(by_row.input[0]), editor.constant(of_map.input[1])
    if rows is None or columns is None:
        return None
    rows, columns = np.abs(rows), np.abs(columns)
    share = rows.T @ region @ columns.T / (rows.T @ np.ones(region.shape) @ columns.T)
    return np.asarray(share >= min(0.5, share.max()))


def _inside(editor: GraphEditor, tensor: str, region: Mask, floor: float) -> str:
    """The box around the region, `floor` outside of the region: by factors of 1 and 0, which are exact."""
    (top, bottom), (left, right) = _box(region)
    corners = {"starts": [top, left], "ends": [bottom, right], "axes": [1, 2]}
    constants = [editor.add_constant(f"{tensor}_{name}", values, np.int64) for name, values in corners.items()]
    box = editor.add("Slice", [tensor, *constants], f"{tensor}_box")
    looked_at = region[top:bottom, left:right]
    if looked_at.all():
        return box
    kept = editor.add("Mul", [box, editor.add_constant(f"{tensor}_region", looked_at)], f"{tensor}_kept")
    rest = editor.add_constant(f"{tensor}_rest", np.where(looked_at, 0.0, floor))
    return editor.add("Add", [kept, rest], f"{tensor}_inside")


def _box(region: Mask) -> tuple[Span, Span]:
    """First and one past the last row and column."""

    def span(across: int) -> Span:
        indices = np.flatnonzero(np.any(region, axis=across))
        return int(indices[0]), int(indices[-1]) + 1

    return span(1), span(0)
