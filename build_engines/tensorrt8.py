"""What TensorRT 8 must be given instead of the bundle's graph, and told of it, to compute the same.

requires  Reduce nodes whose axes are constants, Split into equal parts, Resize without antialias; int8 weights that
          enter a DequantizeLinear
ensures   a valid graph of opset 17 with the same results: its parser reads axes as attributes alone and would reduce
          over the batch too (NVIDIA/TensorRT issue 3467), and takes quantised weights as float32 through
          QuantizeLinear alone (microsoft/onnxruntime issue 14229); the type of every float layer, since TensorRT 8
          types weakly: where it may use FP16 at all, it would use it for float32 layers too
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build_engines.graph import model_from
from edge_ad.errors import EngineBuildFailed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

__all__ = ["Graph8", "graph_for_tensorrt8", "pin_types", "types_weakly"]

_OPSET, _IR_VERSION = 17, 8
_AXES_WERE_ATTRIBUTES = frozenset(f"Reduce{name}" for name in ("Max", "Min", "Mean", "Prod", "L1", "L2", "SumSquare"))
_QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})


def types_weakly(trt: Any) -> bool:
    """Whether this TensorRT takes a graph's types as advice, so that the builder must be told to obey them."""
    return not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") and hasattr(trt.BuilderFlag, "FP16")


@dataclass(frozen=True, kw_only=True)
class Graph8:
    """A graph for TensorRT 8.

    Attributes:
        types: "fp16" or "fp32" by the name of each node that computes in float and is left to no Q/DQ.
        quantised: Some of it computes in int8.
    """

    content: bytes
    types: Mapping[str, str]
    quantised: bool


def graph_for_tensorrt8(content: bytes, source: str) -> Graph8:
    """The same graph for TensorRT 8.

    Raises:
        MissingDependency: onnx is not installed.
        EngineBuildFailed: The graph has what opset 17 has not, FP8 for one.
    """
    model = model_from(content, "Compiling with TensorRT 8")
    import onnx

    try:
        _name_nodes(model.graph)
        _as_opset_17_has_it(model.graph)
        _weights_as_float(model.graph)
        for opset in model.opset_import:
            opset.version = min(opset.version, _OPSET)
        model.ir_version = min(model.ir_version, _IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
    except Exception as exc:  # protobuf, onnx's checker and its shape inference each have their own
        raise EngineBuildFailed(
            f"{source} cannot be made a graph for TensorRT 8.",
            expected="operators and types that opset 17 has",
            got=exc,
            fix="use TensorRT 10 or newer; fp8 needs it anyway",
        ) from exc
    return Graph8(
        content=model.SerializeToString(),
        types=_types(model),
        quantised=any(node.op_type == "QuantizeLinear" for node in model.graph.node),
    )


def _name_nodes(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        node.name = node.name or f"{node.op_type}_{node.output[0]}"


def _constants(graph: onnx.GraphProto) -> dict[str, npt.NDArray[np.generic]]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _as_opset_17_has_it(graph: onnx.GraphProto) -> None:
    from onnx import helper

    constants = _constants(graph)
    for node in graph.node:
        if node.op_type in _AXES_WERE_ATTRIBUTES:
            _drop_attribute(node, "noop_with_empty_axes")
            if len(node.input) == 2:
                node.attribute.append(helper.make_attribute("axes", constants[node.input[1]].tolist()))
                del node.input[1]
        elif node.op_type == "Split":
            _drop_attribute(node, "num_outputs")  # opset 17 splits into as many equal parts as there are outputs
        elif node.op_type == "Resize":
            _drop_attribute(node, "antialias", 0)
            _drop_attribute(node, "keep_aspect_ratio_policy", b"stretch")


def _drop_attribute(node: onnx.NodeProto, name: str, only: object = None) -> None:
    """Drop what opset 17 has not; where it would matter (`only` is what it does anyway), onnx's checker refuses it."""
    from onnx import helper

    kept = [
        attribute
        for attribute in node.attribute
        if attribute.name != name or only not in (None, helper.get_attribute_value(attribute))
    ]
    del node.attribute[:]
    node.attribute.extend(kept)


def _weights_as_float(graph: onnx.GraphProto) -> None:
    """Every int8 constant that is dequantised becomes the float32 constant that is quantised to it."""
    import numpy as np
    from onnx import helper, numpy_helper

    constants = _constants(graph)
    nodes = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and constants.get(node.input[0], np.empty(0)).dtype == np.int8:
            name = node.input[0]
            (axis,) = [attribute.i for attribute in node.attribute if attribute.name == "axis"] or [0]
            quantised, scale = constants[name], constants[node.input[1]]
            along = [-1 if index == axis else 1 for index in range(quantised.ndim)]
            weights = quantised.astype(scale.dtype) * (scale.reshape(along) if scale.ndim else scale)
            graph.initializer.append(numpy_helper.from_array(weights, f"{name}_float"))
            inputs = [f"{name}_float", *node.input[1:]]
            nodes.append(helper.make_node("QuantizeLinear", inputs, [f"{name}_again"], f"{node.name}_q", axis=axis))
            node.input[0] = f"{name}_again"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _types(model: onnx.ModelProto) -> dict[str, str]:
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*inferred.value_info, *inferred.output]}
    names = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16"}
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {
        node.name: names[kinds[node.output[0]]]
        for node in model.graph.node
        if node.op_type not in _QUANTISING and kinds.get(node.output[0]) in names and dequantised.isdisjoint(node.input)
    }


def pin_types(definition: Any, trt: Any, types: Mapping[str, str]) -> None:
    """Bind every float layer to its type; with OBEY_PRECISION_CONSTRAINTS the builder then keeps to the graph.

    Layers that the parser added have no type of their own and stay in float32. What Q/DQ surrounds is left to them.
    """
    floats = {trt.float32, trt.float16}
    kinds = {"fp32": trt.float32, "fp16": trt.float16}
    layers = [definition.get_layer(index) for index in range(definition.num_layers)]
    dequantised = {layer.get_output(0).name for layer in layers if layer.type == trt.LayerType.DEQUANTIZE}
    for layer in layers:
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        quantising = layer.type in (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE)
        of_q_dq = any(tensor is not None and tensor.name in dequantised for tensor in inputs)
        if quantising or of_q_dq or any(o.is_shape_tensor or o.dtype not in floats for o in outputs):
            continue
        kind = outputs[0].dtype if layer.type == trt.LayerType.CONSTANT else kinds[types.get(layer.name, "fp32")]
        layer.precision = kind
        for index in range(layer.num_outputs):
            layer.set_output_type(index, kind)
