"""Where a feature map comes from, as far back as all that happened to it is upsampling, averaging and stacking.

Bilinear upsampling, averaging over neighbours and their borders are separable linear maps of every channel by itself:
rows @ x @ columns.T. They commute with what mixes channels at one place, and it is cheaper to mix where maps are small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from edge_ad.algebra.editor import Array, GraphEditor, attribute

__all__ = ["Source", "mean_matrix", "sources_of", "upsampling_matrix"]

FAITHFUL = (b"half_pixel", b"pytorch_half_pixel", b"align_corners")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Some channels of a map of H x W cells: rows @ tensor @ columns.T.

    Attributes:
        tensor: (N, channels, h, w).
        maps: rows (H, h) and columns (W, w), float64; None where the tensor itself is those channels.
    """

    tensor: str
    channels: int
    maps: tuple[Array, Array] | None


def sources_of(editor: GraphEditor, tensor: str) -> list[Source]:
    """The sources of (N, C, H, W), in the order of its channels."""
    node = editor.producer(tensor)
    if node is not None and node.op_type == "Concat" and attribute(node, "axis", 0) == 1:
        return [source for name in node.input for source in sources_of(editor, name)]
    matrices = _matrices(editor, node) if node is not None else None
    if node is not None and matrices is not None:
        inner = sources_of(editor, node.input[0])
        if not all(editor.shape(one.tensor)[2:] == editor.shape(tensor)[2:] for one in inner):
            return [_mapped(one, *matrices) for one in inner]
    return [Source(tensor=tensor, channels=editor.shape(tensor)[1], maps=None)]


def _mapped(source: Source, rows: Array, columns: Array) -> Source:
    if source.maps is not None:
        rows, columns = rows @ source.maps[0], columns @ source.maps[1]
    return Source(tensor=source.tensor, channels=source.channels, maps=(rows, columns))


def _matrices(editor: GraphEditor, node: NodeProto) -> tuple[Array, Array] | None:
    """Rows and columns of a node that is a separable linear map."""
    before, after = editor.shape(node.input[0]), editor.shape(node.output[0])
    if len(before) != 4 or len(after) != 4 or before[1] != after[1] or 0 in (*before[1:], *after[1:]):
        return None
    if node.op_type == "Resize" and _is_faithful(editor, node, before, after):
        corners = attribute(node, "coordinate_transformation_mode", b"half_pixel") == b"align_corners"
        of_height, of_width = (
            upsampling_matrix(source, target, align_corners=corners)
            for source, target in zip(before[2:], after[2:], strict=True)
        )
        return of_height, of_width
    if node.op_type == "AveragePool" and before == after and not attribute(node, "ceil_mode", 0):
        plain = (attribute(node, name, [1, 1]) == [1, 1] for name in ("strides", "dilations"))
        kernel, pads = attribute(node, "kernel_shape", ()), attribute(node, "pads", [0, 0, 0, 0])
        if all(plain) and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET":
            zeros = bool(attribute(node, "count_include_pad", 0))
            of_height, of_width = (
                mean_matrix(size, side, above, zeros=zeros)
                for size, side, above in zip(before[2:], kernel, pads[:2], strict=True)
            )
            return of_height, of_width
    return None


def _is_faithful(editor: GraphEditor, node: NodeProto, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether upsampling_matrix says what this Resize does."""
    if attribute(node, "mode", b"nearest") != b"linear" or attribute(node, "antialias", 0):
        return False
    if attribute(node, "coordinate_transformation_mode", b"half_pixel") not in FAITHFUL or min(after[2:]) < 2:
        return False
    if attribute(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch":
        return False
    if len(node.input) == 4:
        return True
    scales, axes = editor.constant(node.input[2]), list(attribute(node, "axes", range(4)))
    sizes = (np.maximum(size, 1)[axes] for size in (before, after))  # a batch of 0 is any
    return scales is not None and np.array_equal(scales * next(sizes), next(sizes))


def upsampling_matrix(source: int, target: int, *, align_corners: bool) -> Array:
    """Bilinear interpolation along one axis without antialiasing, (target, source), as ONNX's Resize does it."""
    cells = np.arange(target)
    if align_corners:
        places = cells * (source - 1) / (target - 1)
    else:
        places = np.clip((cells + 0.5) * source / target - 0.5, 0, source - 1)
    matrix = np.zeros((target, source))
    below = np.minimum(places.astype(int), source - 1)
    np.add.at(matrix, (cells, below), 1 - (places - below))
    np.add.at(matrix, (cells, np.minimum(below + 1, source - 1)), places - below)
    return matrix


def mean_matrix(size: int, side: int, above: int, *, zeros: bool) -> Array:
    """Mean over `side` neighbours along one axis, (size, size), the first of them `above` cells before.

    Beyond the border lie `zeros`, which count, or nothing.
    """
    offsets = np.arange(size)[None, :] - np.arange(size)[:, None] + above
    inside = ((offsets >= 0) & (offsets < side)).astype(np.float64)
    return inside / (side if zeros else inside.sum(axis=1, keepdims=True))
