"""Every CUDA call of the project: cuda-python by default, pycuda behind the same seam.

A `Device` is the first visible GPU (CUDA_VISIBLE_DEVICES chooses another) through its primary context, which any
other library in the process shares. It owns the streams and buffers it hands out and releases them in `close()`.
Nothing is imported before a device is opened.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_ad.errors import EngineError, MissingDependency, NoGpu

__all__ = ["ENVIRONMENT", "CudaPythonDevice", "Device", "PyCudaDevice", "compute_capability", "open_device"]

ENVIRONMENT = "EDGE_AD_CUDA"
"""Environment variable that chooses between the two bindings: "cuda-python" or "pycuda"."""

_BINDINGS = {"cuda-python": "cuda.bindings.runtime", "pycuda": "pycuda.driver"}
_ORDINAL = 0
_NON_BLOCKING = 1  # cudaStreamNonBlocking = CU_STREAM_NON_BLOCKING: does not wait for the legacy default stream

HostArray = npt.NDArray[Any]


class Device(Protocol):
    """One GPU. Pointers and streams are plain integers, as TensorRT takes them.

    Attributes:
        capability: Compute capability, for example (8, 9).
    """

    capability: tuple[int, int]

    def active(self) -> AbstractContextManager[None]:
        """Make this GPU's primary context current for the calling thread; every other call belongs inside."""
        ...

    def stream(self) -> int:
        """A new stream that does not wait for the default stream."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> HostArray:
        """A page-locked array on the host, valid until `close()`."""
        ...

    def memory(self, size_bytes: int) -> int:
        """Memory on the GPU, valid until `close()`."""
        ...

    def upload(self, pointer: int, array: HostArray, *, stream: int) -> None:
        """Queue a copy of a C-contiguous pinned array to the GPU."""
        ...

    def download(self, array: HostArray, pointer: int, *, stream: int) -> None:
        """Queue a copy from the GPU into a C-contiguous pinned array."""
        ...

    def synchronize(self, *, stream: int) -> None:
        """Wait until everything queued on the stream is done."""
        ...

    def close(self) -> None:
        """Release everything handed out; a second call does nothing."""
        ...


def open_device() -> Device:
    """The first visible GPU, through the bindings that are installed or that EDGE_AD_CUDA names.

    Raises:
        MissingDependency: The bindings are not installed.
        NoGpu: No driver or no GPU.
    """
    return CudaPythonDevice() if _chosen_bindings() == "cuda-python" else PyCudaDevice()


def compute_capability() -> tuple[int, int]:
    """Compute capability of the GPU that `open_device` opens; the same errors."""
    device = open_device()
    device.close()
    return device.capability


def _chosen_bindings() -> str:
    asked = os.environ.get(ENVIRONMENT)
    if asked is not None and asked not in _BINDINGS:
        raise MissingDependency(
            f"{ENVIRONMENT} names no CUDA bindings.",
            expected=" or ".join(_BINDINGS),
            got=asked,
            fix=f"unset {ENVIRONMENT}",
        )
    for name in [asked] if asked else _BINDINGS:
        if _is_installed(_BINDINGS[name]):
            return name
    raise MissingDependency(
        "No CUDA bindings for Python are installed.",
        expected=asked or " or ".join(_BINDINGS),
        got="nothing to import",
        fix=f"pip install {asked or 'cuda-python'}",
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def _no_gpu(reason: object) -> NoGpu:
    return NoGpu(
        "No NVIDIA GPU can be used.",
        expected="an NVIDIA GPU and its driver",
        got=reason,
        fix="install the driver until `nvidia-smi` lists the GPU, or use the onnxruntime backend",
    )


def _release(device: Device, owned: list[Callable[[], None]]) -> None:
    if owned:  # else the context is not created just to release nothing
        with device.active():
            while owned:
                owned.pop()()


class CudaPythonDevice:
    """A Device through cuda-python's runtime API."""

    def __init__(self) -> None:
        self._cuda: Any = importlib.import_module(_BINDINGS["cuda-python"])
        self._owned: list[Callable[[], None]] = []
        self._find_gpu()
        names = self._cuda.cudaDeviceAttr
        self.capability = (
            int(self._call("cudaDeviceGetAttribute", names.cudaDevAttrComputeCapabilityMajor, _ORDINAL)),
            int(self._call("cudaDeviceGetAttribute", names.cudaDevAttrComputeCapabilityMinor, _ORDINAL)),
        )

    def _find_gpu(self) -> None:
        try:
            count = self._call("cudaGetDeviceCount")
        except (EngineError, RuntimeError) as exc:  # RuntimeError: cuda-python finds no driver library to load
            raise _no_gpu(exc.got if isinstance(exc, EngineError) else exc) from exc
        if count == 0:
            raise _no_gpu("a driver that lists no GPU")

    def _call(self, name: str, *arguments: Any) -> Any:
        """The one gate: call a CUDA function and check its status."""
        status, *results = getattr(self._cuda, name)(*arguments)
        if int(status) != 0:
            _, text = self._cuda.cudaGetErrorString(status)
            reason = text.decode() if isinstance(text, bytes) else text
            raise EngineError(f"{name} failed.", expected="cudaSuccess", got=f"{status.name}: {reason}")
        return results[0] if results else None

    @contextmanager
    def active(self) -> Iterator[None]:
        self._call("cudaSetDevice", _ORDINAL)  # per thread; the runtime API then uses the primary context
        yield

    def stream(self) -> int:
        stream = self._call("cudaStreamCreateWithFlags", _NON_BLOCKING)
        self._owned.append(lambda: self._call("cudaStreamDestroy", stream))
        return int(stream)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> HostArray:
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        pointer = self._call("cudaHostAlloc", size_bytes, self._cuda.cudaHostAllocDefault)
        self._owned.append(lambda: self._call("cudaFreeHost", pointer))
        memory = (ctypes.c_byte * size_bytes).from_address(int(pointer))
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def memory(self, size_bytes: int) -> int:
        pointer = self._call("cudaMalloc", size_bytes)
        self._owned.append(lambda: self._call("cudaFree", pointer))
        return int(pointer)

    def upload(self, pointer: int, array: HostArray, *, stream: int) -> None:
        self._copy(pointer, array.ctypes.data, array.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def download(self, array: HostArray, pointer: int, *, stream: int) -> None:
        self._copy(array.ctypes.data, pointer, array.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def _copy(self, to: int, source: int, size_bytes: int, kind: Any, stream: int) -> None:
        self._call("cudaMemcpyAsync", to, source, size_bytes, kind, stream)

    def synchronize(self, *, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def close(self) -> None:
        _release(self, self._owned)


class PyCudaDevice:
    """A Device through pycuda, for teams that already run it."""

    def __init__(self) -> None:
        self._cuda: Any = importlib.import_module(_BINDINGS["pycuda"])
        self._owned: list[Callable[[], None]] = []
        self._streams: dict[int, Any] = {}
        try:
            self._cuda.init()
            device = self._cuda.Device(_ORDINAL)
            self.capability: tuple[int, int] = device.compute_capability()
            self._context = device.retain_primary_context()
        except self._cuda.Error as exc:
            raise _no_gpu(exc) from exc

    @contextmanager
    def _gate(self, name: str) -> Iterator[None]:
        """The one gate: pycuda raises where cuda-python returns a status."""
        try:
            yield
        except self._cuda.Error as exc:
            raise EngineError(f"pycuda's {name} failed.", expected="success", got=exc) from exc

    @contextmanager
    def active(self) -> Iterator[None]:
        with self._gate("Context.push"):
            self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def stream(self) -> int:
        with self._gate("Stream"):
            stream = self._cuda.Stream(_NON_BLOCKING)
        handle = int(stream.handle)
        self._streams[handle] = stream
        self._owned.append(self._streams.clear)  # pycuda destroys a stream with its object
        return handle

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> HostArray:
        with self._gate("pagelocked_empty"):
            array: HostArray = self._cuda.pagelocked_empty(shape, np.dtype(dtype))
        self._owned.append(array.base.free)  # type: ignore[union-attr]  # base is pycuda's PagelockedHostAllocation
        return array

    def memory(self, size_bytes: int) -> int:
        with self._gate("mem_alloc"):
            allocation = self._cuda.mem_alloc(size_bytes)
        self._owned.append(allocation.free)
        return int(allocation)

    def upload(self, pointer: int, array: HostArray, *, stream: int) -> None:
        with self._gate("memcpy_htod_async"):
            self._cuda.memcpy_htod_async(pointer, array, self._streams[stream])

    def download(self, array: HostArray, pointer: int, *, stream: int) -> None:
        with self._gate("memcpy_dtoh_async"):
            self._cuda.memcpy_dtoh_async(array, pointer, self._streams[stream])

    def synchronize(self, *, stream: int) -> None:
        with self._gate("Stream.synchronize"):
            self._streams[stream].synchronize()

    def close(self) -> None:
        _release(self, self._owned)
