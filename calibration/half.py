"""Nodes in float16: for a GPU to run, and as a CPU must emulate it to judge it.

A CPU runtime computes float16 graphs in float32 and rounds only the weights, so a score that half precision would
spoil, or a sum that would overflow, looks well there. The emulation rounds every intermediate result too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.trunk import float_tensors
from edge_ad.errors import CalibrationError

__all__ = ["FP16_MAX", "halve", "round_like_half"]

FP16_MAX = 65504.0
_FLOAT32_INPUTS = {"Resize": {1, 2, 3}}  # ONNX asks for float32 scales, int64 sizes
_SPLITTER = 2.0**13 + 1  # float32 has 13 bits more than float16


def halve(model: ModelProto, nodes: Collection[str]) -> ModelProto:
    """A copy in which the named nodes compute in float16, with a Cast wherever they meet the others.

    Args:
        model: From load_named.

    Raises:
        CalibrationError: A weight does not fit into float16, or one of the nodes makes an output of the graph.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    floats, weights = float_tensors(graph), {tensor.name: tensor for tensor in graph.initializer}
    halved: dict[str, TensorProto] = {}
    made_half = {name for node in graph.node if node.name in nodes for name in node.output if name in floats}
    ordered: list[NodeProto] = []
    casts: set[str] = set()
    for node in graph.node:
        half = node.name in nodes
        for index, name in _float_inputs(node, floats):
            if name in weights and half:
                halved[name] = _half(weights[name])
                node.input[index] = halved[name].name
            elif (name in made_half) != half:
                node.input[index] = _cast(name, TensorProto.FLOAT16 if half else TensorProto.FLOAT, ordered, casts)
        ordered.append(node)
    for output in graph.output:
        if output.name in made_half:
            raise CalibrationError("The graph ends in a convolution: it has no score tail.", got=output.name)
    _replace_nodes(graph, ordered, halved.values())
    onnx.checker.check_model(result, full_check=True)
    return result


def round_like_half(model: ModelProto, nodes: Collection[str]) -> ModelProto:
    """A float32 copy in which the named nodes read and write only what float16 can hold.

    Rounding is Veltkamp's: with c = (2^13 + 1) x in float32, c - (c - x) is x rounded to 11 bits (Dekker, "A
    floating-point technique for extending the available precision", 1971). It knows no overflow, which ranges must
    exclude, and no subnormals, whose error is below 2^-25.

    Args:
        model: From load_named.

    Raises:
        CalibrationError: A weight does not fit into float16.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    floats, weights = float_tensors(graph), {tensor.name: tensor for tensor in graph.initializer}
    splitter = numpy_helper.from_array(np.array(_SPLITTER, np.float32), "half_precision_splitter")
    halved: dict[str, TensorProto] = {}
    ordered: list[NodeProto] = []
    rounded: set[str] = set()
    for node in graph.node:
        if node.name not in nodes:
            ordered.append(node)
            continue
        for index, name in _float_inputs(node, floats):
            if name in weights:
                values = numpy_helper.to_array(_half(weights[name])).astype(np.float32)
                halved[name] = numpy_helper.from_array(values, f"{name}_rounded")
                node.input[index] = halved[name].name
            else:
                node.input[index] = _rounded(name, splitter.name, ordered, rounded)
        exact = {name: f"{name}_exact" for name in node.output if name in floats}
        node.output[:] = [exact.get(name, name) for name in node.output]
        ordered.append(node)
        for name, before in exact.items():
            ordered += _rounding(before, name, splitter.name)
            rounded.add(name)
    _replace_nodes(graph, ordered, [splitter, *halved.values()])
    return result


def _rounded(name: str, splitter: str, ordered: list[NodeProto], rounded: set[str]) -> str:
    result = f"{name}_rounded"
    if name in rounded:
        return name
    if result not in rounded:
        rounded.add(result)
        ordered += _rounding(name, result, splitter)
    return result


def _rounding(source: str, result: str, splitter: str) -> list[NodeProto]:
    scaled, rest = f"{result}_scaled", f"{result}_rest"
    return [
        helper.make_node("Mul", [source, splitter], [scaled], f"{scaled}_node"),
        helper.make_node("Sub", [scaled, source], [rest], f"{rest}_node"),
        helper.make_node("Sub", [scaled, rest], [result], f"{result}_node"),
    ]


def _float_inputs(node: NodeProto, floats: set[str]) -> list[tuple[int, str]]:
    kept = _FLOAT32_INPUTS.get(node.op_type, set())
    return [(index, name) for index, name in enumerate(node.input) if name in floats and index not in kept]


def _half(weight: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(weight)
    if not (np.abs(values) <= FP16_MAX).all():
        raise CalibrationError(
            f"The weight {weight.name} does not fit into FP16.",
            expected=f"|values| up to {FP16_MAX:g}",
            got=f"{np.abs(values).max():g}",
            fix="deploy fp32 or int8",
        )
    return numpy_helper.from_array(values.astype(np.float16), f"{weight.name}_fp16")


def _cast(name: str, to: int, nodes: list[NodeProto], casts: set[str]) -> str:
    result = f"{name}_{'fp16' if to == TensorProto.FLOAT16 else 'fp32'}"
    if result not in casts:
        casts.add(result)
        nodes.append(helper.make_node("Cast", [name], [result], name=f"cast_{result}", to=to))
    return result


def _replace_nodes(graph: GraphProto, nodes: list[NodeProto], added: Iterable[TensorProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(added)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
