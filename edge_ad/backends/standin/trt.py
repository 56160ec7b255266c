"""The stand-in's TensorRT: what the package calls of it, with ONNX Runtime behind the engine.

An engine of the stand-in is a line of text and the ONNX graph; there is no code in it.
"""

from __future__ import annotations

import json
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad.backends.flavours import target_of
from edge_ad.backends.onnxruntime import OUTPUTS, open_session
from edge_ad.backends.standin.machine import DEFAULT_STREAMS, Machine, Misuse, Range, Work
from edge_ad.errors import BundleCorrupt
from edge_ad.golden import Answer

__all__ = ["VERSION", "TensorRt", "engine_from_graph"]

VERSION = "99.0"

_MAGIC = b"edge_ad stand-in engine"
_ALIGNMENT = 256
_ACTIVATIONS_PER_PIXEL = 64  # bytes; a small network's


def engine_from_graph(graph: bytes, *, target: str, min_batch: int, max_batch: int) -> bytes:
    """An engine of the stand-in."""
    header = {
        "version": VERSION,
        "target": target,
        "min_batch": min_batch,
        "max_batch": max_batch,
        "bytes": len(graph),
    }
    return b"\n".join([_MAGIC, json.dumps(header).encode(), graph])


class _Logger:
    """trt.ILogger."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: int, message: str) -> None:
        """Told by TensorRT."""
        raise NotImplementedError


class TensorRt:
    """The module.

    Args:
        flavour: "rtx", or "trt" without a runtime cache, graphs of its own and diagnoses.
    """

    __version__ = VERSION
    ILogger = _Logger
    uint8, float32, float16 = "uint8", "float32", "float16"

    def __init__(self, machine: Machine, flavour: str) -> None:
        self._machine, self._rtx = machine, flavour == "rtx"
        if self._rtx:
            self.IRuntimeCache = _RuntimeCache
            self.CudaGraphStrategy = SimpleNamespace(DISABLED="disabled", WHOLE_GRAPH_CAPTURE="whole graph")
            self.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(LAZY="lazy", EAGER="eager", NONE="none")
            self.EngineInvalidityDiagnostics = SimpleNamespace(
                __members__={"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "MALFORMED_ENGINE": 32}
            )

    def Runtime(self, logger: _Logger) -> Any:  # noqa: N802  # TensorRT's own name
        """trt.Runtime."""
        return (_RtxRuntime if self._rtx else _Runtime)(self._machine, logger)


class _Runtime:
    def __init__(self, machine: Machine, logger: _Logger) -> None:
        self._machine, self._logger = machine, logger

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        self._machine.calls.append("deserialize_cuda_engine")
        told = self._machine.refusing.get("deserialize_cuda_engine") or self._fault(content)[1]
        if told:
            self._logger.log(_Logger.ERROR, told)
            return None
        header, graph = _split(content)
        if len(graph) > self._machine.free_bytes:
            self._logger.log(_Logger.ERROR, "Error Code 2: OutOfMemory (no memory for the weights)")
            return None
        return self._engine(header, graph)

    def _engine(self, header: dict[str, Any], graph: bytes) -> Any:
        return _Engine(self._machine, self._logger, header, graph)

    def _fault(self, content: bytes) -> tuple[int, str]:
        try:
            header, graph = _split(content)
        except ValueError:
            return 32, "Serialization assertion failed: magic tag does not match."
        if len(graph) != header["bytes"]:
            return 32, f"Serialization assertion failed: {header['bytes']} bytes expected, {len(graph)} found."
        if header["version"] != VERSION:
            return 1, f"Version tag does not match: {header['version']} found."
        if header["target"] not in ("portable", target_of(self._machine.capability)):
            return 2, f"The engine was compiled for {header['target']}."
        try:
            open_session(graph, "the engine", threads=1)
        except BundleCorrupt as exc:
            return 32, f"The engine's graph is refused: {exc.got}"
        return 0, ""


class _RtxRuntime(_Runtime):
    def _engine(self, header: dict[str, Any], graph: bytes) -> Any:
        return _RtxEngine(self._machine, self._logger, header, graph)

    def get_engine_validity(self, content: bytes) -> tuple[int, int]:
        fault, _ = self._fault(content)
        return (2 if fault else 0, fault)


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    magic, _, rest = content.partition(b"\n")
    header, _, graph = rest.partition(b"\n")
    if magic != _MAGIC:
        raise ValueError("no engine of the stand-in")
    return json.loads(header), graph


class _Engine:
    def __init__(self, machine: Machine, logger: _Logger, header: dict[str, Any], graph: bytes) -> None:
        self._machine, self._logger = machine, logger
        self.min_batch, self.max_batch = header["min_batch"], header["max_batch"]
        self.session = open_session(graph, "the engine", threads=1)
        self._tensors = {value.name: value for value in (*self.session.get_inputs(), *self.session.get_outputs())}
        _reserve(machine, self, "engines", len(graph))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *self._tensors[name].shape[1:])

    def get_tensor_dtype(self, name: str) -> str:
        return {"tensor(uint8)": "uint8", "tensor(float)": "float32"}.get(self._tensors[name].type, "float16")

    @property
    def device_memory_size_v2(self) -> int:
        _, height, width, _ = self.get_tensor_shape("image")
        return int(self.max_batch * height * width * _ACTIVATIONS_PER_PIXEL)

    def create_execution_context(self, config: Any = None) -> Any:
        self._machine.calls.append("create_execution_context")
        told = self._machine.refusing.get("create_execution_context")
        if told is None and self.device_memory_size_v2 > self._machine.free_bytes:
            told = "Error Code 2: OutOfMemory (no memory for the activations)"
        if told:
            self._logger.log(_Logger.ERROR, told)
            return None
        return self._context(config)

    def _context(self, config: Any) -> Any:
        return _Context(self._machine, self._logger, self)


class _RtxEngine(_Engine):
    def create_runtime_config(self) -> Any:
        return _RuntimeConfig(self._machine)

    def _context(self, config: Any) -> Any:
        return _RtxContext(self._machine, self._logger, self, config)


class _RuntimeConfig:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.cuda_graph_strategy = "disabled"
        self.dynamic_shapes_kernel_specialization_strategy = "lazy"
        self.cache: _RuntimeCache | None = None

    def create_runtime_cache(self) -> _RuntimeCache:
        return _RuntimeCache(self._machine)

    def set_runtime_cache(self, cache: _RuntimeCache) -> bool:
        self.cache = cache
        return True


class _RuntimeCache:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.batches: set[int] = set()

    def serialize(self) -> bytes:
        return json.dumps({"version": VERSION, "gpu": self._machine.name, "batches": sorted(self.batches)}).encode()

    def deserialize(self, content: bytes) -> bool:
        try:
            kept = json.loads(content)
        except ValueError:
            return False
        if (kept["version"], kept["gpu"]) != (VERSION, self._machine.name):
            return False
        self.batches = set(kept["batches"])
        return True


class _Context:
    """Undefined behaviour that is watched for: see each Misuse."""

    def __init__(self, machine: Machine, logger: _Logger, engine: _Engine) -> None:
        self._machine, self._logger, self._engine = machine, logger, engine
        self._batch: int | None = None
        self._addresses: dict[str, int] = {}
        self._changes = 0
        self._flushed: int | None = None
        self._running: threading.Lock = threading.Lock()
        _reserve(machine, self, "execution contexts", engine.device_memory_size_v2)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        batch, *frame = shape
        fits = tuple(frame) == self._engine.get_tensor_shape(name)[1:]
        if not fits or not self._engine.min_batch <= batch <= self._engine.max_batch:
            self._logger.log(_Logger.ERROR, f"Static dimension mismatch or out of the profile: {shape}")
            return False
        if batch != self._batch:
            self._batch, self._changes = batch, self._changes + 1
            self._compile(batch)
        return True

    def _compile(self, batch: int) -> None:
        """Nothing: the engine is complete."""

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1 if self._batch is None else self._batch, *self._engine.get_tensor_shape(name)[1:])

    def set_tensor_address(self, name: str, address: int) -> bool:
        if address % _ALIGNMENT:
            raise Misuse(f"the address of {name} is not aligned to {_ALIGNMENT} bytes")
        if address != self._addresses.get(name):
            self._addresses[name], self._changes = address, self._changes + 1
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if not self._running.acquire(blocking=False):
            raise Misuse("two threads use one execution context at once")
        try:
            with self._machine.lock:
                return self._enqueue(stream)
        finally:
            self._running.release()

    def _enqueue(self, stream: int) -> bool:
        self._machine.calls.append("execute_async_v3")
        if stream in DEFAULT_STREAMS:
            raise Misuse("inference on the default stream, which TensorRT synchronises with everybody else")
        told = self._machine.refusing.get("execute_async_v3")
        if told:
            self._logger.log(_Logger.ERROR, told)
            return False
        image, *outputs = (self._range(name) for name in ("image", *OUTPUTS))
        capturing = self._machine.is_capturing(stream)
        if capturing and self._flushed != self._changes:
            raise Misuse("capture without an inference since the last change of shape or address")
        self._flushed = self._changes
        self._machine.queue(stream, self._work(image, outputs))
        return True

    def _range(self, name: str) -> Range:
        if name not in self._addresses:
            raise Misuse(f"inference before {name} has an address")
        if self._batch is None:
            raise Misuse("inference before the input has a shape")
        size_bytes = int(np.prod(self.get_tensor_shape(name))) * (1 if name == "image" else 4)
        place = (self._addresses[name], size_bytes)
        self._machine.block(place, "gpu", "mapped")
        return place

    def _work(self, image: Range, outputs: list[Range]) -> Work:
        machine, session, changes = self._machine, self._engine.session, self._changes
        shape = self.get_tensor_shape("image")

        def run() -> None:
            answer: Answer = tuple(session.run(OUTPUTS, {"image": machine.bytes_at(image).reshape(shape)}))
            for place, values in zip(outputs, machine.distort(answer) if machine.distort else answer, strict=True):
                machine.bytes_at(place)[:] = _bytes_of(values)

        def valid() -> None:
            if self._changes != changes:
                raise Misuse("a graph whose execution context has another shape or address by now")

        return Work(what="an inference", run=run, reads=(image,), writes=tuple(outputs), valid=valid)


class _RtxContext(_Context):
    def __init__(self, machine: Machine, logger: _Logger, engine: _Engine, config: _RuntimeConfig | None) -> None:
        super().__init__(machine, logger, engine)
        self._cache = config.cache if config is not None else None

    def _compile(self, batch: int) -> None:
        kept = self._cache.batches if self._cache is not None else set()
        if batch not in kept:
            self._machine.compilations += 1
            kept.add(batch)

    def is_stream_capturable(self, stream: int) -> bool:
        return self._machine.capturable


def _bytes_of(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(values, np.float32).view(np.uint8).ravel()


def _reserve(machine: Machine, owner: object, what: str, size_bytes: int) -> None:
    """Count GPU memory that TensorRT takes for itself, until the owner is gone."""
    token = object()
    machine.reserved[token] = (what, size_bytes)
    weakref.finalize(owner, machine.reserved.pop, token)
