"""TensorRT and TensorRT-RTX: the bundle's engine for this machine's GPU, run with pinned buffers on one stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad.backends.cuda import Device, open_device
from edge_ad.backends.engine_choice import Machine, choose_engine
from edge_ad.backends.flavours import INPUT, Flavour, capturing_logger, explain, installed_flavours, load_flavour
from edge_ad.backends.onnxruntime import OUTPUTS
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineError, EngineMismatch, FrameError, InspectionFault
from edge_ad.golden import Answer
from edge_ad.manifest import EngineEntry

__all__ = ["TensorRtBackend", "engine_from_bytes"]


def engine_from_bytes(flavour: Flavour, content: bytes, source: str) -> tuple[Any, Any, Any]:
    """Deserialise an engine whose bytes are proven; returns (engine, runtime, logger), to be kept together.

    Raises:
        EngineError: TensorRT refuses it, with the reason from its log.
    """
    logger = capturing_logger(flavour.trt)
    runtime = flavour.trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(content) if runtime is not None else None
    if engine is None:  # TensorRT reports failure by returning None
        raise EngineError(
            f"{source} cannot be loaded by {flavour.title} {flavour.version}.",
            expected="an engine of this version on a machine with a working GPU",
            got=explain(logger.problems),
            fix="check that `nvidia-smi` lists the GPU; then build again with --force",
        )
    return engine, runtime, logger


@dataclass(frozen=True, kw_only=True, eq=False)
class _Buffer:
    """One input or output for the largest batch: pinned on the host, and its twin on the GPU."""

    host: npt.NDArray[Any]
    pointer: int


class TensorRtBackend:
    """The bundle's engine of one precision on the first visible GPU. For one thread at a time.

    Raises:
        MissingDependency, NoGpu: This machine cannot run TensorRT.
        EngineMismatch: The bundle has no engine for it.
        BundleCorrupt: The engine's file is not the one the manifest describes.
        EngineError: TensorRT or CUDA refuses.
    """

    name: str
    file: str

    def __init__(self, bundle: Bundle, precision: str) -> None:
        self._context: Any = None
        self._device: Device = open_device()  # first: without a GPU there is no need to load TensorRT's libraries
        try:
            flavours = {flavour.name: flavour for flavour in map(load_flavour, installed_flavours() or (None,))}
            versions = {name: flavour.version for name, flavour in flavours.items()}
            machine = Machine(versions=versions, capability=self._device.capability)
            entry = choose_engine(bundle, precision, machine)
            with self._device.active():
                self._load(bundle, entry, flavours[entry.flavour])
        except BaseException:
            self.close()
            raise

    def _load(self, bundle: Bundle, entry: EngineEntry, flavour: Flavour) -> None:
        self.name = "tensorrt-rtx" if flavour.name == "rtx" else "tensorrt"
        self.file = entry.file
        self._source = str(bundle.path / entry.file)
        loaded = engine_from_bytes(flavour, bundle.read(entry.file), self._source)
        self._engine, self._runtime, self._logger = loaded
        size, of_map = bundle.manifest.input, bundle.manifest.map
        self._max_batch = entry.max_batch
        shapes = {
            INPUT: (entry.max_batch, size.height, size.width, 3),
            OUTPUTS[0]: (entry.max_batch, of_map.height, of_map.width),
            OUTPUTS[1]: (entry.max_batch,),
        }
        self._stream = self._device.stream()
        self._context = self._created(self._engine.create_execution_context(), "an execution context")
        self._batch = 0
        self._set_batch(entry.max_batch)
        self._buffers = {name: self._bound_buffer(name, shape, flavour.trt) for name, shape in shapes.items()}

    def _created(self, made: Any, what: str) -> Any:
        if not made:  # TensorRT reports failure by None or False
            raise EngineError(f"{self._source}: TensorRT refuses {what}.", got=explain(self._logger.problems))
        return made

    def _set_batch(self, count: int) -> None:
        if count != self._batch:
            shape = (count, *tuple(self._engine.get_tensor_shape(INPUT))[1:])
            self._created(self._context.set_input_shape(INPUT, shape), f"input of shape {shape}")
            self._batch = count

    def _bound_buffer(self, name: str, expected: tuple[int, ...], trt: Any) -> _Buffer:
        shape = tuple(self._context.get_tensor_shape(name))
        dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        wanted = np.dtype(np.uint8 if name == INPUT else np.float32)
        if (shape, dtype) != (expected, wanted):
            raise EngineMismatch(
                f"{self._source} does not have the bundle's {name}.",
                expected=f"{wanted} of shape {expected} (manifest.json)",
                got=f"{dtype} of shape {shape}",
                fix="build the engine again with --force",
            )
        host = self._device.pinned(shape, dtype)
        pointer = self._device.memory(math.prod(shape) * dtype.itemsize)
        self._created(self._context.set_tensor_address(name, pointer), f"an address for {name}")
        return _Buffer(host=host, pointer=pointer)

    def run(self, images: npt.NDArray[np.uint8]) -> Answer:
        """See Backend.run. A batch larger than the engine's largest runs in chunks."""
        if self._context is None:
            raise InspectionFault("The inspector is closed.", fix="open a new Inspector")
        image, anomaly_map, score = (self._buffers[name].host for name in (INPUT, *OUTPUTS))
        if images.dtype != image.dtype or images.shape[1:] != image.shape[1:]:
            raise FrameError(
                "The batch does not fit the engine.",
                expected=f"uint8 array of shape {('N', *image.shape[1:])}",
                got=f"{images.dtype} array of shape {images.shape}",
            )
        maps = np.empty((len(images), *anomaly_map.shape[1:]), np.float32)
        scores = np.empty(len(images), np.float32)
        try:
            with self._device.active():
                for start in range(0, len(images), self._max_batch):
                    window = slice(start, start + self._max_batch)
                    count = len(images[window])
                    image[:count] = images[window]
                    self._infer(count)
                    maps[window], scores[window] = anomaly_map[:count], score[:count]
        except EngineError as exc:
            raise InspectionFault(f"{self._source} failed to run.", got=exc) from exc
        return maps, scores

    def _infer(self, count: int) -> None:
        """From the first `count` rows of the pinned input to those of the pinned outputs."""
        self._set_batch(count)
        self._logger.problems.clear()
        self._enqueue(count)
        self._device.synchronize(stream=self._stream)

    def _enqueue(self, count: int) -> None:
        """Queue copies and kernels; no waiting and no allocation in here, so that a CUDA graph can record it."""
        image = self._buffers[INPUT]
        self._device.upload(image.pointer, image.host[:count], stream=self._stream)
        self._created(self._context.execute_async_v3(self._stream), "to run")
        for name in OUTPUTS:
            buffer = self._buffers[name]
            self._device.download(buffer.host[:count], buffer.pointer, stream=self._stream)

    def close(self) -> None:
        """Release the engine and the GPU's memory; a second call does nothing."""
        if self._context is not None:
            with self._device.active():
                # In this order: a context needs its engine, an engine its runtime.
                self._context = self._engine = self._runtime = None
                self._buffers = {}
        self._device.close()
