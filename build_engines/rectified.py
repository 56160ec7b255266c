"""Quantise after ReLU, not before and after it: what TensorRT fuses into one kernel.

ONNX Runtime turns a convolution into integers only where Q/DQ stands right behind it, so bundles have it there. Between
a convolution and its ReLU it keeps TensorRT from fusing the two. Where the same Q/DQ follows the ReLU anyway, the
first does nothing: rounding and cutting off below zero commute.

requires  Conv -> QuantizeLinear -> DequantizeLinear -> Relu, and behind the Relu nothing but QuantizeLinear of the
          same scale; zero points of zero
ensures   Conv -> Relu -> QuantizeLinear, the same answer to the bit; nothing else changes
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from build_engines.graph import model_from

__all__ = ["quantised_after_relu"]


def quantised_after_relu(content: bytes) -> bytes:
    """The graph without the pairs that change nothing; a graph without pairs needs no onnx to be installed.

    Raises:
        MissingDependency, EngineBuildFailed: onnx is not installed; the graph is damaged.
    """
    if b"QuantizeLinear" not in content:
        return content
    model = model_from(content, "Compiling a quantised graph")
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    kept_outputs = {output.name for output in graph.output}

    def scale_of(node: Any) -> Any:
        """Of a pair with a zero point of zero, else None."""
        is_known = len(node.input) == 3 and {node.input[1], node.input[2]} <= set(constants)
        return constants[node.input[1]] if is_known and not constants[node.input[2]].any() else None

    dropped = []
    for relu in (node for node in graph.node if node.op_type == "Relu"):
        dequantise = makers.get(relu.input[0])
        if dequantise is None or dequantise.op_type != "DequantizeLinear":
            continue
        quantise = makers.get(dequantise.input[0])
        if quantise is None or quantise.op_type != "QuantizeLinear":
            continue
        before, after = quantise.input[0], readers[relu.output[0]]
        is_pair_alone = len(readers[dequantise.output[0]]) == len(readers[quantise.output[0]]) == 1
        is_of_conv = before in makers and makers[before].op_type == "Conv"
        scale = scale_of(quantise)
        same = scale is not None and all(
            node.op_type == "QuantizeLinear" and scale_of(node) is not None and (scale_of(node) == scale).all()
            for node in after
        )
        if is_pair_alone and is_of_conv and after and same and relu.output[0] not in kept_outputs:
            relu.input[0] = before
            dropped += [quantise, dequantise]
    if not dropped:
        return content
    gone = {node.output[0] for node in dropped}
    nodes = [node for node in graph.node if node.output[0] not in gone]
    del graph.node[:]
    graph.node.extend(nodes)
    result: bytes = model.SerializeToString()
    return result
