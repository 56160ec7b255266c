"""OpenVINO on x86 and Arm CPUs and on Intel GPUs: the bundle's own graph, in the precision that the graph states.

Left to itself OpenVINO computes float32 graphs in bfloat16 on processors that have it, about a third of a spread away
from the golden vectors; here float32 stays float32, and an INT8 graph is float32 wherever it holds no integers.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad.backends.device_frame import DeviceArray, check_on_host
from edge_ad.backends.onnxruntime import OUTPUTS
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineError, FrameError, InspectionFault, MissingDependency
from edge_ad.golden import Answer

__all__ = ["ENVIRONMENT", "OpenVinoBackend", "OpenVinoSession", "load_openvino", "read_graph"]

ENVIRONMENT = "EDGE_AD_OPENVINO"
"""Environment variable that names OpenVINO's device: "CPU" (the default), "GPU" for an Intel GPU, "GPU.1", ..."""


class OpenVinoBackend:
    """The bundle's ONNX graph in OpenVINO, frame by frame. For one thread at a time.

    It is compiled for one frame: a larger batch is no faster per frame on a CPU, and memory stays that of one frame.

    Args:
        threads: Of the CPU, for this backend alone; None: one for each core.

    Raises:
        MissingDependency: OpenVINO is not installed.
        BundleCorrupt: The graph's file is not the one the manifest describes.
        EngineError: OpenVINO has not this device, or cannot compute this graph.
    """

    name: str
    file: str

    def __init__(self, bundle: Bundle, precision: str, *, threads: int | None = None) -> None:
        self._request: Any = None
        self.file = bundle.precision(precision).graph
        self._source = str(bundle.path / self.file)
        if precision == "fp8":
            raise EngineError(
                "OpenVINO has no kernels for FP8.",
                expected="fp32, fp16 or int8",
                got=self._source,
                fix="use int8, or the onnxruntime backend, which emulates FP8",
            )
        graph = bundle.read(self.file)
        core = load_openvino().Core()
        device = _device(core)
        self.name = f"openvino-{device.lower()}"
        size, of_map = bundle.manifest.input, bundle.manifest.map
        self._frame_shape, self._map_shape = (size.height, size.width, 3), (of_map.height, of_map.width)
        try:
            self._request = _compiled(core, graph, (1, *self._frame_shape), device, precision, threads)
        except Exception as exc:  # OpenVINO raises RuntimeError and kin of its own
            raise EngineError(
                f"OpenVINO {_version()} cannot compute {self._source} on {device}.",
                got=exc,
                fix="use the onnxruntime backend",
            ) from exc

    def run(self, images: npt.NDArray[np.uint8] | DeviceArray) -> Answer:
        """See Backend.run."""
        if self._request is None:
            raise InspectionFault("The inspector is closed.", fix="open a new Inspector")
        check_on_host(images)
        if images.dtype != np.uint8 or images.shape[1:] != self._frame_shape:
            raise FrameError(
                "The batch does not fit the graph.",
                expected=f"uint8 array of shape {('N', *self._frame_shape)}",
                got=f"{images.dtype} array of shape {images.shape}",
            )
        maps = np.empty((len(images), *self._map_shape), np.float32)
        scores = np.empty(len(images), np.float32)
        try:
            for index in range(len(images)):
                frame = {"image": images[index : index + 1]}
                answer = self._request.infer(frame, share_inputs=True, share_outputs=True)
                maps[index], scores[index] = (answer[name][0] for name in OUTPUTS)
        except Exception as exc:  # see __init__
            raise InspectionFault(f"OpenVINO failed to run {self._source}.", got=exc) from exc
        return maps, scores

    def close(self) -> None:
        """Release the graph; a second call does nothing."""
        self._request = None


class OpenVinoSession:
    """A graph of one frame, asked as an ONNX Runtime session is: what calibration judges candidates with.

    Args:
        shape: Of the input, (1, H, W, 3).

    Raises:
        MissingDependency: OpenVINO is not installed.
    """

    def __init__(self, graph: bytes, shape: tuple[int, ...], precision: str) -> None:
        self._request = _compiled(load_openvino().Core(), graph, shape, "CPU", precision, None)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        """The named outputs, in new arrays."""
        answer = self._request.infer(dict(feeds), share_inputs=True)
        return [answer[name] for name in outputs]


