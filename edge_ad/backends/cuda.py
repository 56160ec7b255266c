"""The seam to CUDA: what the rest of the package asks of a GPU, through cuda-python by default or pycuda.

A `Device` is the first visible GPU (CUDA_VISIBLE_DEVICES chooses another) through its primary context, which any
other library in the process shares. It owns what it hands out and releases it in `close()`. Nothing is imported
before a device is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy.typing as npt

from edge_ad.backends import vendor
from edge_ad.errors import EngineError, MissingDependency, NoGpu

__all__ = [
    "BINDINGS",
    "ENVIRONMENT",
    "RECREATE",
    "RESTART",
    "Device",
    "HostArray",
    "Owned",
    "compute_capability",
    "no_gpu",
    "open_device",
    "out_of_memory",
]

ENVIRONMENT = "EDGE_AD_CUDA"
"""Environment variable that chooses between the two bindings: "cuda-python" or "pycuda"."""

BINDINGS = {"cuda-python": "cuda.bindings.runtime", "pycuda": "pycuda.driver"}
"""Python module by the bindings' name, the preferred first."""

RECREATE = "close this Inspector and open a new one"
"""What to do after an error that ended one inspector's work."""

RESTART = (
    "restart the process to use the GPU again: CUDA answers every further call in it with this error; "
    'until then Inspector(..., backend="onnxruntime") works'
)
"""What to do after an error that made the process' GPU context unusable."""

HostArray = npt.NDArray[Any]


class Device(Protocol):
    """One GPU. Pointers, streams, events and graphs are plain integers, as TensorRT takes them.

    Attributes:
        name: As the driver says it, "NVIDIA GeForce RTX 4090".
        driver: CUDA version of the driver, (13, 0).
        capability: Compute capability, (8, 9).
        integrated: GPU and CPU share one memory (Jetson).
        captures: Work can be captured into CUDA graphs.
    """

    name: str
    driver: tuple[int, int]
    capability: tuple[int, int]
    integrated: bool
    captures: bool

    def active(self) -> AbstractContextManager[None]:
        """Make this GPU's primary context current for the calling thread; every other call belongs inside."""
        ...

    def memory_bytes(self) -> tuple[int, int]:
        """(free, all) memory of the GPU."""
        ...

    def stream(self) -> int:
        """A new stream that does not wait for the default stream."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> HostArray:
        """A page-locked array on the host, valid until `close()`."""
        ...

    def mapped(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[HostArray, int]:
        """A page-locked array that the GPU reads and writes in place, and its address there; valid until `close()`."""
        ...

    def memory(self, size_bytes: int) -> int:
        """Memory on the GPU, aligned to 256 bytes, valid until `close()`."""
        ...

    def holds(self, pointer: int) -> bool:
        """Whether an address lies in this GPU's memory."""
        ...

    def upload(self, pointer: int, array: HostArray, *, stream: int) -> None:
        """Queue a copy of a C-contiguous pinned array to the GPU."""
        ...

    def download(self, array: HostArray, pointer: int, *, stream: int) -> None:
        """Queue a copy from the GPU into a C-contiguous pinned array."""
        ...

    def copy(self, to: int, source: int, size_bytes: int, *, stream: int) -> None:
        """Queue a copy within the GPU's memory."""
        ...

    def follow(self, other: int, *, stream: int) -> None:
        """Let work queued on `stream` from now on wait for what is queued on `other`, somebody else's stream, now.

        Streams 1 and 2 are CUDA's legacy default stream and the thread's default stream.
        """
        ...

    def capture(self, queue: Callable[[], None], *, stream: int) -> int:
        """A CUDA graph of what `queue` queues on the stream; nothing runs. Only where `captures`.

        The stream captures what this thread queues and leaves other threads alone (thread-local capture).
        """
        ...

    def launch(self, graph: int, *, stream: int) -> None:
        """Queue a captured graph."""
        ...

    def discard(self, graph: int) -> None:
        """Release a graph that nothing runs any more."""
        ...

    def event(self) -> int:
        """A new event that takes the time."""
        ...

    def record(self, event: int, *, stream: int) -> None:
        """Queue an event."""
        ...

    def elapsed_ms(self, start: int, end: int) -> float:
        """GPU time between two events that have happened."""
        ...

    def synchronize(self, *, stream: int) -> None:
        """Wait until everything queued on the stream is done."""
        ...

    def close(self) -> None:
        """Release everything handed out; a second call does nothing.

        Raises:
            EngineError: CUDA refused; everything was tried, nothing is kept.
        """
        ...


