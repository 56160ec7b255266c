"""A GPU made of ordinary memory, to check call order and buffer sizes where there is no real one.

`FakeRuntime` stands for `cuda.bindings.runtime`, `FakePyCuda` for `pycuda.driver`, `FakeTrt` for TensorRT. Pointers are
real addresses, every copy must lie within memory that is allocated at that moment, and the fake engine computes from
the bytes it finds at its addresses, so a wrong size, order or pointer gives a wrong answer or an AssertionError.
"""

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

CAPABILITY = (8, 9)


class Memory:
    """What is allocated now, by address."""

    def __init__(self) -> None:
        self._blocks: dict[int, Any] = {}

    @property
    def size_bytes(self) -> int:
        return sum(ctypes.sizeof(block) for block in self._blocks.values())

    def allocate(self, size_bytes: int) -> int:
        block = (ctypes.c_ubyte * size_bytes)(*(0xAB,) * size_bytes)  # 0xAB: what was never written shows
        address = ctypes.addressof(block)
        self._blocks[address] = block
        return address

    def free(self, address: int) -> None:
        del self._blocks[address]

    def check(self, address: int, size_bytes: int) -> None:
        inside = any(
            start <= address and address + size_bytes <= start + ctypes.sizeof(block)
            for start, block in self._blocks.items()
        )
        assert inside, f"{size_bytes} bytes at {address:#x} are not allocated"

    def copy(self, to: int, source: int, size_bytes: int) -> None:
        self.check(to, size_bytes)
        self.check(source, size_bytes)
        ctypes.memmove(to, source, size_bytes)

    def array(self, address: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.check(address, size_bytes)
        return np.ctypeslib.as_array((ctypes.c_ubyte * size_bytes).from_address(address)).view(dtype).reshape(shape)


class Status(enum.IntEnum):
    cudaSuccess = 0  # noqa: N815  # CUDA's own names
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorNoDevice = 100  # noqa: N815
    cudaErrorLaunchFailure = 719  # noqa: N815


class FakeRuntime:
    """cuda.bindings.runtime.

    Attributes:
        calls: Names of the functions called, in order.
        failing: Status by function name, for those that shall fail.
    """

    cudaHostAllocDefault = 0  # noqa: N815
    cudaDeviceAttr = SimpleNamespace(  # noqa: N815
        cudaDevAttrComputeCapabilityMajor=0, cudaDevAttrComputeCapabilityMinor=1
    )
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self) -> None:
        self.memory = Memory()
        self.streams: set[int] = set()
        self.calls: list[str] = []
        self.failing: dict[str, Status] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            if name in self.failing:
                return (self.failing[name], None)
            return (Status.cudaSuccess, *getattr(self, f"_{name}")(*arguments))

        return call

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:  # noqa: N802
        return Status.cudaSuccess, b"said in words"

    def _cudaGetDeviceCount(self) -> tuple[int]:  # noqa: N802
        return (1,)

    def _cudaDeviceGetAttribute(self, attribute: int, ordinal: int) -> tuple[int]:  # noqa: N802
        return (CAPABILITY[attribute],)

    def _cudaSetDevice(self, ordinal: int) -> tuple[()]:  # noqa: N802
        return ()

    def _cudaStreamCreateWithFlags(self, flags: int) -> tuple[int]:  # noqa: N802
        assert flags == 1, "the stream must not wait for the default stream"
        self.streams.add(77)
        return (77,)

    def _cudaStreamDestroy(self, stream: int) -> tuple[()]:  # noqa: N802
        self.streams.remove(stream)
        return ()

    def _cudaStreamSynchronize(self, stream: int) -> tuple[()]:  # noqa: N802
        assert stream in self.streams
        return ()

    def _cudaMalloc(self, size_bytes: int) -> tuple[int]:  # noqa: N802
        return (self.memory.allocate(size_bytes),)

    def _cudaHostAlloc(self, size_bytes: int, flags: int) -> tuple[int]:  # noqa: N802
        return (self.memory.allocate(size_bytes),)

    def _cudaFree(self, address: int) -> tuple[()]:  # noqa: N802
        self.memory.free(address)
        return ()

    def _cudaFreeHost(self, address: int) -> tuple[()]:  # noqa: N802
        self.memory.free(address)
        return ()

    def _cudaMemcpyAsync(self, to: int, source: int, size_bytes: int, kind: int, stream: int) -> tuple[()]:  # noqa: N802
        assert stream in self.streams
        self.memory.copy(to, source, size_bytes)
        return ()


