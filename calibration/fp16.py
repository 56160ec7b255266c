"""FP16 with known ranges: half precision where real images show that it holds, float32 where not, by name.

requires  a float32 graph, and observations of every float tensor of its trunk
ensures   a node of the trunk computes in float16 unless what it reads or writes comes within a factor of two of
          float16's largest value, or the budget needs it in float32; everything before the first and after the last
          convolution (resize, normalisation, differences, quantile scaling, maximum) stays float32
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, numpy_helper

from calibration.half import FP16_MAX, halve, round_like_half
from calibration.observe import Observation
from calibration.search import Journal, SearchResult, fewest_left_out
from calibration.trunk import float_tensors, trunk_of

__all__ = ["HEADROOM", "HalfGraph", "fp16_from_fp32", "half_safe", "trunk_tensors"]

HEADROOM = 2.0  # a later image's activations may be so much larger than any that was observed


@dataclass(frozen=True, kw_only=True)
class HalfGraph:
    """An FP16 graph and how it came about.

    Attributes:
        overflowing: By node of the trunk that stays float32: the largest magnitude it reads or writes.
        search: Which convolutions stay float32 because the budget needs it.
    """

    content: bytes
    overflowing: dict[str, float]
    search: SearchResult


def trunk_tensors(model: ModelProto) -> list[str]:
    """Float tensors that the trunk reads or writes, constants aside."""
    trunk, floats = trunk_of(model.graph), float_tensors(model.graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    names = [name for node in model.graph.node if node.name in trunk for name in (*node.input, *node.output)]
    return [name for name in dict.fromkeys(names) if name in floats and name not in constants]


def half_safe(model: ModelProto, observations: Mapping[str, Observation]) -> tuple[set[str], dict[str, float]]:
    """Nodes of the trunk that float16 can hold, and the magnitudes of those that it cannot."""
    trunk = trunk_of(model.graph)
    largest = {name: seen.magnitude for name, seen in observations.items()}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size:
            largest[tensor.name] = float(np.abs(values).max()) / HEADROOM  # constants need no headroom
    safe, overflowing = set(), {}
    for node in model.graph.node:
        if node.name in trunk:
            magnitude = max(largest.get(name, 0.0) for name in (*node.input, *node.output))
            if magnitude * HEADROOM <= FP16_MAX:
                safe.add(node.name)
            else:
                overflowing[node.name] = magnitude
    return safe, overflowing


def fp16_from_fp32(model: ModelProto, observations: Mapping[str, Observation], journal: Journal) -> HalfGraph:
    """The same graph with its trunk in float16, where that holds.

    Args:
        model: From load_named.
        observations: Of trunk_tensors(model).

    Raises:
        CalibrationError: The graph ends in its trunk.
    """
    safe, overflowing = half_safe(model, observations)
    layers = [node.name for node in model.graph.node if node.op_type == "Conv" and node.name in safe]

    def judged(left_out: tuple[str, ...]) -> bytes:
        content: bytes = round_like_half(model, safe - set(left_out)).SerializeToString()
        return content

    search = fewest_left_out(layers, judged, journal, "fp16")
    content: bytes = halve(model, safe - set(search.left_out)).SerializeToString()
    return HalfGraph(content=content, overflowing=overflowing, search=search)
