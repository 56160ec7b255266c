"""The machine's own limits: bandwidth, and the most multiply-accumulates per second that any library here reaches.

A chain of large convolutions, or a matrix product, which no memory limits, runs in each; the fastest is the limit.
float32 is measured with matrix products alone: with 3 x 3 kernels a library may use Winograd's algorithm, which
multiplies less than it is said to.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from benchmarks.roofline.runtimes import onnxruntime_run, openvino_run

__all__ = ["Peaks", "measure_peaks"]

CHANNELS, SIDE, LAYERS = 256, 56, 4
MATRIX = 1024
COPIED_BYTES = 1 << 27  # by each thread: far more than any cache holds
BEST_OF = 3  # medians of a few runs each
RUNS = 5


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Attributes:
    gmacs: By precision, the highest 10^9 multiply-accumulates per second.
    reached_by: By precision, what reached it.
    tried: Every program's rate, by precision.
    gigabytes: Read and written per second.
    """

    gmacs: dict[str, float]
    reached_by: dict[str, str]
    tried: dict[str, dict[str, float]]
    gigabytes: float


def measure_peaks(cores: int) -> Peaks:
    """With every core busy; about ten seconds on two."""
    tried: dict[str, dict[str, float]] = {}
    for precision, name, macs, run in _programs():
        tried.setdefault(precision, {})[name] = round(macs / _seconds(run) / 1e9, 1)
    best = {precision: max(rates, key=lambda name: rates[name]) for precision, rates in tried.items()}
    return Peaks(
        gmacs={precision: tried[precision][name] for precision, name in best.items()},
        reached_by=best,
        tried=tried,
        gigabytes=round(_bandwidth(cores) / 1e9, 1),
    )


def _programs() -> Iterator[tuple[str, str, int, Callable[[], object]]]:
    """(precision, name, multiply-accumulates, program)."""
    for kernel in (1, 3):
        for precision in ("int8", "fp32"):
            if (precision, kernel) == ("fp32", 3):
                continue
            graph, macs = _convolutions(kernel, precision)
            name = f"{kernel} x {kernel} convolutions in"
            image = np.random.default_rng(0).standard_normal((1, CHANNELS, SIDE, SIDE)).astype(np.float32)
            yield precision, f"{name} OpenVINO", macs, openvino_run(graph, {"x": image}, "f32")
            yield precision, f"{name} ONNX Runtime", macs, onnxruntime_run(graph, {"x": image})
            if precision == "fp32":
                yield "bf16", f"{name} OpenVINO", macs, openvino_run(graph, {"x": image}, "bf16")
    yield from _matrix_products()


def _matrix_products() -> Iterator[tuple[str, str, int, Callable[[], object]]]:
    import torch

    macs = MATRIX**3
    floats = torch.randn(MATRIX, MATRIX)
    halves = floats.bfloat16()
    bytes_ = torch.randint(-127, 127, (MATRIX, MATRIX), dtype=torch.int8)
    yield "fp32", "matrix product in torch", macs, lambda: floats @ floats
    yield "bf16", "matrix product in torch", macs, lambda: halves @ halves
    yield "int8", "matrix product in torch", macs, lambda: torch._int_mm(bytes_, bytes_)


def _convolutions(kernel: int, precision: str) -> tuple[bytes, int]:
    """LAYERS convolutions, each reading what the last has written; INT8 ones stay in INT8."""
    rng = np.random.default_rng(0)
    nodes, constants, last = [], {"scale": np.float32(0.05), "zero": np.array(0, np.int8)}, "x"
    for layer in range(LAYERS):
        shape = (CHANNELS, CHANNELS, kernel, kernel)
        source, weights, result = last, f"w{layer}", "y" if layer == LAYERS - 1 else f"c{layer}"
        if precision == "int8":
            constants[f"{weights}_8"] = rng.integers(-127, 127, shape, dtype=np.int8)
            constants[f"{weights}_scale"] = np.full(CHANNELS, 1e-3, np.float32)
            constants[f"{weights}_zero"] = np.zeros(CHANNELS, np.int8)
            nodes += _pair(last, f"{last}_dq")
            source = f"{last}_dq"
            names = [f"{weights}_8", f"{weights}_scale", f"{weights}_zero"]
            nodes.append(helper.make_node("DequantizeLinear", names, [weights], axis=0))
        else:
            constants[weights] = rng.standard_normal(shape).astype(np.float32) / 100
        pads = [kernel // 2] * 4
        nodes.append(helper.make_node("Conv", [source, weights], [result], pads=pads, kernel_shape=[kernel, kernel]))
        last = result
    size = (1, CHANNELS, SIDE, SIDE)
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, size)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString(), LAYERS * (CHANNELS * kernel * SIDE) ** 2


def _pair(name: str, result: str) -> list[NodeProto]:
    steps = ["scale", "zero"]
    return [
        helper.make_node("QuantizeLinear", [name, *steps], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", *steps], [result]),
    ]


def _seconds(run: Callable[[], object]) -> float:
    run()
    medians = []
    for _ in range(BEST_OF):
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        medians.append(statistics.median(seconds))
    return min(medians)


def _bandwidth(cores: int) -> float:
    """Bytes read and written per second by a plain copy in every core."""
    pairs = [(np.ones(COPIED_BYTES, np.uint8), np.empty(COPIED_BYTES, np.uint8)) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        seconds = _seconds(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)))
    return 2 * COPIED_BYTES * cores / seconds
