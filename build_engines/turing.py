"""Matrix products as 1x1 convolutions, for the one target whose compiler has no float32 matrix product.

TensorRT-RTX 1.7 refuses MatMul in float32 for SM 7.5 ("FP32 GEMM is not supported"), yet takes the same product as a
convolution. The graph of the bundle stays as it is: only what the compiler is given changes.

requires  a MatMul has one constant operand of two dimensions; the other has two (then it is the left one), three or
          four, the first of them the batch
ensures   such a MatMul is a 1x1 Conv over its contracted axis, in float32; nothing else changes, sums excepted in order
"""

from __future__ import annotations

from typing import Any

from build_engines.graph import model_from
from edge_ad.backends.flavours import Flavour
from edge_ad.manifest import EngineEntry

__all__ = ["convolutions_from_matmuls", "lacks_float32_matmul"]


def lacks_float32_matmul(flavour: Flavour, entry: EngineEntry) -> bool:
    """Whether the compiler of this target refuses MatMul in float32."""
    return flavour.name == "rtx" and entry.target == "sm75"


def convolutions_from_matmuls(content: bytes) -> bytes:
    """The same graph with its constant matrix products as convolutions.

    Raises:
        MissingDependency, EngineBuildFailed: onnx is not installed; the graph is damaged.
    """
    model = model_from(content, "Compiling for sm75")
    from onnx import numpy_helper, shape_inference

    ranks = _ranks(shape_inference.infer_shapes(model))
    constants = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 2}
    nodes = []
    for node in model.graph.node:
        of_constant = [name in constants for name in node.input]
        if node.op_type == "MatMul" and any(of_constant):
            left = of_constant[0]
            matrix = numpy_helper.to_array(constants[node.input[0 if left else 1]])
            image = node.input[1 if left else 0]
            made, added = _convolution(node, image, ranks[image], matrix if left else matrix.T, left)
            nodes += made
            model.graph.initializer.extend(added)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    result: bytes = model.SerializeToString()
    return result


def _ranks(model: Any) -> dict[str, int]:
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values}


def _convolution(node: Any, image: str, rank: int, weight: Any, left: bool) -> tuple[list[Any], list[Any]]:
    """Nodes and constants: contracted axis to the channels, 1x1 Conv by `weight` (out, in), and back."""
    import numpy as np
    from onnx import helper, numpy_helper

    result, contracted = node.output[0], rank - 2 if left else rank - 1
    order = [0, contracted, *(axis for axis in range(1, rank) if axis != contracted)]
    back = [int(axis) for axis in np.argsort(order)]
    kernel, missing = f"{result}_kernel", f"{result}_missing_axes"
    steps: list[tuple[str, list[str], dict[str, Any]]] = [("Transpose", [], {"perm": order})]
    steps += [("Unsqueeze", [missing], {})] if rank < 4 else []
    steps += [("Conv", [kernel], {})]
    steps += [("Squeeze", [missing], {})] if rank < 4 else []
    steps += [("Transpose", [], {"perm": back})]
    made = []
    for index, (operator, operands, attributes) in enumerate(steps):
        name = result if index == len(steps) - 1 else f"{result}_step_{index}"
        made.append(helper.make_node(operator, [image, *operands], [name], f"{node.name}_step_{index}", **attributes))
        image = name
    added = [numpy_helper.from_array(np.ascontiguousarray(weight[:, :, None, None]), kernel)]
    added += [numpy_helper.from_array(np.arange(rank, 4), missing)] if rank < 4 else []
    return made, added
