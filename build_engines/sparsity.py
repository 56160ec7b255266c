"""Whether a graph's convolutions have the 2:4 pattern that sparse tensor cores use: two zeros in every four weights.

TensorRT's rule (developer guide, "Sparsity"): for each output channel and each place of the kernel, among every four
input channels at least two weights are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from build_engines.graph import model_from
from edge_ad.errors import EngineBuildFailed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Sparsity", "check_sparsity", "sparsity_of"]


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """Convolutions by name: those with the pattern, and those without."""

    sparse: tuple[str, ...]
    dense: tuple[str, ...]


def check_sparsity(content: bytes, source: str) -> Sparsity:
    """What `--sparsity` may gain.

    Raises:
        EngineBuildFailed: No convolution has the pattern, so it would gain nothing.
        MissingDependency: onnx is not installed.
    """
    found = sparsity_of(content)
    if not found.sparse:
        raise EngineBuildFailed(
            f"{source} has no convolution with 2:4 sparse weights.",
            expected="two zeros in every four input channels of a convolution's weights",
            got=f"{len(found.dense)} dense convolutions",
            fix="prune the network 2:4, train it on and export it again, or leave out --sparsity",
        )
    return found


def sparsity_of(content: bytes) -> Sparsity:
    """Look at the weights of every convolution, quantised or not."""
    graph = model_from(content, "Looking for sparse weights").graph
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in graph.initializer}
    through = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    sparse: list[str] = []
    dense: list[str] = []
    for node in graph.node:
        if node.op_type == "Conv":
            tensor = weights.get(through.get(node.input[1], node.input[1]))
            good = tensor is not None and _is_sparse(numpy_helper.to_array(tensor))
            (sparse if good else dense).append(node.name or node.output[0])
    return Sparsity(sparse=tuple(sparse), dense=tuple(dense))


def _is_sparse(weights: npt.NDArray[np.generic]) -> bool:
    """(out, in, ...) with two zeros in every four of `in`."""
    outputs, inputs = weights.shape[:2]
    if inputs % 4:
        return False
    fours = weights.reshape(outputs, inputs // 4, 4, -1)
    return bool(((fours == 0).sum(axis=2) >= 2).all())
