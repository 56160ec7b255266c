"""A graph in either CPU runtime, as the backends open it, and how long each of its convolutions takes there."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from edge_ad.backends.onnxruntime import DISABLED_OPTIMIZERS
from edge_ad.backends.openvino import load_openvino, read_graph

__all__ = ["LayerTime", "aliases_of", "onnxruntime_layers", "onnxruntime_run", "openvino_layers", "openvino_run"]

Inputs = Mapping[str, npt.NDArray[Any]]
LayerTime = tuple[str, float, str]
"""(the convolutions that became one kernel, joined by "+"; else the operator's type), milliseconds, the kernel."""

WARM_UP, RUNS = 5, 25


def openvino_run(graph: bytes, inputs: Inputs, precision: str) -> Callable[[], object]:
    """A program that runs the graph once; `precision` is "f32" or "bf16"."""
    request = _openvino_request(graph, inputs, precision, profile=False)[0]
    return lambda: request.infer(dict(inputs), share_inputs=True, share_outputs=True)


def _openvino_request(graph: bytes, inputs: Inputs, precision: str, *, profile: bool) -> tuple[Any, Any]:
    core = load_openvino().Core()
    [image] = inputs.values()
    model = read_graph(core, graph, image.shape)
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision, "ENABLE_CPU_PINNING": False}
    compiled = core.compile_model(model, "CPU", properties | {"PERF_COUNT": profile})
    return compiled.create_infer_request(), compiled


def openvino_layers(graph: bytes, inputs: Inputs, layers: Mapping[str, str]) -> list[LayerTime]:
    """Medians over runs of every kernel.

    Args:
        layers: The convolutions, from aliases_of. Other kernels are told by their type.
    """
    request, compiled = _openvino_request(graph, inputs, "f32", profile=True)
    names: dict[str, str] = {}
    for operator in compiled.get_runtime_model().get_ordered_ops():
        original = operator.get_rt_info()["originalLayersNames"].astype(str).split(",")
        names[operator.get_friendly_name()] = "+".join(
            dict.fromkeys(layers[name] for name in original if name in layers)
        )
    times: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for run in range(WARM_UP + RUNS):
        request.infer(dict(inputs))
        for node in request.profiling_info if run >= WARM_UP else ():
            label = names.get(node.node_name) or node.node_type
            times[node.node_name, label, node.exec_type].append(node.real_time.total_seconds() * 1e3)
    return [(label, float(np.median(values)), kernel) for (_, label, kernel), values in times.items()]


def onnxruntime_run(graph: bytes, inputs: Inputs) -> Callable[[], object]:
    """A program that runs the graph once."""
    session = _session(graph)
    return lambda: session.run(None, dict(inputs))


def _session(graph: bytes, profile: Path | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=[*DISABLED_OPTIMIZERS]
    )


def onnxruntime_layers(graph: bytes, inputs: Inputs, layers: Mapping[str, str]) -> list[LayerTime]:
    """As openvino_layers."""
    with tempfile.TemporaryDirectory() as folder:
        session = _session(graph, Path(folder) / "profile")
        for _ in range(WARM_UP + RUNS):
            session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node, kernel = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            times[node, kernel].append(event["dur"] / 1e3)
    return [
        (_convolution_of(node, kernel, layers), float(np.median(values[WARM_UP:])), kernel)
        for (node, kernel), values in times.items()
    ]


def _convolution_of(node: str, kernel: str, layers: Mapping[str, str]) -> str:
    """A kernel is named after the convolution, or the tensor, that it grew from, with something behind it."""
    if "Conv" not in kernel:
        return kernel
    alias = max((name for name in layers if node.startswith(name)), key=len, default=None)
    return layers[alias] if alias is not None else kernel


def aliases_of(model: ModelProto) -> dict[str, str]:
    """The names of a graph's convolutions, by all that a runtime may call them: by node, output, or that of a ReLU."""
    named, written = {}, {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            named[node.name] = written[node.output[0]] = node.name
        elif node.op_type == "Relu" and node.input[0] in written:
            written[node.output[0]] = written[node.input[0]]
    return written | named
