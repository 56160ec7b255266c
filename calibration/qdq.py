"""Quantise/dequantise pairs around convolutions: explicit precision that every runtime reads the same way.

requires  a float32 graph whose convolutions are named and have constant weights
ensures   an asked convolution reads its input and its weights through Q/DQ, and nothing else changes type: symmetric,
          weights per output channel, activations with one scale; biases and everything behind the last convolution
          stay float32. INT8 also quantises what a convolution writes. Whatever reads an activation has a pair of its
          own: ONNX Runtime needs both to run a convolution as one kernel of integers
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.trunk import trunk_of

__all__ = ["FP8", "INT8", "Format", "Lacking", "convolutions", "quantise", "rounded_weights"]

Lacking = Mapping[str, npt.NDArray[np.float32]]
"""By convolution: what every channel of its output lacks on average."""

_OPSET_OF_FP8 = 19


@dataclass(frozen=True, kw_only=True)
class Format:
    """A number format of eight bits.

    Attributes:
        largest: Its largest value, to which the clip is scaled.
        onnx_type: A TensorProto.DataType.
        writes: Whether a convolution's output is quantised as well.
    """

    name: str
    largest: float
    onnx_type: int
    writes: bool

    def rounded(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        """Scaled values, in the format: to the nearest, saturated."""
        limited = np.clip(values, -self.largest, self.largest)
        if self.onnx_type == TensorProto.INT8:
            return np.rint(limited).astype(np.int8)
        return limited.astype(ml_dtypes.float8_e4m3fn)

    def tensor(self, values: npt.NDArray[np.generic], name: str) -> TensorProto:
        """An initializer; made of bytes, because older onnx does not know numpy's FP8."""
        return TensorProto(name=name, data_type=self.onnx_type, dims=values.shape, raw_data=values.tobytes())


INT8 = Format(name="int8", largest=127.0, onnx_type=TensorProto.INT8, writes=True)
FP8 = Format(name="fp8", largest=448.0, onnx_type=TensorProto.FLOAT8E4M3FN, writes=False)
"""E4M3, for GPUs of SM 8.9 and newer. Needs no quantised outputs: no runtime fuses them."""


def convolutions(model: ModelProto) -> list[NodeProto]:
    """The convolutions that can be quantised, in the order of the graph: those with constant weights."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in constants]


def rounded_weights(
    kernel: npt.NDArray[np.float32], form: Format
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float32]]:
    """A kernel (M, C, h, w) in the format, and the scale (M,) of every output channel."""
    largest = np.abs(kernel).max(axis=(1, 2, 3))
    scale = np.where(largest > 0, largest / form.largest, 1).astype(np.float32)
    return form.rounded(kernel / scale[:, None, None, None]), scale


def quantise(
    model: ModelProto,
    layers: Collection[str],
    clips: Mapping[str, float],
    form: Format,
    lacking: Lacking | None = None,
) -> ModelProto:
    """A copy with the named convolutions quantised.

    Args:
        layers: Names of convolutions.
        clips: By tensor: the magnitude that becomes the format's largest value; of what the layers read (and write).
        lacking: What biases are to make up for (calibration/bias.py).
    """
    result = ModelProto()
    result.CopyFrom(model)
    writer = _Writer(result, form)
    trunk = trunk_of(result.graph)
    chosen = [node for node in convolutions(result) if node.name in layers]
    read = dict.fromkeys(node.input[0] for node in chosen)
    written = dict.fromkeys(node.output[0] for node in chosen) if form.writes else {}
    for node in chosen:
        kernel = writer.constants[node.input[1]]
        node.input[1] = writer.weights(node.input[1], kernel)
        if lacking is not None:
            _add_to_bias(node, writer, lacking[node.name])
    for name in {**read, **written}:
        for node in result.graph.node:
            if name in node.input and (node.name in trunk or name in written):
                _reread(node, name, writer.pair(name, clips[name]))
    writer.finish()
    return result


def _reread(node: NodeProto, name: str, through: str) -> None:
    for index, source in enumerate(node.input):
        if source == name:
            node.input[index] = through


def _add_to_bias(node: NodeProto, writer: _Writer, shift: npt.NDArray[np.float32]) -> None:
    bias = writer.constants[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros_like(shift)
    name = f"{node.name}_bias_corrected"
    writer.add(numpy_helper.from_array(bias + shift, name))
    del node.input[2:]
    node.input.append(name)


class _Writer:
    """Collects constants and Q/DQ nodes, and puts them into the graph in the order of the flow."""

    def __init__(self, model: ModelProto, form: Format) -> None:
        self.model, self.form = model, form
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.nodes_after: dict[str, list[NodeProto]] = defaultdict(list)  # by tensor: what follows its node
        self.first: list[NodeProto] = []
        self.weights_done: dict[str, str] = {}

    def add(self, tensor: TensorProto) -> str:
        self.model.graph.initializer.append(tensor)
        return str(tensor.name)

    def weights(self, name: str, kernel: npt.NDArray[np.float32]) -> str:
        """The dequantised weights' name."""
        if name not in self.weights_done:
            values, scale = rounded_weights(kernel, self.form)
            zero = self.form.rounded(np.zeros_like(scale))
            inputs = [
                self.add(self.form.tensor(values, f"{name}_quantised")),
                self.add(numpy_helper.from_array(scale, f"{name}_scale")),
                self.add(self.form.tensor(zero, f"{name}_zero")),
            ]
            result = f"{name}_dequantised"
            self.first.append(helper.make_node("DequantizeLinear", inputs, [result], f"{result}_node", axis=0))
            self.weights_done[name] = result
        return self.weights_done[name]

    def pair(self, name: str, clip: float) -> str:
        """Another Q/DQ pair behind a tensor; returns the dequantised tensor's name."""
        scale, zero = f"{name}_scale", f"{name}_zero"
        before = len(self.nodes_after[name]) // 2
        if not before:
            self.add(numpy_helper.from_array(np.array(clip / self.form.largest, np.float32), scale))
            self.add(self.form.tensor(self.form.rounded(np.zeros((), np.float32)), zero))
        suffix = f"_{before + 1}" if before else ""
        small, result = f"{name}_quantised{suffix}", f"{name}_dequantised{suffix}"
        self.nodes_after[name] += [
            helper.make_node("QuantizeLinear", [name, scale, zero], [small], f"{small}_node"),
            helper.make_node("DequantizeLinear", [small, scale, zero], [result], f"{result}_node"),
        ]
        return result

    def finish(self) -> None:
        graph = self.model.graph
        nodes = list(self.first)
        for name in (value.name for value in graph.input):
            nodes += self.nodes_after.get(name, [])
        for node in graph.node:
            nodes.append(node)
            for name in node.output:
                nodes += self.nodes_after.get(name, [])
        del graph.node[:]
        graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        del graph.value_info[:]
        if self.form is FP8:
            _raise_opset(self.model, _OPSET_OF_FP8)
        onnx.checker.check_model(self.model, full_check=True)


def _raise_opset(model: ModelProto, least: int) -> None:
    """From 18 on, the operators of these graphs only gained options whose defaults are what they did before."""
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, least)
