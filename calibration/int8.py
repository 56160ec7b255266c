"""Explicit INT8: quantise/dequantise pairs around the convolutions, with ranges from real images.

Symmetric, weights per output channel, made with onnxruntime.quantization. Biases stay float: TensorRT takes no
INT32 DequantizeLinear, and ONNX Runtime quantises them itself when it fuses. Everything but convolutions stays
float32, and so do the few convolutions that would spoil the answer: each is measured alone, then the worst are
left out one by one until the maps and scores of real frames keep to the limits below.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from calibration.cost import Cost, measure_cost
from calibration.ranges import activation_ranges
from edge_ad.backends.onnxruntime import OUTPUTS, open_session
from edge_ad.frame import Image
from edge_ad.progress import Progress

__all__ = ["MAX_MEAN_SCORE_SHIFT", "MIN_MAP_CORRELATION", "QuantisedGraph", "int8_from_fp32"]

MAX_MEAN_SCORE_SHIFT = 0.25  # spreads of normal scores, over normal frames and synthetic defects
MIN_MAP_CORRELATION = 0.90  # of the worst frame's map with its float32 map


@dataclass(frozen=True, kw_only=True)
class QuantisedGraph:
    """An INT8 graph and how it came about.

    Attributes:
        float_layers: Convolutions left in float32, the most sensitive first.
        sensitivity: By convolution: mean score shift, in spreads, when it alone is quantised.
        within_limits: Whether the limits hold.
    """

    content: bytes
    float_layers: tuple[str, ...]
    sensitivity: dict[str, float]
    within_limits: bool


def int8_from_fp32(
    content: bytes, paths: Sequence[Path], frames: Sequence[Image], *, spread: float, threshold: float, seed: int
) -> QuantisedGraph:
    """The graph with Q/DQ around as many convolutions as the limits allow.

    Args:
        paths: Normal images of the camera's size, for the ranges.
        frames: Normal and defective frames on which fidelity is judged.
        spread: Standard deviation of the float32 scores of normal images.
        threshold: The float32 threshold.
    """
    with _quiet():
        ranges = activation_ranges(content, paths, seed)
        layers = [node.name for node in onnx.load_model_from_string(content).graph.node if node.op_type == "Conv"]
        reference = open_session(content, "the float32 graph")
        expected = [reference.run(OUTPUTS, {"image": frame[None]}) for frame in frames]

        def cost_of(quantised: bytes) -> Cost:
            return measure_cost(open_session(quantised, "an INT8 graph"), frames, expected, spread, threshold)

        sensitivity = {}
        with Progress("int8 sensitivity", len(layers)) as progress:
            for layer in layers:
                others = [other for other in layers if other != layer]
                sensitivity[layer] = cost_of(_quantised(content, ranges, others)).score_shift_mean
                progress.step()
        worst_first = sorted(layers, key=lambda layer: -sensitivity[layer])
        for count in range(len(layers)):
            left_out = worst_first[:count]
            candidate = _quantised(content, ranges, left_out)
            within_limits = _acceptable(cost_of(candidate))
            if within_limits:
                break
    return QuantisedGraph(
        content=candidate, float_layers=tuple(left_out), sensitivity=sensitivity, within_limits=within_limits
    )


def _acceptable(cost: Cost) -> bool:
    return cost.score_shift_mean <= MAX_MEAN_SCORE_SHIFT and cost.map_correlation >= MIN_MAP_CORRELATION


def _quantised(content: bytes, ranges: TensorsData, left_out: list[str]) -> bytes:
    quantiser = QDQQuantizer(
        onnx.load_model_from_string(content),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=left_out,
        op_types_to_quantize=["Conv"],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    model = quantiser.model.model
    onnx.checker.check_model(model, full_check=True)
    result: bytes = model.SerializeToString()
    return result


@contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime.quantization logs its advice on the root logger; it does not apply to Q/DQ for TensorRT."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
