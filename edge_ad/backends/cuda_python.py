"""A Device through cuda-python's bindings of the CUDA runtime."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad.backends.cuda import RECREATE, RESTART, HostArray, Owned, no_gpu, out_of_memory
from edge_ad.errors import EngineError

__all__ = ["CudaPythonDevice"]

_ORDINAL = 0
_NON_BLOCKING = 1  # cudaStreamNonBlocking: does not wait for the legacy default stream
_OUT_OF_MEMORY = 2

# After these the context is lost and every later call of the process fails too (CUDA Runtime API, cudaError).
_LOST = {
    "cudaErrorECCUncorrectable",
    "cudaErrorNvlinkUncorrectable",
    "cudaErrorIllegalAddress",
    "cudaErrorLaunchTimeout",
    "cudaErrorContextIsDestroyed",
    "cudaErrorAssert",
    "cudaErrorHardwareStackError",
    "cudaErrorIllegalInstruction",
    "cudaErrorMisalignedAddress",
    "cudaErrorInvalidAddressSpace",
    "cudaErrorInvalidPc",
    "cudaErrorLaunchFailure",
    "cudaErrorTensorMemoryLeak",
    "cudaErrorUnknown",
}


class CudaPythonDevice:
    """See Device; `cuda` is the module cuda.bindings.runtime."""

    captures = True

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._owned = Owned()
        self._find_gpu()
        name = self._call("cudaGetDeviceProperties", _ORDINAL).name
        self.name = (name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0")
        version = int(self._call("cudaDriverGetVersion"))
        self.driver = (version // 1000, version % 1000 // 10)
        self.capability = (
            self._attribute("cudaDevAttrComputeCapabilityMajor"),
            self._attribute("cudaDevAttrComputeCapabilityMinor"),
        )
        self.integrated = bool(self._attribute("cudaDevAttrIntegrated"))

    def _find_gpu(self) -> None:
        try:
            count = self._call("cudaGetDeviceCount")
        except (EngineError, RuntimeError) as exc:  # RuntimeError: cuda-python finds no driver library to load
            raise no_gpu(exc.got if isinstance(exc, EngineError) else exc) from exc
        if count == 0:
            raise no_gpu("a driver that lists no GPU")

    def _attribute(self, name: str) -> int:
        return int(self._call("cudaDeviceGetAttribute", getattr(self._cuda.cudaDeviceAttr, name), _ORDINAL))

    def _call(self, name: str, *arguments: Any) -> Any:
        """The one gate: call a CUDA function and check its status."""
        status, *results = getattr(self._cuda, name)(*arguments)
        if int(status) != 0:
            self._cuda.cudaGetLastError()  # else others in the process, TensorRT among them, find it there
            raise self._failure(name, status)
        return results[0] if len(results) == 1 else results

    def _failure(self, name: str, status: Any) -> EngineError:
        _, text = self._cuda.cudaGetErrorString(status)
        reason = text.decode() if isinstance(text, bytes) else text
        return EngineError(
            f"{name} failed.",
            expected="cudaSuccess",
            got=f"{status.name}: {reason}",
            fix=RESTART if status.name in _LOST else RECREATE,
        )

    def _allocate(self, what: str, size_bytes: int, name: str, *arguments: Any) -> int:
        status, pointer = getattr(self._cuda, name)(size_bytes, *arguments)
        if int(status) == 0:
            return int(pointer)
        self._cuda.cudaGetLastError()
        if int(status) == _OUT_OF_MEMORY:
            raise out_of_memory(what, size_bytes, self)
        raise self._failure(name, status)

    @contextmanager
    def active(self) -> Iterator[None]:
        self._call("cudaSetDevice", _ORDINAL)  # per thread; the runtime API then uses the primary context
        yield

    def memory_bytes(self) -> tuple[int, int]:
        free, everything = self._call("cudaMemGetInfo")
        return int(free), int(everything)

    def stream(self) -> int:
        stream = self._call("cudaStreamCreateWithFlags", _NON_BLOCKING)
        self._owned.add(("stream", int(stream)), lambda: self._call("cudaStreamDestroy", stream))
        return int(stream)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> HostArray:
        return self._host(shape, dtype, self._cuda.cudaHostAllocDefault)[0]

    def mapped(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[HostArray, int]:
        array, pointer = self._host(shape, dtype, self._cuda.cudaHostAllocMapped)
        return array, int(self._call("cudaHostGetDevicePointer", pointer, 0))

    def _host(self, shape: tuple[int, ...], dtype: npt.DTypeLike, flags: int) -> tuple[HostArray, int]:
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        pointer = self._allocate("a buffer in pinned host memory", size_bytes, "cudaHostAlloc", flags)
        self._owned.add(("host", pointer), lambda: self._call("cudaFreeHost", pointer))
        memory = (ctypes.c_byte * size_bytes).from_address(pointer)
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape), pointer

    def memory(self, size_bytes: int) -> int:
        pointer = self._allocate("a buffer on the GPU", size_bytes, "cudaMalloc")
        self._owned.add(("memory", pointer), lambda: self._call("cudaFree", pointer))
        return pointer

    def holds(self, pointer: int) -> bool:
        kinds = self._cuda.cudaMemoryType
        try:
            found = self._call("cudaPointerGetAttributes", pointer)
        except EngineError:  # no address that CUDA knows
            return False
        return found.type in (kinds.cudaMemoryTypeDevice, kinds.cudaMemoryTypeManaged) and found.device == _ORDINAL

    def upload(self, pointer: int, array: HostArray, *, stream: int) -> None:
        self._copy(pointer, array.ctypes.data, array.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def download(self, array: HostArray, pointer: int, *, stream: int) -> None:
        self._copy(array.ctypes.data, pointer, array.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def copy(self, to: int, source: int, size_bytes: int, *, stream: int) -> None:
        self._copy(to, source, size_bytes, self._cuda.cudaMemcpyKind.cudaMemcpyDefault, stream)  # it may be mapped

    def _copy(self, to: int, source: int, size_bytes: int, kind: Any, stream: int) -> None:
        self._call("cudaMemcpyAsync", to, source, size_bytes, kind, stream)

    def follow(self, other: int, *, stream: int) -> None:
        event = self._call("cudaEventCreateWithFlags", self._cuda.cudaEventDisableTiming)
        try:
            self._call("cudaEventRecord", event, other)
            self._call("cudaStreamWaitEvent", stream, event, 0)
        finally:
            self._call("cudaEventDestroy", event)  # CUDA keeps what still waits for it

    def capture(self, queue: Callable[[], None], *, stream: int) -> int:
        self._call("cudaStreamBeginCapture", stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            queue()
        except BaseException:
            with suppress(EngineError):  # the stream must leave capture; why it failed is told already
                self._call("cudaGraphDestroy", self._call("cudaStreamEndCapture", stream))
            raise
        recorded = self._call("cudaStreamEndCapture", stream)
        try:
            graph = self._call("cudaGraphInstantiate", recorded, 0)
        finally:
            self._call("cudaGraphDestroy", recorded)
        self._owned.add(("graph", int(graph)), lambda: self._call("cudaGraphExecDestroy", graph))
        return int(graph)

    def launch(self, graph: int, *, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def discard(self, graph: int) -> None:
        self._owned.release([("graph", graph)])

    def event(self) -> int:
        event = self._call("cudaEventCreateWithFlags", 0)
        self._owned.add(("event", int(event)), lambda: self._call("cudaEventDestroy", event))
        return int(event)

    def record(self, event: int, *, stream: int) -> None:
        self._call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        return float(self._call("cudaEventElapsedTime", start, end))

    def synchronize(self, *, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def close(self) -> None:
        if self._owned:  # else the context is not created just to release nothing
            self._cuda.cudaSetDevice(_ORDINAL)  # where it fails, every release below says so
            self._owned.release()
