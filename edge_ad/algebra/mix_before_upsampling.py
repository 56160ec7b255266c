"""What mixes channels, moved to where the maps are smallest."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, NodeProto

from edge_ad.algebra.convolution import Convolution, convolution_of
from edge_ad.algebra.editor import Array, GraphEditor, attribute
from edge_ad.algebra.separable import Source, sources_of
from edge_ad.algebra.work import total_macs

__all__ = ["convolve_before_upsampling", "project_before_upsampling"]

WORTH_IT = 0.6  # share of a node's MACs that may remain: those of small matrices take longer
WORTH_A_NODE = 0.01  # share of the graph's MACs that has to be saved


def project_before_upsampling(model: ModelProto) -> int:
    """Multiply every source of stacked, upsampled, averaged features by its part of a matrix, then upsample and add.

    With sources x, y at their own resolution and their maps U, V: [Ux, Vy] @ [A; B] = U(x A) + V(y B). The stack is
    never made, and A and B are applied to the few cells that there are. The maps work row by row and column by column,
    and the columns of all sources are one product, which is also their sum.

    requires  MatMul of (N, H, W, C) with a constant (C, K); before it a Transpose from (N, C, H, W), before that any of
              Concat, bilinear Resize, AveragePool of stride 1, as separable.py reads them
    ensures   the same (N, H, W, K) up to rounding, in at most 0.6 of the MACs; else the graph is left as it is

    Returns:
        How many products were moved.
    """
    editor, total = GraphEditor(model), total_macs(model)
    moved = 0
    for node in editor.nodes("MatMul"):
        transpose = editor.producer(node.input[0], "Transpose")
        matrix = editor.constant(node.input[1])
        if transpose is None or attribute(transpose, "perm", []) != [0, 2, 3, 1] or matrix is None or matrix.ndim != 2:
            continue
        height, width, outputs = editor.shape(node.output[0])[1:]
        sources = sources_of(editor, transpose.input[0])
        before = height * width * matrix.size
        if _pays(before, _macs_of_projection(editor, sources, height, width, outputs), total):
            _project(editor, node, sources, matrix.astype(np.float64))
            moved += 1
    if moved:
        editor.finish()
    return moved


def _pays(before: int, after: int, total: int) -> bool:
    return after <= WORTH_IT * before and before - after >= WORTH_A_NODE * total


def _macs_of_projection(editor: GraphEditor, sources: list[Source], height: int, width: int, outputs: int) -> int:
    macs = 0
    for source in sources:
        h, w = editor.shape(source.tensor)[2:]
        macs += h * w * source.channels * outputs
        macs += 0 if source.maps is None else height * w * (h + width) * outputs
    return macs


def _project(editor: GraphEditor, node: NodeProto, sources: list[Source], matrix: Array) -> None:
    result = node.output[0]
    height, _, outputs = editor.shape(result)[1:]
    terms, to_columns, all_columns = [], [], []
    first = 0
    for source in sources:
        part = editor.add_constant(f"{result}_matrix", matrix[first : first + source.channels])
        first += source.channels
        h, w = editor.shape(source.tensor)[2:]
        cells_last = editor.add("Transpose", [source.tensor], f"{result}_cells", perm=[0, 2, 3, 1])
        projected = editor.add("MatMul", [cells_last, part], f"{result}_part")
        if source.maps is None:
            terms.append(projected)
            continue
        rows, columns = source.maps
        flat = _reshaped(editor, projected, [0, h, w * outputs])
        by_row = editor.add("MatMul", [editor.add_constant(f"{result}_rows", rows), flat], f"{result}_by_row")
        to_columns.append(_reshaped(editor, by_row, [0, height, w, outputs]))
        all_columns.append(columns)
    stacked = _concatenated(editor, to_columns, axis=2)
    across = editor.add_constant(f"{result}_columns", np.concatenate(all_columns, axis=1))
    _summed(editor, result, ("MatMul", [across, stacked]), terms)


def convolve_before_upsampling(model: ModelProto) -> int:
    """Convolve every source of stacked, upsampled, averaged features at its own resolution, tap by tap.

    A convolution of kernel k x k is k^2 products at one place, each of a shifted map: with sources x, their maps
    U x V, and the shifts S_i and T_j by rows and columns, zeros beyond the border, it is the sum over sources and taps
    (i, j) of S_i U (K[i, j] x) V T_j. All K[i, j] x together are one 1 x 1 convolution of x; S_i U and V T_j are
    constants, and a product with all of them side by side is the sum over i, then over j and the sources.

    requires  a dense Conv of stride 1 and dilation 1, before it any of Concat, bilinear Resize, AveragePool of stride
              1, as separable.py reads them, and every source smaller than the map
    ensures   the same output up to rounding, in at most 0.6 of the MACs; else the graph is left as it is. The part
              that mixes channels remains a Conv, the shifts and maps are MatMuls

    Returns:
        How many convolutions were moved.
    """
    editor, total = GraphEditor(model), total_macs(model)
    moved = 0
    for node in editor.nodes("Conv"):
        convolution = convolution_of(editor, node)
        if convolution is None or (convolution.groups, *convolution.strides, *convolution.dilations) != (1, 1, 1, 1, 1):
            continue
        sources = sources_of(editor, convolution.source)
        if any(source.maps is None for source in sources):
            continue
        before = math.prod(editor.shape(convolution.output)[2:]) * convolution.weight.size
        if _pays(before, _macs_of_taps(editor, sources, convolution), total):
            _convolve(editor, convolution, sources)
            moved += 1
    if moved:
        editor.finish()
    return moved


def _macs_of_taps(editor: GraphEditor, sources: list[Source], convolution: Convolution) -> int:
    height, width = editor.shape(convolution.output)[2:]
    outputs, _, down, across = convolution.weight.shape
    macs = 0
    for source in sources:
        h, w = editor.shape(source.tensor)[2:]
        macs += h * w * source.channels * outputs * down * across
        macs += height * outputs * across * w * (down * h + width)
    return macs


def _convolve(editor: GraphEditor, convolution: Convolution, sources: list[Source]) -> None:
    result, name = convolution.output, convolution.name
    height, width = editor.shape(result)[2:]
    outputs, _, down, across = convolution.weight.shape
    above, before = convolution.pads[:2]
    to_columns, all_columns = [], []
    first = 0
    for source in sources:
        assert source.maps is not None
        rows, columns = source.maps
        taps = convolution.weight[:, first : first + source.channels].transpose(0, 3, 2, 1)  # (outputs, j, i, channels)
        first += source.channels
        h, w = editor.shape(source.tensor)[2:]
        kernel = editor.add_constant(f"{name}_taps", taps.reshape(-1, source.channels, 1, 1))
        tapped = editor.add("Conv", [source.tensor, kernel], f"{name}_taps", kernel_shape=[1, 1])
        taps_by_row = _reshaped(editor, tapped, [0, outputs * across, down * h, w])
        of_rows = editor.add_constant(f"{name}_rows", _shifted(rows, height, down, above))
        by_row = editor.add("MatMul", [of_rows, taps_by_row], f"{name}_by_row")
        by_tap = _reshaped(editor, by_row, [0, outputs, across, height, w])
        row_first = editor.add("Transpose", [by_tap], f"{name}_by_place", perm=[0, 1, 3, 2, 4])
        to_columns.append(_reshaped(editor, row_first, [0, outputs, height, across * w]))
        all_columns.append(_shifted(columns, width, across, before))
    stacked = _concatenated(editor, to_columns, axis=3)
    right = editor.add_constant(f"{name}_columns", np.concatenate(all_columns, axis=1).T)
    # One value for a whole row: OpenVINO 2026.4 takes one for each channel for one of the product's columns, and fails.
    bias = editor.add_constant(f"{name}_bias", np.tile(convolution.bias[:, None, None], (1, 1, width)))
    _summed(editor, result, ("MatMul", [stacked, right]), [bias])


def _shifted(matrix: Array, cells: int, taps: int, before: int) -> Array:
    """(cells, taps x source): for every tap, what it sees of a padded map (size, source)."""
    padded = np.pad(matrix, ((before, taps + cells), (0, 0)))
    return np.concatenate([padded[tap : tap + cells] for tap in range(taps)], axis=1)


def _reshaped(editor: GraphEditor, tensor: str, shape: list[int]) -> str:
    return editor.add("Reshape", [tensor, editor.add_constant(f"{tensor}_shape", shape, np.int64)], f"{tensor}_view")


def _concatenated(editor: GraphEditor, tensors: list[str], axis: int) -> str:
    return tensors[0] if len(tensors) == 1 else editor.add("Concat", tensors, f"{tensors[0]}_stacked", axis=axis)


def _summed(editor: GraphEditor, result: str, node: tuple[str, list[str]], terms: list[str]) -> None:
    """`result` becomes what `node` makes, plus the terms."""
    total = None
    for term in terms:
        total = editor.add(*node, f"{result}_term") if total is None else total
        if term is terms[-1]:
            editor.replace(result, "Add", [total, term])
        else:
            total = editor.add("Add", [total, term], f"{result}_sum")
    if not terms:
        editor.replace(result, *node)
