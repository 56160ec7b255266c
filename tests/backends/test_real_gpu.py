"""What only a GPU can prove: the calls that the stand-in rehearses, on the real thing."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from build_engines import BuildOptions, build
from build_engines.targets import known_targets
from edge_ad import Inspector
from edge_ad.backends import cuda
from edge_ad.backends.cuda import open_device
from edge_ad.backends.execution import ExecutionOptions
from edge_ad.backends.flavours import load_flavour, target_of
from edge_ad.backends.tensorrt import TensorRtBackend
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineError, FrameError
from tests.backends.conftest import frames
from tests.golden_bundle import golden_bundle, swap_file

pytestmark = pytest.mark.gpu

TOLERANCE = 1e-3  # of scores about 0.2; the same kernels, but batches may use others


@pytest.fixture
def served(tmp_path: Path, gpu: tuple[int, int]) -> Bundle:
    """fp32 with golden vectors and an engine for this GPU, batches of 1 to 4."""
    if target_of(gpu) not in known_targets(load_flavour()):
        pytest.skip(f"{load_flavour().title} does not serve {target_of(gpu)}")
    bundle = golden_bundle(tmp_path / "tiny.bundle", "fp32")
    build(bundle, BuildOptions(targets=("this-gpu",), max_batch=4))
    return bundle


@pytest.fixture
def inspector(served: Bundle) -> Iterator[Inspector]:
    with Inspector(served, precision="fp32", backend="tensorrt") as inspector:
        yield inspector


def free_bytes() -> int:
    device = open_device()
    with device.active():
        return device.memory_bytes()[0]


def test_a_graph_is_captured_and_answers_as_kernel_by_kernel_does(served: Bundle) -> None:
    with_graph = TensorRtBackend(served, "fp32")
    without = TensorRtBackend(served, "fp32", ExecutionOptions(cuda_graph=False))
    assert with_graph.graph_state in ("captured", "TensorRT-RTX's own"), with_graph.graph_state
    for count in (1, 1, 4, 4, 4, 2, 1, 1, 7):
        for got, expected in zip(with_graph.run(frames(count)), without.run(frames(count)), strict=True):
            assert np.abs(got - expected).max() <= TOLERANCE
    with_graph.close()
    without.close()


def test_zero_copy_answers_as_copies_do(served: Bundle) -> None:
    mapped = TensorRtBackend(served, "fp32", ExecutionOptions(zero_copy=True))
    copied = TensorRtBackend(served, "fp32", ExecutionOptions(zero_copy=False))
    for count in (1, 1, 1, 3):
        for got, expected in zip(mapped.run(frames(count)), copied.run(frames(count)), strict=True):
            assert np.abs(got - expected).max() <= TOLERANCE
    mapped.close()
    copied.close()


def test_ten_thousand_inspections_leak_nothing(served: Bundle, inspector: Inspector) -> None:
    images = frames(4)

    def inspect(times: int) -> tuple[int, int]:
        for number in range(times):
            inspector.inspect_batch(list(images[: 1 + number // 100 % 4]))
        return free_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    free_before, host_before_kib = inspect(1_000)
    free_after, host_after_kib = inspect(10_000)
    assert free_before - free_after < 2 << 20
    assert host_after_kib - host_before_kib < 8 << 10


def test_a_hundred_inspectors_leak_nothing(served: Bundle) -> None:
    for number in range(110):
        if number == 10:
            before = free_bytes()
        Inspector(served, precision="fp32", backend="tensorrt").close()
    assert before - free_bytes() < 2 << 20


def test_threads_with_inspectors_of_their_own(served: Bundle) -> None:
    images = frames(64)
    with Inspector(served, precision="fp32", backend="onnxruntime") as reference:
        expected = np.array([reference.inspect(image).score for image in images])

    def work(number: int) -> None:
        with Inspector(served, precision="fp32", backend="tensorrt") as own:
            for _ in range(20):
                got = np.array([own.inspect(image).score for image in images[number::4]])
                assert np.abs(got - expected[number::4]).max() <= TOLERANCE

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, number) for number in range(4)]:
            future.result()


def test_threads_that_share_an_inspector(inspector: Inspector) -> None:
    images = frames(64)
    expected = [inspector.inspect(image).score for image in images]

    def work(number: int) -> None:
        for _ in range(20):
            assert [inspector.inspect(image).score for image in images[number::4]] == expected[number::4]

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, number) for number in range(4)]:
            future.result()


def _on_device(library: str, values: Any) -> Any:
    module = pytest.importorskip(library)
    if library == "torch":
        if not module.cuda.is_available():
            pytest.skip("this torch has no CUDA")
        return module.from_numpy(values).cuda()
    if library == "pycuda.gpuarray":
        pytest.importorskip("pycuda.autoprimaryctx")
        return module.to_gpu(values)
    return module.asarray(values)


@pytest.mark.parametrize("library", ["torch", "cupy", "pycuda.gpuarray"])
def test_arrays_of_other_libraries_are_read_where_they_are(inspector: Inspector, library: str) -> None:
    images = frames(4)
    expected = [inspection.score for inspection in inspector.inspect_batch(list(images))]
    batch = _on_device(library, images)
    for _ in range(3):
        got = [inspection.score for inspection in inspector.inspect_batch(batch)]
        assert np.abs(np.subtract(got, expected)).max() <= TOLERANCE
    single = _on_device(library, images[2])
    assert abs(inspector.inspect(single).score - expected[2]) <= TOLERANCE
    with pytest.raises(FrameError, match="does not fit the input contract"):
        inspector.inspect(_on_device(library, images[0].astype(np.float32)))


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_an_array_that_is_still_being_written_is_waited_for(inspector: Inspector, library: str) -> None:
    """Much work on another stream comes before the frame's values; every answer must be of the new ones."""
    module = pytest.importorskip(library)
    images = frames(4)
    expected = [inspector.inspect(image).score for image in images]
    sources, frame = [_on_device(library, image) for image in images], _on_device(library, images[0] * 0)
    busy = (
        module.ones((2048, 2048), device="cuda")
        if library == "torch"
        else module.ones((2048, 2048), dtype=module.float32)
    )
    stream = module.cuda.Stream() if library == "torch" else module.cuda.Stream(non_blocking=True)
    with module.cuda.stream(stream) if library == "torch" else stream:
        for number in range(40):
            for _ in range(5):
                busy = busy @ busy * 0 + 1
            frame[...] = sources[number % 4]
            assert abs(inspector.inspect(frame).score - expected[number % 4]) <= TOLERANCE


