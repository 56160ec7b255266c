"""One convolution as two of fewer channels: budgeted passes, which measure what they may drop.

The responses of a convolution lie near a subspace of few dimensions, also where its weights do not (Zhang et al.,
"Accelerating Very Deep Convolutional Networks for Classification and Detection", TPAMI 2016, sec. 3.1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from edge_ad.algebra.channels import project_channels
from edge_ad.algebra.convolution import Convolution, add_convolution, convolution_of, put_convolution
from edge_ad.algebra.editor import Array, GraphEditor
from edge_ad.algebra.responses import responses
from edge_ad.errors import CalibrationError
from edge_ad.frame import Image

__all__ = ["Subspace", "find_subspaces", "find_upsampled_subspaces", "lower_ranks", "lower_upsampled_ranks"]

BLOCK = 16  # channels that kernels compute together
WIDEST = 1024  # outputs; upsampled taps have more, and are seen together with what they add up to
WORTH = 0.9  # of the multiply-accumulates: two convolutions that save less than a tenth gain nothing


@dataclass(frozen=True, kw_only=True)
class Subspace:
    """Where the responses of a convolution lie: y is about mean + A @ A.T @ (y - mean), A the first axes.

    Attributes:
        mean: (C,) of the responses, float64.
        axes: (C, C) orthonormal, of most variance first.
        missed: (C + 1,) share of the variance that lies outside the first 0, 1, ... C axes.
    """

    mean: Array
    axes: Array
    missed: Array

    def rank_within(self, missed: float) -> int:
        """The fewest axes, in whole blocks, that miss no larger share."""
        needed = int(np.argmax(self.missed <= missed))
        return max(BLOCK, -(-needed // BLOCK) * BLOCK)


def find_subspaces(model: ModelProto, frames: Sequence[Image]) -> dict[str, Subspace]:
    """Of every dense convolution for which a low rank might pay, by the node's name.

    Args:
        model: A float32 graph after `optimise`.
        frames: Normal ones and the same with synthetic defects, (height, width, 3) uint8 of the camera's size.

    Raises:
        CalibrationError: No frames.
    """
    editor = GraphEditor(model)
    return _subspaces(editor, frames, {one.output: one.name for one in _dense(editor) if _saved(one, BLOCK)})


def find_upsampled_subspaces(model: ModelProto, frames: Sequence[Image]) -> dict[str, Subspace]:
    """As find_subspaces, of every convolution whose taps are upsampled, by the name of their sum."""
    editor = GraphEditor(model)
    return _subspaces(editor, frames, {node.output[0]: node.name for node in _upsampled(editor)})


def lower_ranks(model: ModelProto, subspaces: Mapping[str, Subspace], missed: float) -> dict[str, int]:
    """Compute responses by way of the few axes they lie near.

    With y = W * x + b and A of r axes, turned within their span so that all r channels vary alike (which eight bits
    want): first A.T @ W * x + A.T @ (b - mean), which has r outputs, then A @ that + mean, which is 1 x 1. With all
    axes it is exact.

    requires  dense Convs with constant weights; `subspaces` by the node's name, from find_subspaces of this graph
    ensures   of each the smallest rank, in blocks of 16, that misses no larger share of the variance than `missed`,
              where that saves a tenth of its multiply-accumulates. How far maps and scores move has to be measured

    Returns:
        The rank by the name of each convolution that was changed.
    """
    editor = GraphEditor(model)
    ranks = {}
    for convolution in _dense(editor):
        subspace = subspaces.get(convolution.name)
        if subspace is None or len(subspace.mean) != len(convolution.bias):
            continue
        rank = subspace.rank_within(missed)
        if _saved(convolution, rank):
            _factorise(editor, convolution, subspace, rank)
            ranks[convolution.name] = rank
    if ranks:
        editor.finish()
    return ranks


def lower_upsampled_ranks(model: ModelProto, subspaces: Mapping[str, Subspace], missed: float) -> dict[str, int]:
    """The same for convolutions whose taps are upsampled: what convolve_before_upsampling left.

    Upsampling and shifts treat all channels alike, so A.T goes through them to the taps' weights; A @ that + mean is a
    1 x 1 convolution of the whole map.

    requires  such sums of products; `subspaces` by the node's name, from find_subspaces of this graph
    ensures   of each the smallest rank, in blocks of 16, that misses no larger share of the variance than `missed`,
              where that is at most half of its channels. How far maps and scores move has to be measured

    Returns:
        The rank by the name of each sum that was changed.
    """
    editor = GraphEditor(model)
    ranks = {}
    for node in _upsampled(editor):
        subspace, result = subspaces.get(node.name), node.output[0]
        if subspace is None or len(subspace.mean) != editor.shape(result)[1]:
            continue
        rank = subspace.rank_within(missed)
        if 2 * rank > len(subspace.mean):
            continue
        axes = _turned(subspace, rank)
        on_axes = project_channels(editor, result, 1, axes)
        if on_axes is not None:
            mean = subspace.mean - axes @ (axes.T @ subspace.mean)
            put_convolution(editor, result, _pointwise(node.name, on_axes, result, axes, mean))
            ranks[node.name] = rank
    if ranks:
        editor.finish()
    return ranks


class _Moments:
    """Mean and covariance of vectors that come in batches."""

    def __init__(self, channels: int) -> None:
        self.count, self.sum, self.products = 0, np.zeros(channels), np.zeros((channels, channels))
        self.origin: Array | None = None

    def add(self, vectors: Array) -> None:
        """(channels, count) float32."""
        if self.origin is None:  # near the mean: else the difference of large products would be their rounding
            self.origin = vectors.mean(axis=1, keepdims=True)
        vectors = vectors - self.origin
        self.count += vectors.shape[1]
        self.sum += vectors.sum(axis=1, dtype=np.float64)
        self.products += vectors @ vectors.T

    def subspace(self) -> Subspace:
        shift = self.sum / self.count
        mean = shift if self.origin is None else shift + self.origin[:, 0]
        variances, axes = np.linalg.eigh(self.products / self.count - np.outer(shift, shift))
        variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
        kept = np.concatenate([[0.0], np.cumsum(variances)])
        missed = 1 - kept / max(kept[-1], np.finfo(np.float64).tiny)
        missed[-1] = 0.0
        return Subspace(mean=mean, axes=axes, missed=missed)


def _subspaces(editor: GraphEditor, frames: Sequence[Image], names: Mapping[str, str]) -> dict[str, Subspace]:
    """Of these tensors, each under its name."""
    if not frames:
        raise CalibrationError("Nothing to measure responses on.", expected="frames of the camera", got="none")
    if not names:
        return {}
    moments = {name: _Moments(editor.shape(name)[1]) for name in names}
    for of_frame in responses(editor.model, list(names), frames, len(frames), "responses"):
        for of_one, response in zip(moments.values(), of_frame, strict=True):
            of_one.add(response[0].reshape(response.shape[1], -1))
    return {names[name]: of_one.subspace() for name, of_one in moments.items()}


def _dense(editor: GraphEditor) -> list[Convolution]:
    found = (convolution_of(editor, node) for node in editor.nodes("Conv"))
    return [one for one in found if one is not None and one.groups == 1 and len(one.bias) <= WIDEST]


def _saved(convolution: Convolution, rank: int) -> bool:
    outputs, *kernel = convolution.weight.shape
    one_output = int(np.prod(kernel))
    return bool(rank * (one_output + outputs) <= WORTH * outputs * one_output)


def _upsampled(editor: GraphEditor) -> list[NodeProto]:
    """Sums (N, C, H, W) of a bias and a product with a constant, as convolve_before_upsampling makes them."""
    return [
        node
        for node in editor.nodes("Add")
        if len(editor.shape(node.output[0])) == 4
        and (product := editor.producer(node.input[0], "MatMul")) is not None
        and editor.constant(product.input[1]) is not None
        and (bias := editor.constant(node.input[1])) is not None
        and bias.ndim == 3
    ]


def _factorise(editor: GraphEditor, convolution: Convolution, subspace: Subspace, rank: int) -> None:
    axes = _turned(subspace, rank)
    first = dataclasses.replace(
        convolution,
        weight=np.einsum("cr,cikl->rikl", axes, convolution.weight),
        bias=(convolution.bias - subspace.mean) @ axes,
    )
    source = add_convolution(editor, f"{convolution.name}_axes", first)
    put_convolution(
        editor, convolution.output, _pointwise(convolution.name, source, convolution.output, axes, subspace.mean)
    )


def _turned(subspace: Subspace, rank: int) -> Array:
    """The first axes (C, rank), turned within their span so that all vary alike."""
    turn, _ = np.linalg.qr(np.random.default_rng(rank).standard_normal((rank, rank)))
    axes: Array = subspace.axes[:, :rank] @ turn
    return axes


def _pointwise(name: str, source: str, output: str, axes: Array, bias: Array) -> Convolution:
    """axes @ source + bias."""
    return Convolution(
        name=name,
        source=source,
        output=output,
        weight=axes[:, :, None, None],
        bias=bias,
        strides=(1, 1),
        pads=(0, 0, 0, 0),
        dilations=(1, 1),
        groups=1,
    )
