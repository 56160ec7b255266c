"""A bundle small enough to compile in milliseconds that still has what TensorRT must take: a uint8 image that enters a
Cast, a dynamic batch, two convolutions, and the same in FP16 and in INT8 with Q/DQ."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_ad.bundle import Bundle, create_bundle
from edge_ad.manifest import Manifest, PrecisionEntry, Size

needs_rtx = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="TensorRT-RTX exists for x86-64 only"
)

# Not square and odd, so that swapped axes and padding show.
HEIGHT, WIDTH = 17, 24
FILES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}


def tiny_bundle(path: Path, *precisions: str) -> Bundle:
    """A bundle of the precisions (none given: all three), without engines and golden vectors."""
    chosen = precisions or tuple(FILES)
    size = Size(height=HEIGHT, width=WIDTH)
    manifest = Manifest(
        name="tiny", method="none", input=size, map=size, precisions={name: _precision(name) for name in chosen}
    )
    return create_bundle(path, manifest, {FILES[name]: tiny_graph(name) for name in chosen})


def _precision(name: str) -> PrecisionEntry:
    return PrecisionEntry(
        graph=FILES[name],
        threshold=1.0,
        threshold_version=1,
        false_reject_rate=0.01,
        normal_images=100,
        score_spread=0.1,
    )


def replace_graph(bundle: Bundle, precision: str, graph: bytes) -> None:
    """Put another graph in place, as a new calibration would."""
    with bundle.edit() as edit:
        edit.write(FILES[precision], graph)


def tiny_graph(precision: str = "fp32", *, seed: int = 0, extra: Any = None, map_name: str = "anomaly_map") -> bytes:
    """An ONNX graph.

    Args:
        seed: Of the weights: another seed is another graph.
        extra: A node put right after the image's Cast; nothing uses its output.
        map_name: Of the first output.
    """
    kind = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.FLOAT
    first, second = _Convolution("planes", "features", (8, 3)), _Convolution("rectified", "distance", (1, 8))
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "to_float", to=kind),
        *([extra] if extra is not None else []),
        helper.make_node("Transpose", ["pixels"], ["planes"], "to_nchw", perm=[0, 3, 1, 2]),
        *first.nodes(precision),
        helper.make_node("Relu", ["features"], ["rectified"], "relu"),
        *second.nodes(precision),
        helper.make_node("Cast", ["distance"], ["distance_32"], "to_float32", to=TensorProto.FLOAT),
        helper.make_node("Squeeze", ["distance_32", "channel_axis"], [map_name], "squeeze"),
        helper.make_node("ReduceMax", [map_name, "map_axes"], ["score"], "max", keepdims=0),
    ]
    constants = {
        "channel_axis": np.array([1]),
        "map_axes": np.array([1, 2]),
        **first.constants(precision, seed),
        **second.constants(precision, seed + 1),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])],
        [
            helper.make_tensor_value_info(map_name, TensorProto.FLOAT, ["N", HEIGHT, WIDTH]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


@dataclass(frozen=True)
class _Convolution:
    """A 3x3 convolution named after its result."""

    source: str
    result: str
    channels: tuple[int, int]

    def nodes(self, precision: str) -> list[Any]:
        source, result = self.source, self.result
        if precision != "int8":
            return [self._node(source)]
        steps = [f"{source}_scale", f"{source}_zero"]
        weights = [f"{result}_w_8", f"{result}_w_scale", f"{result}_w_zero"]
        return [
            helper.make_node("QuantizeLinear", [source, *steps], [f"{source}_q"], f"q_{source}"),
            helper.make_node("DequantizeLinear", [f"{source}_q", *steps], [f"{source}_dq"], f"dq_{source}"),
            helper.make_node("DequantizeLinear", weights, [f"{result}_w"], f"dq_{result}_w", axis=0),
            self._node(f"{source}_dq"),
        ]

    def _node(self, source: str) -> Any:
        return helper.make_node(
            "Conv", [source, f"{self.result}_w"], [self.result], f"conv_{self.result}", pads=[1] * 4
        )

    def constants(self, precision: str, seed: int) -> dict[str, Any]:
        # A hundredth: sums of grey levels then stay far below what FP16 can hold.
        weights = np.random.default_rng(seed).standard_normal((*self.channels, 3, 3)).astype(np.float32) / 100
        if precision != "int8":
            return {f"{self.result}_w": weights.astype(np.float16 if precision == "fp16" else np.float32)}
        scales = np.abs(weights).max(axis=(1, 2, 3)) / 127
        return {
            f"{self.source}_scale": np.array(255 / 127, np.float32),  # grey levels; the features are smaller
            f"{self.source}_zero": np.array(0, np.int8),
            f"{self.result}_w_8": np.rint(weights / scales[:, None, None, None]).astype(np.int8),
            f"{self.result}_w_scale": scales,
            f"{self.result}_w_zero": np.zeros(len(scales), np.int8),
        }
