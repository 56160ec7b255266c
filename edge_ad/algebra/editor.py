"""A graph under the knife: shapes, producers and consumers of its tensors, and changes that keep it whole."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

__all__ = ["GraphEditor", "attribute", "infer_shapes"]

Array = npt.NDArray[Any]

LARGEST_SHAPE = 16  # values of a constant that may be a shape or a part of one


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or `default` where the node does not say."""
    for one in node.attribute:
        if one.name == name:
            return helper.get_attribute_value(one)
    return default


def infer_shapes(model: ModelProto, batch: int | None = None) -> GraphProto:
    """The graph of `batch` frames with every tensor's type and shape, computed sizes among them, and no weights."""
    bare = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    bare.graph.name = model.graph.name
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(model.graph.input)
    bare.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= LARGEST_SHAPE:
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    if batch is not None:
        for value in (*bare.graph.input, *bare.graph.output):
            for dimension in value.type.tensor_type.shape.dim[:1]:
                dimension.dim_value = batch
    return onnx.shape_inference.infer_shapes(bare, data_prop=True, strict_mode=True).graph


class GraphEditor:
    """Changes a model in place. Shapes, producers and consumers are those from before the changes.

    A tensor is replaced under its own name: what reads it, the graph's outputs included, stays as it is. Call
    `finish` after the last change.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self._consumers[name].append(node)
        inferred = infer_shapes(model)
        self._shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
        }
        self._outputs = {value.name for value in model.graph.output}
        self._names = {*self._shapes, *self._constants, *self._producers}

    def nodes(self, *operators: str) -> list[NodeProto]:
        """The nodes of these operators, in order."""
        return [node for node in self.model.graph.node if node.op_type in operators]

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Its sizes, 0 for the batch; empty where it has no axes or none are known."""
        constant = self._constants.get(tensor)
        return tuple(constant.dims) if constant is not None else self._shapes.get(tensor, ())

    def constant(self, tensor: str) -> Array | None:
        """Its values, None where they depend on the image."""
        constant = self._constants.get(tensor)
        return None if constant is None else numpy_helper.to_array(constant)

    def producer(self, tensor: str, *operators: str) -> NodeProto | None:
        """The node it comes from, None where that is another operator, or an input or constant."""
        node = self._producers.get(tensor)
        return node if node is not None and (not operators or node.op_type in operators) else None

    def consumers(self, tensor: str) -> list[NodeProto]:
        """The nodes that read it, once for every time they do."""
        return self._consumers[tensor]

    def only_consumer(self, tensor: str) -> NodeProto | None:
        """The one node that reads it; None where several do, or the graph returns it."""
        readers = {id(node): node for node in self._consumers[tensor]}
        return next(iter(readers.values())) if len(readers) == 1 and tensor not in self._outputs else None

    def is_output(self, tensor: str) -> bool:
        """Whether the graph returns it."""
        return tensor in self._outputs

    def is_square(self, node: NodeProto) -> bool:
        """Whether it is x * x or x to the power of 2."""
        if node.op_type == "Mul":
            return len(set(node.input)) == 1
        exponent = self.constant(node.input[1]) if node.op_type == "Pow" else None
        return exponent is not None and exponent.size == 1 and exponent.item() == 2

    def add_constant(self, like: str, values: npt.ArrayLike, kind: type = np.float32) -> str:
        """A new constant named after `like`; returns its name."""
        name = self._unused(like)
        array: Array = np.ascontiguousarray(values, dtype=kind)
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, inputs: list[str], like: str, **attributes: Any) -> str:
        """A new node whose only output is named after `like`; returns that name."""
        output = self._unused(like)
        self.model.graph.node.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def replace(self, tensor: str, operator: str, inputs: list[str], name: str = "", **attributes: Any) -> None:
        """From now on `tensor` comes from this node, by default under the name of the node it came from."""
        name = name or self._producers[tensor].name
        self.model.graph.node.append(helper.make_node(operator, inputs, [tensor], name=name, **attributes))

    def finish(self) -> None:
        """Drop what no output needs, put the nodes into the order of the flow, describe every tensor anew."""
        graph = self.model.graph
        producers = {name: node for node in graph.node for name in node.output}  # of several, the one added last
        order: dict[int, NodeProto] = {}
        stack = [(value.name, False) for value in reversed(graph.output)]
        while stack:
            tensor, inputs_done = stack.pop()
            node = producers.get(tensor)
            if node is None or id(node) in order:
                continue
            if inputs_done:
                order[id(node)] = node
            else:
                stack.append((tensor, True))
                stack.extend((name, False) for name in reversed(node.input))
        nodes = list(order.values())
        used = {name for node in nodes for name in node.input}
        constants = [tensor for tensor in graph.initializer if tensor.name in used]
        nodes, constants = [_copied(node) for node in nodes], [_copied(tensor) for tensor in constants]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend(constants)
        graph.value_info.extend(infer_shapes(self.model).value_info)

    def _unused(self, like: str) -> str:
        name, count = like, 1
        while name in self._names:
            count += 1
            name = f"{like}_{count}"
        self._names.add(name)
        return name


def _copied(message: Any) -> Any:
    """Deleting a message's place in a graph would take the message along."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