def _compiled(core: Any, graph: bytes, shape: tuple[int, ...], device: str, precision: str, threads: int | None) -> Any:
    """An infer request."""
    model = read_graph(core, graph, shape)
    return core.compile_model(model, device, _properties(core, device, precision, threads)).create_infer_request()


def read_graph(core: Any, graph: bytes, shape: tuple[int, ...]) -> Any:
    """OpenVINO's model of an ONNX graph of one input, which has this shape from now on."""
    model = core.read_model(graph)
    model.reshape(list(shape))
    _quantise_before_joining(model)
    _average_in_floats(model)
    return model


def _quantise_before_joining(model: Any) -> None:
    """Quantise what a Concat reads instead of what it writes, which is the same number by number.

    OpenVINO 2026.4 gives a quantised convolution behind Concat and Quantize the wrong zero point: answers far off.
    """
    from openvino import opset13

    for join in [node for node in model.get_ordered_ops() if node.get_type_name() == "Concat"]:
        for target in join.output(0).get_target_inputs():
            quantise = target.get_node()
            limits = [quantise.input_value(index) for index in range(1, quantise.get_input_size())]
            if quantise.get_type_name() != "FakeQuantize" or any(math.prod(limit.shape) > 1 for limit in limits):
                continue
            levels = quantise.get_attributes()["levels"]
            for rounded in (reader.get_node() for reader in quantise.output(0).get_target_inputs()):
                if rounded.get_type_name() == "Convert":
                    kind = rounded.get_element_type()
                    parts = [
                        opset13.convert(
                            opset13.fake_quantize(join.input_value(index), *limits, levels), kind.to_string()
                        )
                        for index in range(join.get_input_size())
                    ]
                    rounded.output(0).replace(opset13.concat(parts, join.get_attributes()["axis"]).output(0))


def _average_in_floats(model: Any) -> None:
    """Keep averages that nothing quantises from being rounded to the steps of what they are averages of.

    OpenVINO 2026.4 moves the dequantisation of what an average pool reads behind it, and then rounds the average: off
    by 0.3 spreads where a head reads it, 0.006 as the graph is written. A maximum with the least float lies in the way
    of that, and changes no number.
    """
    from openvino import opset13

    for pool in [node for node in model.get_ordered_ops() if node.get_type_name() == "AvgPool"]:
        readers = [target.get_node().get_type_name() for target in pool.output(0).get_target_inputs()]
        if "FakeQuantize" not in readers:
            least = opset13.constant(np.finfo(np.float32).min, dtype=np.float32)
            pool.input(0).replace_source_output(opset13.maximum(pool.input_value(0), least).output(0))


def load_openvino() -> Any:
    """The module; importing it sends nothing to anybody.

    Raises:
        MissingDependency: It is not installed.
    """
    # Its import sends an event to its makers unless this package is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as exc:
        raise MissingDependency(
            "OpenVINO is not installed.",
            expected="openvino 2025.0 or newer",
            got=exc,
            fix="pip install 'edge-ad[openvino]'",
        ) from exc
    return openvino


def _version() -> str:
    return str(load_openvino().__version__)


def _device(core: Any) -> str:
    """The device asked for, by its name in OpenVINO."""
    device = os.environ.get(ENVIRONMENT, "CPU")
    if device not in (offered := core.available_devices):
        raise EngineError(
            f"OpenVINO finds no device {device!r} here.",
            expected=" or ".join(offered),
            got=f"{ENVIRONMENT}={device}",
            fix=f"unset {ENVIRONMENT}, or install the driver of the GPU",
        )
    return device


def _properties(core: Any, device: str, precision: str, threads: int | None) -> dict[str, object]:
    halves = precision == "fp16" and "FP16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    properties: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f16" if halves else "f32",
    }
    if device == "CPU":
        # Each process would pin its threads to the same first cores, and two inspectors share one while others idle.
        properties["ENABLE_CPU_PINNING"] = False
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = threads
    return properties
