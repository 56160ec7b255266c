"""The CUDA seam: the same behaviour through both bindings, and every status checked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_ad.backends import cuda, vendor
from edge_ad.backends.cuda import Device
from edge_ad.backends.standin import Gpu
from edge_ad.errors import EngineError, MissingDependency, NoGpu


def test_bytes_come_back_from_the_device(either: Gpu) -> None:
    device = cuda.open_device()
    with device.active():
        stream = device.stream()
        sent, back = device.pinned((2, 3), np.uint8), device.pinned((2, 3), np.uint8)
        pointer, other = device.memory(6), device.memory(6)
        sent[:] = [[1, 2, 3], [4, 5, 6]]
        back[:] = 0
        device.upload(pointer, sent, stream=stream)
        device.copy(other, pointer, 6, stream=stream)
        device.download(back[:1], other, stream=stream)
        device.synchronize(stream=stream)
    assert back.tolist() == [[1, 2, 3], [0, 0, 0]]
    device.close()


def test_a_device_says_what_it_is(either: Gpu) -> None:
    device = cuda.open_device()
    assert (device.name, device.capability, device.driver) == ("stand-in GPU", (8, 9), (13, 0))
    assert not device.integrated


def test_mapped_memory_is_one_for_host_and_gpu(either: Gpu) -> None:
    device = cuda.open_device()
    with device.active():
        stream = device.stream()
        there, pointer = device.mapped((4,), np.uint8)
        sent = device.pinned((4,), np.uint8)
        sent[:] = [1, 2, 3, 4]
        gpu = device.memory(4)
        device.upload(gpu, sent, stream=stream)
        device.copy(pointer, gpu, 4, stream=stream)
        device.synchronize(stream=stream)
    assert there.tolist() == [1, 2, 3, 4]
    device.close()


def test_pinned_arrays_have_the_asked_dtype(either: Gpu) -> None:
    device = cuda.open_device()
    with device.active():
        array = device.pinned((4, 5), np.float32)
    assert (array.shape, array.dtype, array.nbytes, array.flags.writeable) == ((4, 5), np.float32, 80, True)
    assert either.held() == {"pinned buffers": 1}
    device.close()


def test_events_take_the_time(either: Gpu) -> None:
    device = cuda.open_device()
    with device.active():
        stream = device.stream()
        start, end = device.event(), device.event()
        for event in (start, end):
            device.record(event, stream=stream)
        device.synchronize(stream=stream)
        assert device.elapsed_ms(start, end) >= 0
    device.close()


@pytest.mark.parametrize("default", [True, False])
def test_a_stream_follows_somebody_elses(either: Gpu, default: bool) -> None:
    """Without following, the stand-in raises Misuse for the unordered copy."""
    device = cuda.open_device()
    values = np.arange(6, dtype=np.uint8)
    array = either.array(values, stream=1 if default else either.stream())
    with device.active():
        stream, back = device.stream(), device.pinned((6,), np.uint8)
        device.follow(array.stream, stream=stream)
        device.download(back, array.pointer, stream=stream)
        device.synchronize(stream=stream)
    assert back.tolist() == values.tolist()
    array.free()
    device.close()
    if not default:
        either.machine.remove_stream(array.stream)


def test_close_releases_everything_and_works_twice(either: Gpu) -> None:
    device = cuda.open_device()
    with device.active():
        device.stream()
        device.event()
        device.pinned((8,), np.uint8)
        device.mapped((8,), np.uint8)
        device.memory(16)
    assert sum(either.held().values()) == 5
    device.close()
    assert either.held() == {}
    device.close()


def test_one_failing_release_keeps_none_of_the_others(stand_in: Gpu) -> None:
    device = cuda.open_device()
    with device.active():
        device.stream()
        device.memory(16)
        device.pinned((8,), np.uint8)
    stand_in.fail("cudaFree", "cudaErrorInvalidValue")
    with pytest.raises(EngineError, match="cudaFree failed"):
        device.close()
    assert stand_in.held() == {"gpu buffers": 1}
    device.close()
    stand_in.mend()
    stand_in.machine.blocks.clear()


def test_memory_that_runs_out_is_told_with_sizes(either: Gpu) -> None:
    either.machine.memory_bytes = 4 << 20
    device = cuda.open_device()
    with device.active():
        device.memory(1 << 20)
        with pytest.raises(EngineError, match="not enough memory for a buffer on the GPU") as caught:
            device.memory(2048 << 20)
    assert caught.value.expected == "2,048.0 MiB"
    assert caught.value.got == "3.0 MiB free of 4.0 MiB on stand-in GPU"
    assert "nvidia-smi" in str(caught.value.fix)
    device.close()
    assert either.held() == {}


def test_a_failing_call_leaves_no_error_for_others_to_find(stand_in: Gpu) -> None:
    """cudaGetLastError clears it: TensorRT would take it for its own."""
    device = cuda.open_device()
    stand_in.fail("cudaStreamCreateWithFlags", "cudaErrorInvalidValue")
    with device.active(), pytest.raises(EngineError):
        device.stream()
    assert stand_in.calls[-2:] == ["cudaGetLastError", "cudaGetErrorString"]


def test_asking_for_the_capability_creates_no_context(stand_in: Gpu) -> None:
    assert cuda.compute_capability() == (8, 9)
    asked = {"cudaGetDeviceCount", "cudaGetDeviceProperties", "cudaDriverGetVersion", "cudaDeviceGetAttribute"}
    assert set(stand_in.calls) == asked


def test_no_device_is_no_gpu(either: Gpu) -> None:
    either.fail("cudaGetDeviceCount", "cudaErrorNoDevice")
    with pytest.raises(NoGpu) as caught:
        cuda.open_device()
    assert caught.value.expected == "an NVIDIA GPU and its driver"
    assert "cudaErrorNoDevice" in str(caught.value.got)
    assert "nvidia-smi" in str(caught.value.fix)


def _capture(device: Device, array: Any) -> None:
    device.capture(lambda: None, stream=device.stream())


CALLS: dict[str, Callable[[Device, Any], object]] = {
    "cudaStreamCreateWithFlags": lambda device, array: device.stream(),
    "cudaHostAlloc": lambda device, array: device.pinned((1,), np.uint8),
    "cudaMalloc": lambda device, array: device.memory(1),
    "cudaMemGetInfo": lambda device, array: device.memory_bytes(),
    "cudaMemcpyAsync": lambda device, array: device.upload(0, array, stream=77),
    "cudaStreamSynchronize": lambda device, array: device.synchronize(stream=77),
    "cudaSetDevice": lambda device, array: device.active().__enter__(),
    "cudaHostGetDevicePointer": lambda device, array: device.mapped((1,), np.uint8),
    "cudaEventCreateWithFlags": lambda device, array: device.event(),
    "cudaEventRecord": lambda device, array: device.record(device.event(), stream=1),
    "cudaEventElapsedTime": lambda device, array: device.elapsed_ms(0, 0),
    "cudaStreamWaitEvent": lambda device, array: device.follow(1, stream=device.stream()),
    "cudaStreamBeginCapture": _capture,
    "cudaStreamEndCapture": _capture,
    "cudaGraphInstantiate": _capture,
    "cudaGraphLaunch": lambda device, array: device.launch(0, stream=77),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_status_is_checked(stand_in: Gpu, name: str) -> None:
    device = cuda.open_device()
    stand_in.fail(name, "cudaErrorInvalidValue")
    with pytest.raises(EngineError, match=f"{name} failed") as caught:
        CALLS[name](device, np.zeros(1, np.uint8))
    assert str(caught.value.got).startswith("cudaErrorInvalidValue: ")
    assert "open a new one" in str(caught.value.fix)
    device.close()


def test_an_error_that_loses_the_gpu_says_so(either: Gpu) -> None:
    device = cuda.open_device()
    with device.active():
        stream = device.stream()
        either.fail("cudaStreamSynchronize", "cudaErrorLaunchFailure")
        with pytest.raises(EngineError) as caught:
            device.synchronize(stream=stream)
    assert "restart the process" in str(caught.value.fix)


def test_a_capture_that_fails_leaves_the_stream_usable(stand_in: Gpu) -> None:
    device = cuda.open_device()
    with device.active():
        stream, pointer, array = device.stream(), device.memory(1), device.pinned((1,), np.uint8)
        array[:] = 5

        def queue() -> None:
            raise EngineError("TensorRT refuses to run.")

        with pytest.raises(EngineError, match="TensorRT refuses"):
            device.capture(queue, stream=stream)
        device.upload(pointer, array, stream=stream)
        device.synchronize(stream=stream)
    device.close()


def test_a_graph_repeats_what_was_captured(stand_in: Gpu) -> None:
    device = cuda.open_device()
    with device.active():
        stream, pointer = device.stream(), device.memory(1)
        sent, back = device.pinned((1,), np.uint8), device.pinned((1,), np.uint8)

        def queue() -> None:
            device.upload(pointer, sent, stream=stream)
            device.download(back, pointer, stream=stream)

        graph = device.capture(queue, stream=stream)
        for value in (3, 4):
            sent[:] = value
            device.launch(graph, stream=stream)
            device.synchronize(stream=stream)
            assert back[0] == value
        device.discard(graph)
    assert "graphs" not in stand_in.held()
    device.close()


@pytest.mark.parametrize(
    ("asked", "installed", "expected"),
    [
        (None, {"cuda.bindings.runtime", "pycuda.driver"}, "cuda-python"),
        (None, {"pycuda.driver"}, "pycuda"),
        ("pycuda", {"cuda.bindings.runtime", "pycuda.driver"}, "pycuda"),
    ],
)
def test_which_bindings(monkeypatch: pytest.MonkeyPatch, asked: str | None, installed: set[str], expected: str) -> None:
    _choose(monkeypatch, asked, installed)
    assert cuda._chosen_bindings() == expected


@pytest.mark.parametrize(
    ("asked", "installed", "message"),
    [
        ("cupy", {"cuda.bindings.runtime"}, "EDGE_AD_CUDA names no CUDA bindings"),
        ("pycuda", {"cuda.bindings.runtime"}, "pip install pycuda"),
        (None, set(), "pip install cuda-python"),
    ],
)
def test_bindings_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, installed: set[str], message: str
) -> None:
    _choose(monkeypatch, asked, installed)
    with pytest.raises(MissingDependency, match=message):
        cuda.open_device()


def _choose(monkeypatch: pytest.MonkeyPatch, asked: str | None, installed: set[str]) -> None:
    monkeypatch.setattr(vendor, "is_installed", lambda module: module in installed)
    monkeypatch.delenv(cuda.ENVIRONMENT, raising=False)
    if asked:
        monkeypatch.setenv(cuda.ENVIRONMENT, asked)


def test_a_missing_parent_package_is_not_installed() -> None:
    assert not vendor.is_installed("no_such_package.driver")


def test_bindings_that_do_not_load_are_a_missing_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libcudart.so.13: cannot open shared object file")

    _choose(monkeypatch, None, {"cuda.bindings.runtime"})
    monkeypatch.setattr(vendor, "load", broken)
    with pytest.raises(MissingDependency, match=r"cuda-python cannot be loaded(.|\n)*libcudart"):
        cuda.open_device()


def test_importing_the_backend_loads_neither_cuda_nor_tensorrt() -> None:
    code = "import sys, edge_ad.backends.tensorrt; print(*{name.partition('.')[0] for name in sys.modules})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"cuda", "pycuda", "tensorrt", "tensorrt_rtx", "onnxruntime", "torch"}.isdisjoint(answer.split())


def test_real_machine_without_gpu(no_gpu: None) -> None:
    with pytest.raises(NoGpu) as caught:
        cuda.compute_capability()
    assert str(caught.value.got)
    assert "onnxruntime backend" in str(caught.value.fix)


@pytest.mark.gpu
def test_real_device_moves_bytes(gpu: tuple[int, int]) -> None:
    device = cuda.open_device()
    rng = np.random.default_rng(0)
    with device.active():
        stream = device.stream()
        sent, back = device.pinned((1000,), np.uint8), device.pinned((1000,), np.uint8)
        sent[:], back[:] = rng.integers(0, 256, 1000), 0
        pointer = device.memory(1000)
        device.upload(pointer, sent, stream=stream)
        device.download(back, pointer, stream=stream)
        device.synchronize(stream=stream)
        assert np.array_equal(sent, back)
    device.close()
    device.close()
