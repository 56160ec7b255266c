"""Half precision where it is cheap and safe: the convolutions and what lies between them.

requires  a float32 ONNX graph of standard operators, nodes in topological order
ensures   a node computes in float16 if it is a Conv, or lies on a path from one Conv to another;
          everything before the first and after the last Conv (resize, normalisation, differences, quantile scaling,
          maximum) stays float32, with a Cast at each border; inputs and outputs keep their types
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edge_ad.errors import CalibrationError

__all__ = ["fp16_from_fp32", "trunk_of"]

FP16_MAX = 65504.0
_FLOAT32_INPUTS = {"Resize": {1, 2, 3}}  # ONNX asks for float32 scales, int64 sizes


def trunk_of(graph: GraphProto) -> set[str]:
    """Names of the nodes that are a Conv or lie between two."""
    after = _reached(graph.node, lambda node: node.input, lambda node: node.output)
    before = _reached(reversed(graph.node), lambda node: node.output, lambda node: node.input)
    return {node.name for node in graph.node if node.op_type == "Conv" or node.name in after & before}


def _reached(nodes, entries, exits) -> set[str]:  # type: ignore[no-untyped-def]
    """Nodes with a Conv upstream, when nodes come in the order of the flow and entries are their inputs."""
    wet: set[str] = set()
    reached = set()
    for node in nodes:
        if any(name in wet for name in entries(node)):
            reached.add(node.name)
        if node.op_type == "Conv" or node.name in reached:
            wet.update(name for name in exits(node) if name)
    return reached


def fp16_from_fp32(content: bytes) -> bytes:
    """The same graph with its trunk in float16.

    Raises:
        CalibrationError: A weight of the trunk does not fit into float16.
    """
    model = onnx.shape_inference.infer_shapes(_named(onnx.load_model_from_string(content)), strict_mode=True)
    graph = model.graph
    trunk = trunk_of(graph)
    floats = _float_tensors(graph)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    halved: dict[str, TensorProto] = {}
    made_half = {name for node in graph.node if node.name in trunk for name in node.output if name in floats}
    nodes: list[NodeProto] = []
    casts: set[str] = set()
    for node in graph.node:
        wanted = TensorProto.FLOAT16 if node.name in trunk else TensorProto.FLOAT
        for index, name in enumerate(node.input):
            if name not in floats or index in _FLOAT32_INPUTS.get(node.op_type, ()):
                continue
            if name in weights and wanted == TensorProto.FLOAT16:
                halved[name] = _half(weights[name])
                node.input[index] = halved[name].name
            elif (name in made_half) != (wanted == TensorProto.FLOAT16):
                node.input[index] = _cast(name, wanted, nodes, casts)
        nodes.append(node)
    for output in graph.output:
        if output.name in made_half:
            raise CalibrationError("The graph ends in a convolution: it has no score tail.", got=output.name)
    _replace_nodes(graph, nodes, halved.values())
    onnx.checker.check_model(model, full_check=True)
    result: bytes = model.SerializeToString()
    return result


def _named(model: ModelProto) -> ModelProto:
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return model


def _float_tensors(graph: GraphProto) -> set[str]:
    values = [*graph.value_info, *graph.input, *graph.output]
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return floats | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


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


def _replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto], added: Iterable[TensorProto]) -> None:
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(added)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