def test_the_second_start_reads_the_runtime_cache(served: Bundle, tmp_path: Path) -> None:
    if load_flavour().name != "rtx":
        pytest.skip("TensorRT has no runtime cache")
    Inspector(served, precision="fp32", backend="tensorrt").close()
    (file,) = (tmp_path / "cache").glob("*.cache")
    written = file.stat().st_mtime_ns
    Inspector(served, precision="fp32", backend="tensorrt").close()
    assert file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:-1])
    Inspector(served, precision="fp32", backend="tensorrt").close()
    assert file.stat().st_mtime_ns != written


@pytest.mark.parametrize("damage", [lambda engine: engine[:-1000], lambda engine: b"\0" * len(engine), lambda _: b""])
def test_a_damaged_engine_is_told_and_the_process_goes_on(served: Bundle, damage: Any) -> None:
    (entry,) = served.manifest.engines
    sound = served.read(entry.file)
    swap_file(served.path, entry.file, damage(sound))
    with pytest.raises(EngineError, match="cannot be loaded"):
        Inspector(Bundle(served.path), precision="fp32", backend="tensorrt")
    swap_file(served.path, entry.file, sound)
    Inspector(Bundle(served.path), precision="fp32", backend="tensorrt").close()


def test_out_of_memory_is_told_with_sizes_and_the_process_goes_on(served: Bundle) -> None:
    device = open_device()
    with device.active():
        stack = [device.memory_bytes()[0]]
        while stack[-1] > 1 << 20:  # fills all but a MiB, in halves, since fragments stay free
            try:
                device.memory(stack[-1] // 2)
            except EngineError as exc:
                assert "free of" in str(exc.got)
                break
            stack.append(device.memory_bytes()[0])
        before = device.memory_bytes()[0]
        with pytest.raises(EngineError):
            device.memory(before + (64 << 20))
    device.close()
    Inspector(served, precision="fp32", backend="tensorrt").close()


LOSE_THE_GPU = """
import sys
import numpy as np
from edge_ad import Inspector
from edge_ad.errors import EdgeAdError, InspectionFault
inspector = Inspector(sys.argv[1], precision="fp32", backend="tensorrt")
frame = np.zeros((*inspector.size, 3), np.uint8)
inspector._backend._device.holds = lambda pointer: True
class Nowhere:
    __cuda_array_interface__ = dict(
        version=3, shape=frame.shape, typestr="|u1", data=(0x10_0000_0000, False), strides=None, stream=None)
try:
    inspector.inspect(Nowhere())
except InspectionFault as fault:
    print(fault.fix)
inspector.close()
try:
    Inspector(sys.argv[1], precision="fp32", backend="tensorrt")
except EdgeAdError as error:
    print(type(error).__name__)
with Inspector(sys.argv[1], precision="fp32") as on_the_cpu:
    print(on_the_cpu.backend, on_the_cpu.inspect(frame).score)
"""


def test_a_lost_gpu_is_told_and_the_process_goes_on_without_it(served: Bundle) -> None:
    """A kernel reads an address that is nobody's; in a process of its own, which does not get its GPU back."""
    done = subprocess.run(
        [sys.executable, "-c", LOSE_THE_GPU, str(served.path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    advice, refused, served_by = done.stdout.splitlines()[-3:]
    assert advice == cuda.RESTART
    assert refused.endswith(("Error", "Gpu", "Mismatch"))
    assert "-cpu " in served_by
