"""One worker on the GPU: an execution context, a stream, buffers for the largest batch, and a CUDA graph of its work.

The first inference with a batch and an address runs kernel by kernel, since TensorRT finishes a change of shape there;
the second is captured, and from then on the graph is replayed. A change of batch or address drops the graph: TensorRT
leaves a graph undefined once the context it was captured from has changed (developer guide, "CUDA Graphs").
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad.backends.cuda import Device
from edge_ad.backends.engine import LoadedEngine
from edge_ad.backends.flavours import INPUT
from edge_ad.backends.onnxruntime import OUTPUTS
from edge_ad.backends.runtime_cache import RuntimeCacheFile
from edge_ad.errors import EngineError, EngineMismatch

__all__ = ["ALIGNMENT", "Execution", "ExecutionOptions"]

ALIGNMENT = 256
"""Bytes; what TensorRT asks of the address of an input or output."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """How an engine is run; the defaults are the fastest that the machine offers.

    Attributes:
        cuda_graph: Replay the work as a CUDA graph.
        zero_copy: The GPU reads and writes the host's buffers in place; None: where both share one memory (Jetson).
    """

    cuda_graph: bool = True
    zero_copy: bool | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Buffer:
    """One input or output for the largest batch: on the host, and its address for the GPU."""

    host: npt.NDArray[Any]
    pointer: int


@dataclass(frozen=True, kw_only=True)
class _Binding:
    """What a CUDA graph is captured for.

    Attributes:
        image: The input's address.
        uploads: The host's buffer is copied there first.
    """

    batch: int
    image: int
    uploads: bool


class Execution:
    """For one thread at a time, inside `device.active()`.

    Args:
        shapes: Of input and outputs by name, for the largest batch.
        min_batch: The fewest rows the engine takes; fewer frames are filled up with what the buffer holds.
        cache: The engine's file of TensorRT-RTX's runtime cache; None: not TensorRT-RTX.

    Attributes:
        graph_state: "captured", "TensorRT-RTX's own", "off", "not yet", or why there is none.

    Raises:
        EngineError: TensorRT or CUDA refuses; EngineMismatch: the engine does not have these inputs and outputs.
    """

    def __init__(
        self,
        device: Device,
        loaded: LoadedEngine,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        min_batch: int = 1,
        options: ExecutionOptions | None = None,
        cache: RuntimeCacheFile | None = None,
    ) -> None:
        options = options or ExecutionOptions()
        self._device, self._loaded, self._min_batch = device, loaded, min_batch
        self._trt = loaded.flavour.trt
        self._graph: int | None = None
        self._binding: _Binding | None = None
        self._warm = False
        self._cache = cache
        self._captures = options.cuda_graph and device.captures
        self._in_place = device.integrated if options.zero_copy is None else options.zero_copy
        self.graph_state = "not yet" if self._captures else "off"
        self._config: Any = None
        self._context: Any = None
        self._runtime_cache: Any = None
        self._buffers: dict[str, _Buffer] = {}
        try:
            self._prepare(shapes, options)
        except BaseException:
            self.close()  # whoever holds the error holds this object, and must not hold the GPU's memory
            raise

    def _prepare(self, shapes: Mapping[str, tuple[int, ...]], options: ExecutionOptions) -> None:
        self.stream = self._device.stream()
        if self._cache is not None:
            self._config = self._runtime_config(options)
        self._context = self._loaded.context(self._config, self._device)
        self._set_batch(shapes[INPUT][0])
        for name, shape in shapes.items():
            self._buffers[name] = self._buffer(name, shape)

    def _runtime_config(self, options: ExecutionOptions) -> Any:
        """TensorRT-RTX's: kernels of a new shape are finished before they run, so that what was proven is what runs."""
        config = self._loaded.made(self._loaded.engine.create_runtime_config(), "a runtime configuration")
        config.dynamic_shapes_kernel_specialization_strategy = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        if options.cuda_graph and not self._captures:
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self.graph_state = "TensorRT-RTX's own"
        self._runtime_cache = self._loaded.made(config.create_runtime_cache(), "a runtime cache")
        kept = self._cache.read() if self._cache else None
        if kept is not None:
            self._runtime_cache.deserialize(kept)  # False: of another environment, and nothing is taken over
        self._loaded.made(config.set_runtime_cache(self._runtime_cache), "the runtime cache")
        return config

    def _set_batch(self, batch: int) -> None:
        shape = (batch, *tuple(self._loaded.engine.get_tensor_shape(INPUT))[1:])
        self._loaded.made(self._context.set_input_shape(INPUT, shape), f"input of shape {shape}")

    def _buffer(self, name: str, expected: tuple[int, ...]) -> _Buffer:
        shape, kind = tuple(self._context.get_tensor_shape(name)), self._loaded.engine.get_tensor_dtype(name)
        wanted, dtype = (self._trt.uint8, np.uint8) if name == INPUT else (self._trt.float32, np.float32)
        if (shape, kind) != (expected, wanted):
            raise EngineMismatch(
                f"{self._loaded.source} does not have the bundle's {name}.",
                expected=f"{np.dtype(dtype)} of shape {expected} (manifest.json)",
                got=f"{kind} of shape {shape}",
                fix="build the engine again with --force",
            )
        if self._in_place:
            host, pointer = self._device.mapped(shape, dtype)
        else:
            host = self._device.pinned(shape, dtype)
            pointer = self._device.memory(math.prod(shape) * np.dtype(dtype).itemsize)
        host[...] = 0
        self._set_address(name, pointer)
        return _Buffer(host=host, pointer=pointer)

    def _set_address(self, name: str, pointer: int) -> None:
        self._loaded.made(self._context.set_tensor_address(name, pointer), f"an address for {name}")

    @property
    def max_batch(self) -> int:
        """The most frames at once."""
        return len(self.image)

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """The input's buffer on the host, (max_batch, H, W, 3)."""
        return self._buffers[INPUT].host

    @property
    def answer(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The outputs' buffers on the host, (max_batch, h, w) and (max_batch,); valid until the next inference."""
        anomaly_map, score = (self._buffers[name].host for name in OUTPUTS)
        return anomaly_map, score

    def infer(self, count: int) -> None:
        """From the first `count` rows of `image` to those of `answer`; returns when they are there.

        Raises:
            EngineError: TensorRT or CUDA failed; what the GPU holds is undefined.
        """
        self.queue(count)
        self.wait()

    def infer_at(self, pointer: int, count: int) -> None:
        """As `infer`, from `count` frames at an address in the GPU's memory.

        They are read in place where the address suits TensorRT and there are as many as the engine takes at least;
        else they are copied within the GPU first.
        """
        batch, image = self._batch(count), self._buffers[INPUT].pointer
        if pointer % ALIGNMENT == 0 and batch == count:
            image = pointer
        else:
            self._device.copy(image, pointer, self.image[:count].nbytes, stream=self.stream)
        self.bind(batch, image, uploads=False)
        self._queue()
        self.wait()

    def queue(self, count: int) -> None:
        """As `infer`, without waiting: of several that are queued the last one's answer stays."""
        self.bind(self._batch(count))
        self._queue()

    def wait(self) -> None:
        """Until everything queued is done."""
        self._device.synchronize(stream=self.stream)

    def _batch(self, count: int) -> int:
        return max(count, self._min_batch)

    def _queue(self) -> None:
        if self._captures and self._warm and self._graph is None:
            self._capture()
        if self._graph is not None:
            self._device.launch(self._graph, stream=self.stream)
        else:
            self._queue_kernels()
        self._warm = True

    def _queue_kernels(self) -> None:
        """No waiting and no allocation in here, so that a CUDA graph can record it."""
        self.upload()
        self.enqueue()
        self.download()

    def bind(self, batch: int, image: int | None = None, *, uploads: bool = True) -> None:
        """Prepare for a batch and an address of the input, by default the buffer's own; `upload`, `enqueue` and
        `download` then work on these."""
        own = self._buffers[INPUT].pointer
        binding = _Binding(batch=batch, image=own if image is None else image, uploads=uploads and not self._in_place)
        if binding == self._binding:
            return
        self._drop_graph()
        before, self._binding = self._binding, None  # None until the context has taken both
        if before is None or before.batch != binding.batch:
            self._set_batch(binding.batch)
        if before is None or before.image != binding.image:
            self._set_address(INPUT, binding.image)
        self._binding = binding

    def upload(self) -> None:
        """Queue the copy of the input's rows to the GPU; none where it reads them in place."""
        if self._bound.uploads:
            image = self._buffers[INPUT]
            self._device.upload(image.pointer, image.host[: self._bound.batch], stream=self.stream)

    def enqueue(self) -> None:
        """Queue the engine's kernels."""
        self._loaded.made(self._context.execute_async_v3(self.stream), "to run")

    def download(self) -> None:
        """Queue the copies of the outputs' rows from the GPU; none where it writes them in place."""
        if not self._in_place:
            for name in OUTPUTS:
                buffer = self._buffers[name]
                self._device.download(buffer.host[: self._bound.batch], buffer.pointer, stream=self.stream)

    @property
    def _bound(self) -> _Binding:
        if self._binding is None:
            raise EngineError(f"{self._loaded.source} has no batch to run.", fix="call bind() first")
        return self._binding

    def _capture(self) -> None:
        """A failure leaves inferences kernel by kernel: right, and slower; `graph_state` and the log say why."""
        try:
            self._check_capturable()
            self._graph = self._device.capture(self._queue_kernels, stream=self.stream)
            self.graph_state = "captured"
        except EngineError as exc:
            self._captures, self.graph_state = False, f"none: {exc.what} {exc.got}"
            _log.warning("%s runs without a CUDA graph: %s", self._loaded.source, str(exc))  # no frames kept

    def _check_capturable(self) -> None:
        asks = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX
        if asks is not None and not asks(self.stream):
            raise EngineError(
                "TensorRT-RTX says that this engine cannot be captured.",
                got="memory that is allocated while it runs",
                fix="build the engine again with --force",
            )

    def _drop_graph(self) -> None:
        self._warm = False
        if self._graph is not None:
            graph, self._graph = self._graph, None
            self._device.discard(graph)

    def save_cache(self) -> None:
        """Keep what TensorRT-RTX compiled for the next start."""
        serialised = self._runtime_cache.serialize() if self._cache is not None else None
        if self._cache is not None and serialised is not None:
            self._cache.write(bytes(serialised))

    def close(self) -> None:
        """Release the graph and let TensorRT release the context; stream and buffers go with their device."""
        try:
            self._drop_graph()
        finally:
            self._context = None  # before what it was made from
            self._runtime_cache = self._config = self._cache = None
            self._buffers = {}
