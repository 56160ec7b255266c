"""A Device through pycuda, for teams that already run it. pycuda has no CUDA graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad.backends.cuda import RECREATE, RESTART, HostArray, Owned, no_gpu, out_of_memory
from edge_ad.errors import EngineError

__all__ = ["PyCudaDevice"]

_ORDINAL = 0
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the legacy default stream
_LEGACY_STREAM = 1


class PyCudaDevice:
    """See Device; `cuda` is the module pycuda.driver."""

    captures = False

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._owned = Owned()
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        try:
            cuda.init()
            device = cuda.Device(_ORDINAL)
            self.name: str = device.name()
            self.capability: tuple[int, int] = device.compute_capability()
            self.integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
            version = cuda.get_driver_version()
            self._context = device.retain_primary_context()
        except cuda.Error as exc:
            raise no_gpu(exc) from exc
        self.driver = (version // 1000, version % 1000 // 10)

    @contextmanager
    def _gate(self, name: str) -> Iterator[None]:
        """The one gate: pycuda raises where cuda-python returns a status."""
        try:
            yield
        except self._cuda.Error as exc:
            lost = isinstance(exc, self._cuda.LaunchError) or "illegal" in str(exc) or "unspecified" in str(exc)
            fix = RESTART if lost else RECREATE
            raise EngineError(f"pycuda's {name} failed.", expected="success", got=exc, fix=fix) from exc

    @contextmanager
    def _allocation(self, what: str, size_bytes: int, name: str) -> Iterator[None]:
        with self._gate(name):
            try:
                yield
            except self._cuda.MemoryError as exc:
                raise out_of_memory(what, size_bytes, self) from exc

    @contextmanager
    def active(self) -> Iterator[None]:
        with self._gate("Context.push"):
            self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def memory_bytes(self) -> tuple[int, int]:
        with self._gate("mem_get_info"):
            free, everything = self._cuda.mem_get_info()
        return free, everything

    def stream(self) -> int:
        with self._gate("Stream"):
            stream = self._cuda.Stream(_NON_BLOCKING)
        handle = int(stream.handle)
        self._streams[handle] = stream
        self._owned.add(("stream", handle), lambda: self._streams.pop(handle))  # pycuda destroys it with its object
        return handle

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> HostArray:
        return self._host(shape, dtype, 0)

    def mapped(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[HostArray, int]:
        array = self._host(shape, dtype, self._cuda.host_alloc_flags.DEVICEMAP)
        with self._gate("get_device_pointer"):
            return array, int(array.base.get_device_pointer())  # type: ignore[union-attr]  # as below

    def _host(self, shape: tuple[int, ...], dtype: npt.DTypeLike, flags: int) -> HostArray:
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        with self._allocation("a buffer in pinned host memory", size_bytes, "pagelocked_empty"):
            array: HostArray = self._cuda.pagelocked_empty(shape, np.dtype(dtype), mem_flags=flags)
        allocation: Any = array.base  # pycuda's PagelockedHostAllocation
        self._owned.add(("host", array.ctypes.data), self._freeing(allocation))
        return array

    def memory(self, size_bytes: int) -> int:
        with self._allocation("a buffer on the GPU", size_bytes, "mem_alloc"):
            allocation = self._cuda.mem_alloc(size_bytes)
        self._owned.add(("memory", int(allocation)), self._freeing(allocation))
        return int(allocation)

    def _freeing(self, allocation: Any) -> Callable[[], None]:
        def free() -> None:
            with self._gate("free"):
                allocation.free()

        return free

    def holds(self, pointer: int) -> bool:
        return True  # pycuda cannot tell

    def upload(self, pointer: int, array: HostArray, *, stream: int) -> None:
        with self._gate("memcpy_htod_async"):
            self._cuda.memcpy_htod_async(pointer, array, self._streams[stream])

    def download(self, array: HostArray, pointer: int, *, stream: int) -> None:
        with self._gate("memcpy_dtoh_async"):
            self._cuda.memcpy_dtoh_async(array, pointer, self._streams[stream])

    def copy(self, to: int, source: int, size_bytes: int, *, stream: int) -> None:
        with self._gate("memcpy_dtod_async"):
            self._cuda.memcpy_dtod_async(to, source, size_bytes, self._streams[stream])

    def follow(self, other: int, *, stream: int) -> None:
        if other == _LEGACY_STREAM:
            with self._gate("Event"):
                self._streams[stream].wait_for_event(self._cuda.Event().record())
        else:  # pycuda takes no stream but its own, so all of the GPU's work is waited for
            with self._gate("Context.synchronize"):
                self._context.synchronize()

    def capture(self, queue: Callable[[], None], *, stream: int) -> int:
        raise EngineError("pycuda has no CUDA graphs.", fix="pip install cuda-python")

    def launch(self, graph: int, *, stream: int) -> None:
        raise AssertionError("there is no graph to launch")

    def discard(self, graph: int) -> None:
        raise AssertionError("there is no graph to discard")

    def event(self) -> int:
        with self._gate("Event"):
            event = self._cuda.Event()
        self._events[id(event)] = event
        self._owned.add(("event", id(event)), lambda: self._events.pop(id(event)))
        return id(event)

    def record(self, event: int, *, stream: int) -> None:
        with self._gate("Event.record"):
            self._events[event].record(self._streams[stream])

    def elapsed_ms(self, start: int, end: int) -> float:
        with self._gate("Event.time_till"):
            return float(self._events[start].time_till(self._events[end]))

    def synchronize(self, *, stream: int) -> None:
        with self._gate("Stream.synchronize"):
            self._streams[stream].synchronize()

    def close(self) -> None:
        if self._owned:
            with self.active():
                self._owned.release()