def open_device() -> Device:
    """The first visible GPU, through the bindings that are installed or that EDGE_AD_CUDA names.

    Raises:
        MissingDependency: The bindings are not installed or do not load.
        NoGpu: No driver or no GPU.
    """
    name = _chosen_bindings()
    try:
        bindings = vendor.load(BINDINGS[name])
    except (ImportError, OSError) as exc:  # OSError: the module is there and a library it loads is not
        raise MissingDependency(f"{name} cannot be loaded.", got=exc, fix=f"pip install {name}") from exc
    if name == "cuda-python":
        from edge_ad.backends.cuda_python import CudaPythonDevice

        return CudaPythonDevice(bindings)
    from edge_ad.backends.cuda_pycuda import PyCudaDevice

    return PyCudaDevice(bindings)


def compute_capability() -> tuple[int, int]:
    """Compute capability of the GPU that `open_device` opens; the same errors."""
    device = open_device()
    device.close()
    return device.capability


def _chosen_bindings() -> str:
    asked = os.environ.get(ENVIRONMENT)
    if asked is not None and asked not in BINDINGS:
        raise MissingDependency(
            f"{ENVIRONMENT} names no CUDA bindings.",
            expected=" or ".join(BINDINGS),
            got=asked,
            fix=f"unset {ENVIRONMENT}",
        )
    for name in [asked] if asked else BINDINGS:
        if vendor.is_installed(BINDINGS[name]):
            return name
    raise MissingDependency(
        "No CUDA bindings for Python are installed.",
        expected=asked or " or ".join(BINDINGS),
        got="nothing to import",
        fix=f"pip install {asked or 'cuda-python'}",
    )


def no_gpu(reason: object) -> NoGpu:
    """The error of a machine whose driver or GPU cannot be used."""
    return NoGpu(
        "No NVIDIA GPU can be used.",
        expected="an NVIDIA GPU and its driver",
        got=reason,
        fix="install the driver until `nvidia-smi` lists the GPU, or use the onnxruntime backend",
    )


def out_of_memory(what: str, size_bytes: int, device: Device) -> EngineError:
    """The error of memory that could not be had, with the sizes."""
    try:
        free, everything = device.memory_bytes()
        got = f"{_mib(free)} free of {_mib(everything)} on {device.name}"
    except EngineError as exc:
        got = str(exc.got)
    return EngineError(
        f"There is not enough memory for {what}.",
        expected=_mib(size_bytes),
        got=got,
        fix="end what else uses the GPU (nvidia-smi lists it), open fewer inspectors, or build with a smaller batch",
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.1f} MiB"


class Owned:
    """What a device handed out, and how each thing is released."""

    def __init__(self) -> None:
        self._release: dict[Hashable, Callable[[], object]] = {}

    def __bool__(self) -> bool:
        return bool(self._release)

    def add(self, key: Hashable, release: Callable[[], object]) -> None:
        """Remember a thing under a key of its kind and handle."""
        self._release[key] = release

    def release(self, keys: Iterable[Hashable] | None = None) -> None:
        """Release the things named, or all, the newest first; a failure keeps none of the others.

        Raises:
            EngineError: The first failure, after everything was tried.
        """
        failures = []
        for key in list(keys or reversed(self._release)):
            try:
                self._release.pop(key)()
            except EngineError as exc:
                failures.append(exc)
        if failures:
            raise failures[0]
