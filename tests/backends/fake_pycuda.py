"""pycuda.driver over the stand-in's machine: it raises where cuda-python returns a status, and has no graphs."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad.backends.standin.cuda import CudaRuntime, Status
from edge_ad.backends.standin.machine import Machine


class PyCuda:
    """The module. Every call but `init` and what asks about the device needs the context to be current."""

    class Error(Exception):
        pass

    class MemoryError(Error, MemoryError):
        pass

    class LaunchError(Error):
        pass

    device_attribute = SimpleNamespace(INTEGRATED="integrated")
    host_alloc_flags = SimpleNamespace(DEVICEMAP=CudaRuntime.cudaHostAllocMapped)

    def __init__(self, machine: Machine) -> None:
        self.machine, self._cuda = machine, CudaRuntime(machine)
        self._current = 0

    def call(self, name: str, *arguments: Any) -> Any:
        assert self._current == 1, f"{name} without a current context"
        return self._ask(name, *arguments)

    def _ask(self, name: str, *arguments: Any) -> Any:
        status, *results = getattr(self._cuda, name)(*arguments)
        if status is Status.cudaErrorMemoryAllocation:
            raise self.MemoryError(f"{name} failed: out of memory")
        if status is Status.cudaErrorLaunchFailure:
            raise self.LaunchError(f"{name} failed: unspecified launch failure")
        if status is not Status.cudaSuccess:
            raise self.Error(f"{name} failed: {status.name}")
        return results[0] if len(results) == 1 else results

    def init(self) -> None:
        self._ask("cudaGetDeviceCount")

    def get_driver_version(self) -> int:
        return self._ask("cudaDriverGetVersion")

    def Device(self, ordinal: int) -> Any:  # noqa: N802
        context = SimpleNamespace(
            push=lambda: self._shift(1), pop=lambda: self._shift(-1), synchronize=self._synchronize_all
        )
        return SimpleNamespace(
            name=lambda: self.machine.name,
            compute_capability=lambda: self.machine.capability,
            get_attribute=lambda attribute: self._ask("cudaDeviceGetAttribute", attribute, ordinal),
            retain_primary_context=lambda: context,
        )

    def _shift(self, by: int) -> None:
        self._current += by

    def _synchronize_all(self) -> None:
        for stream in (1, *self.machine.own_streams):
            self.call("cudaStreamSynchronize", stream)

    def mem_get_info(self) -> tuple[int, int]:
        free, everything = self.call("cudaMemGetInfo")
        return free, everything

    def Stream(self, flags: int) -> Any:  # noqa: N802
        assert flags == 1, "the stream must not wait for the default stream"
        return _Stream(self, self.call("cudaStreamCreateWithFlags", flags))

    def Event(self) -> Any:  # noqa: N802
        return _Event(self)

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, mem_flags: int) -> npt.NDArray[Any]:
        size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = self.call("cudaHostAlloc", size_bytes, mem_flags)
        view = self.machine.bytes_at((address, size_bytes)).view(dtype).reshape(shape)
        return np.asarray(_Pagelocked(self, address, view))

    def mem_alloc(self, size_bytes: int) -> Any:
        return _Allocation(self, self.call("cudaMalloc", size_bytes))

    def memcpy_htod_async(self, pointer: int, array: npt.NDArray[Any], stream: Any) -> None:
        self.call("cudaMemcpyAsync", pointer, array.ctypes.data, array.nbytes, 1, stream.handle)

    def memcpy_dtoh_async(self, array: npt.NDArray[Any], pointer: int, stream: Any) -> None:
        self.call("cudaMemcpyAsync", array.ctypes.data, pointer, array.nbytes, 2, stream.handle)

    def memcpy_dtod_async(self, to: int, source: int, size_bytes: int, stream: Any) -> None:
        self.call("cudaMemcpyAsync", to, source, size_bytes, 4, stream.handle)


class _Stream:
    def __init__(self, cuda: PyCuda, handle: int) -> None:
        self._cuda, self.handle = cuda, handle
        self.synchronize = partial(cuda.call, "cudaStreamSynchronize", handle)  # no frame of an error keeps the stream

    def wait_for_event(self, event: _Event) -> None:
        self._cuda.call("cudaStreamWaitEvent", self.handle, event.handle, 0)

    def __del__(self) -> None:
        self._cuda.machine.remove_stream(self.handle)


class _Event:
    def __init__(self, cuda: PyCuda) -> None:
        self._cuda, self.handle = cuda, cuda.call("cudaEventCreateWithFlags", 0)

    def record(self, stream: _Stream | None = None) -> _Event:
        self._cuda.call("cudaEventRecord", self.handle, 1 if stream is None else stream.handle)
        return self

    def time_till(self, end: _Event) -> float:
        return self._cuda.call("cudaEventElapsedTime", self.handle, end.handle)

    def __del__(self) -> None:
        self._cuda.machine.events.pop(self.handle)


class _Pagelocked:
    """PagelockedHostAllocation."""

    def __init__(self, cuda: PyCuda, address: int, view: npt.NDArray[Any]) -> None:
        self._cuda, self._address = cuda, address
        self.__array_interface__ = view.__array_interface__

    def get_device_pointer(self) -> int:
        return self._cuda.call("cudaHostGetDevicePointer", self._address, 0)

    def free(self) -> None:
        self._cuda.call("cudaFreeHost", self._address)


class _Allocation:
    """DeviceAllocation."""

    def __init__(self, cuda: PyCuda, address: int) -> None:
        self._cuda, self._address = cuda, address

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._cuda.call("cudaFree", self._address)