class FakePyCuda:
    """pycuda.driver, which raises where cuda-python returns a status. Attributes as FakeRuntime's."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        self.memory = Memory()
        self.streams: set[int] = set()
        self.calls: list[str] = []
        self.failing: dict[str, str] = {}
        self._active = 0

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise self.Error(f"{name} failed: {self.failing[name]}")

    def init(self) -> None:
        self._called("init")

    def Device(self, ordinal: int) -> Any:  # noqa: N802
        context = SimpleNamespace(push=lambda: self._shift(1), pop=lambda: self._shift(-1))
        return SimpleNamespace(compute_capability=lambda: CAPABILITY, retain_primary_context=lambda: context)

    def _shift(self, by: int) -> None:
        self._active += by

    def Stream(self, flags: int) -> Any:  # noqa: N802
        assert self._active == 1
        assert flags == 1, "the stream must not wait for the default stream"
        self.streams.add(77)
        return SimpleNamespace(handle=77, synchronize=lambda: self._called("synchronize"))

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        self._called("pagelocked_empty")
        assert self._active == 1
        size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = self.memory.allocate(size_bytes)
        view = self.memory.array(address, shape, dtype)
        owner = SimpleNamespace(__array_interface__=view.__array_interface__, free=lambda: self.memory.free(address))
        return np.asarray(owner)

    def mem_alloc(self, size_bytes: int) -> Any:
        self._called("mem_alloc")
        assert self._active == 1
        address = self.memory.allocate(size_bytes)

        class Allocation:
            def __int__(self) -> int:
                return address

            def free(_) -> None:  # noqa: N805  # self is the fake
                self.memory.free(address)

        return Allocation()

    def memcpy_htod_async(self, pointer: int, array: npt.NDArray[Any], stream: Any) -> None:
        self._called("memcpy_htod_async")
        assert self._active == 1
        self.memory.copy(pointer, array.ctypes.data, array.nbytes)

    def memcpy_dtoh_async(self, array: npt.NDArray[Any], pointer: int, stream: Any) -> None:
        self._called("memcpy_dtoh_async")
        assert self._active == 1
        self.memory.copy(array.ctypes.data, pointer, array.nbytes)


class FakeTrt:
    """TensorRT with one engine: the map is the mean of the channels, the score its maximum.

    Attributes:
        frame: (height, width) the engine was compiled for.
        loads: Whether the engine deserialises.
        runs: Whether it runs.
        calls: Names of what was called, into the list it is given.
    """

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    def __init__(self, memory: Memory, calls: list[str], frame: tuple[int, int]) -> None:
        self.memory, self.calls, self.frame = memory, calls, frame
        self.loads = self.runs = self.creates_context = True
        self.map_dtype: type[np.generic] = np.float32

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        self.logger = logger
        return SimpleNamespace(deserialize_cuda_engine=self._deserialize)

    def _deserialize(self, content: bytes) -> Any:
        self.calls.append("deserialize")
        if not self.loads:
            self.logger.log(self.ILogger.WARNING, "not worth telling")
            self.logger.log(self.ILogger.ERROR, "Version tag does not match.")
            return None
        return _FakeEngine(self)

    @staticmethod
    def nptype(dtype: type[np.generic]) -> type[np.generic]:
        return dtype


class _FakeEngine:
    def __init__(self, trt: FakeTrt) -> None:
        self._trt = trt

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return {"image": (-1, *self._trt.frame, 3), "anomaly_map": (-1, *self._trt.frame), "score": (-1,)}[name]

    def get_tensor_dtype(self, name: str) -> type[np.generic]:
        return {"image": np.uint8, "anomaly_map": self._trt.map_dtype, "score": np.float32}[name]

    def create_execution_context(self) -> Any:
        if self._trt.creates_context:
            return _FakeContext(self._trt, self)
        self._trt.logger.log(FakeTrt.ILogger.ERROR, "out of memory")
        return None


class _FakeContext:
    def __init__(self, trt: FakeTrt, engine: _FakeEngine) -> None:
        self._trt, self._engine = trt, engine
        self._addresses: dict[str, int] = {}
        self._batch = -1

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._trt.calls.append(f"set_input_shape {shape[0]}")
        self._batch = shape[0]
        return name == "image" and shape[1:] == (*self._trt.frame, 3)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self._batch, *self._engine.get_tensor_shape(name)[1:])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self._trt.calls.append("execute")
        assert stream == 77
        if not self._trt.runs:
            self._trt.logger.log(FakeTrt.ILogger.ERROR, "an illegal memory access was encountered")
            return False
        image, anomaly_map, score = (
            self._trt.memory.array(
                self._addresses[name], self.get_tensor_shape(name), self._engine.get_tensor_dtype(name)
            )
            for name in ("image", "anomaly_map", "score")
        )
        anomaly_map[:] = image.mean(axis=3, dtype=np.float32)
        score[:] = anomaly_map.max(axis=(1, 2))
        return True
