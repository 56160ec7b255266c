"""The stand-in against the real modules: no name, and no number of arguments, that only the stand-in knows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_ad.backends import cuda
from edge_ad.backends.cuda_python import CudaPythonDevice
from edge_ad.backends.standin import cuda as standin_cuda
from edge_ad.backends.standin import trt as standin_trt
from edge_ad.errors import EngineError
from tests.tiny_bundle import needs_rtx


def test_every_function_is_one_of_cuda_pythons_with_as_many_arguments() -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    for name, function in standin_cuda._FUNCTIONS.items():
        declared = (getattr(real, name).__doc__ or "").partition("\n")[0]  # cudaFree(devPtr)
        arguments = [part for part in declared.partition("(")[2].rstrip(")").split(",") if part.strip()]
        assert len(arguments) == len(inspect.signature(function).parameters) - 1, declared
    for name in ("cudaHostAllocDefault", "cudaHostAllocMapped", "cudaEventDisableTiming"):
        assert getattr(real, name) == getattr(standin_cuda.CudaRuntime, name)
    for status in standin_cuda.Status:
        assert getattr(real.cudaError_t, status.name).value == status.value
    for name in ("cudaMemcpyKind", "cudaMemoryType", "cudaStreamCaptureMode"):
        for member, value in vars(getattr(standin_cuda.CudaRuntime, name)).items():
            assert getattr(getattr(real, name), member).value == value
    for member in vars(standin_cuda.CudaRuntime.cudaDeviceAttr):
        assert hasattr(real.cudaDeviceAttr, member)


def test_every_call_of_the_device_is_one_cuda_python_takes(no_gpu: None) -> None:
    """Without a driver the real functions return a status; with wrong arguments they would raise TypeError."""
    real = pytest.importorskip("cuda.bindings.runtime")
    device = object.__new__(CudaPythonDevice)
    device._cuda, device._owned, device.name = real, cuda.Owned(), "none"
    array = np.zeros(1, np.uint8)
    calls: list[Callable[[], object]] = [
        lambda: device.active().__enter__(),
        device.memory_bytes,
        device.stream,
        lambda: device.pinned((1,), np.uint8),
        lambda: device.mapped((1,), np.uint8),
        lambda: device.memory(1),
        lambda: device.upload(1, array, stream=1),
        lambda: device.download(array, 1, stream=1),
        lambda: device.copy(1, 1, 1, stream=1),
        lambda: device.follow(1, stream=2),
        lambda: device.capture(lambda: None, stream=3),
        lambda: device.launch(1, stream=1),
        device.event,
        lambda: device.record(1, stream=1),
        lambda: device.elapsed_ms(1, 1),
        lambda: device.synchronize(stream=1),
        lambda: device._call("cudaGraphInstantiate", 1, 0),
        lambda: device._call("cudaStreamEndCapture", 1),
        lambda: device._call("cudaStreamWaitEvent", 1, 1, 0),
        lambda: device._call("cudaHostGetDevicePointer", 1, 0),
        lambda: device._attribute("cudaDevAttrIntegrated"),
        lambda: device._call("cudaGetDeviceProperties", 0),
    ]
    for call in calls:
        with pytest.raises(EngineError, match="failed") as caught:
            call()
        assert "cudaErrorInsufficientDriver" in str(caught.value.got) or "cudaErrorNoDevice" in str(caught.value.got)
    assert not device.holds(1)


REAL = {
    standin_trt._RtxRuntime: "Runtime",
    standin_trt._RtxEngine: "ICudaEngine",
    standin_trt._RtxContext: "IExecutionContext",
    standin_trt._RuntimeConfig: "IRuntimeConfig",
    standin_trt._RuntimeCache: "IRuntimeCache",
    standin_trt._Logger: "ILogger",
}


@needs_rtx
@pytest.mark.parametrize("kind", REAL, ids=REAL.get)
def test_every_method_is_one_of_tensorrt_rtxs(kind: type) -> None:
    real = getattr(pytest.importorskip("tensorrt_rtx"), REAL[kind])
    public = [name for name in dir(kind) if not name.startswith("_")]
    own_bookkeeping = {"min_batch", "max_batch", "session", "cache", "batches"}
    assert set(public) - own_bookkeeping <= set(dir(real))


@needs_rtx
def test_every_name_of_the_module_is_one_of_tensorrt_rtxs() -> None:
    real = pytest.importorskip("tensorrt_rtx")
    machine: Any = SimpleNamespace()
    module = standin_trt.TensorRt(machine, "rtx")
    names = {name for name in (*dir(module), *vars(module)) if not name.startswith("_")}
    assert names <= set(dir(real))
    for group in ("CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy"):
        assert set(vars(getattr(module, group))) <= set(getattr(real, group).__members__)
    for name, value in module.EngineInvalidityDiagnostics.__members__.items():
        assert int(getattr(real.EngineInvalidityDiagnostics, name)) == value
    config = real.IRuntimeConfig
    for name in ("cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"):
        assert isinstance(getattr(config, name), property)
