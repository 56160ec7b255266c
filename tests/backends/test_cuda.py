"""The CUDA seam: the same behaviour through both bindings."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edge_ad.backends import cuda
from edge_ad.errors import EngineError, MissingDependency, NoGpu
from tests.backends.fake_gpu import CAPABILITY, FakePyCuda, FakeRuntime, Status

Fake = FakeRuntime | FakePyCuda


def test_bytes_come_back_from_the_device(fake_cuda: Fake) -> None:
    device = cuda.open_device()
    with device.active():
        stream = device.stream()
        sent, back = device.pinned((2, 3), np.uint8), device.pinned((2, 3), np.uint8)
        pointer = device.memory(6)
        sent[:] = [[1, 2, 3], [4, 5, 6]]
        back[:] = 0
        device.upload(pointer, sent, stream=stream)
        device.download(back[:1], pointer, stream=stream)
        device.synchronize(stream=stream)
    assert back.tolist() == [[1, 2, 3], [0, 0, 0]]
    assert device.capability == CAPABILITY
    device.close()


def test_pinned_arrays_have_the_asked_dtype(fake_cuda: Fake) -> None:
    device = cuda.open_device()
    with device.active():
        array = device.pinned((4, 5), np.float32)
    assert (array.shape, array.dtype, array.nbytes, array.flags.writeable) == ((4, 5), np.float32, 80, True)
    assert fake_cuda.memory.size_bytes == 80
    device.close()


def test_close_releases_everything_and_works_twice(fake_cuda: Fake) -> None:
    device = cuda.open_device()
    with device.active():
        device.stream()
        device.pinned((8,), np.uint8)
        device.memory(16)
    assert fake_cuda.memory.size_bytes == 24
    device.close()
    assert fake_cuda.memory.size_bytes == 0
    device.close()


def test_what_is_left_is_released_after_a_failure(fake_cuda: Fake) -> None:
    device = cuda.open_device()
    with device.active():
        device.pinned((8,), np.uint8)
        _fail(fake_cuda, "cudaMalloc", "mem_alloc")
        with pytest.raises(EngineError, match=r"cudaMalloc|mem_alloc"):
            device.memory(16)
    device.close()
    assert fake_cuda.memory.size_bytes == 0


def _fail(fake: Fake, runtime_name: str, pycuda_name: str) -> None:
    if isinstance(fake, FakeRuntime):
        fake.failing[runtime_name] = Status.cudaErrorMemoryAllocation
    else:
        fake.failing[pycuda_name] = "out of memory"


def test_asking_for_the_capability_creates_no_context(fake_cuda: Fake) -> None:
    assert cuda.compute_capability() == CAPABILITY
    assert set(fake_cuda.calls) <= {"init", "cudaGetDeviceCount", "cudaDeviceGetAttribute"}


def test_no_device_is_no_gpu(fake_cuda: Fake) -> None:
    _fail(fake_cuda, "cudaGetDeviceCount", "init")
    with pytest.raises(NoGpu) as caught:
        cuda.open_device()
    assert caught.value.expected == "an NVIDIA GPU and its driver"
    assert "said in words" in str(caught.value.got) or "out of memory" in str(caught.value.got)
    assert "nvidia-smi" in str(caught.value.fix)


CALLS = {
    "cudaStreamCreateWithFlags": lambda device, array: device.stream(),
    "cudaHostAlloc": lambda device, array: device.pinned((1,), np.uint8),
    "cudaMalloc": lambda device, array: device.memory(1),
    "cudaMemcpyAsync": lambda device, array: device.upload(0, array, stream=77),
    "cudaStreamSynchronize": lambda device, array: device.synchronize(stream=77),
    "cudaSetDevice": lambda device, array: device.active().__enter__(),
}


@pytest.mark.parametrize("fake_cuda", ["cuda-python"], indirect=True)
@pytest.mark.parametrize("name", CALLS)
def test_every_status_is_checked(fake_cuda: FakeRuntime, name: str) -> None:
    device = cuda.open_device()
    fake_cuda.failing[name] = Status.cudaErrorLaunchFailure
    with pytest.raises(EngineError, match=f"{name} failed") as caught:
        CALLS[name](device, np.zeros(1, np.uint8))
    assert caught.value.got == "cudaErrorLaunchFailure: said in words"


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
    monkeypatch.setattr(cuda, "_is_installed", lambda module: module in installed)
    monkeypatch.delenv(cuda.ENVIRONMENT, raising=False)
    if asked:
        monkeypatch.setenv(cuda.ENVIRONMENT, asked)


def test_a_missing_parent_package_is_not_installed() -> None:
    assert not cuda._is_installed("no_such_package.driver")


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
