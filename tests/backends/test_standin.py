"""The stand-in fails on what a GPU would forgive by luck."""

from __future__ import annotations

import importlib
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_ad import Bundle, Inspector
from edge_ad.backends import cuda, standin, vendor
from edge_ad.backends.cuda import Device
from edge_ad.backends.standin import Gpu, Misuse
from edge_ad.errors import EngineError, InspectionFault
from tests.backends.conftest import frames
from tests.golden_bundle import golden_bundle
from tests.tiny_bundle import HEIGHT, WIDTH

FRAME_BYTES, MAP_BYTES = HEIGHT * WIDTH * 3, HEIGHT * WIDTH * 4


class Hands:
    """TensorRT and CUDA driven by hand, right unless a test leaves something out."""

    def __init__(self, gpu: Gpu, bundle: Bundle, max_batch: int = 1) -> None:
        entry = standin.add_engine(bundle, "fp32", max_batch=max_batch)
        trt: Any = vendor.load("tensorrt_rtx")
        self.runtime = trt.Runtime(trt.ILogger())
        self.engine = self.runtime.deserialize_cuda_engine(bundle.read(entry.file))
        self.context = self.engine.create_execution_context()
        self.device: Device = cuda.open_device()
        self.stream = self.device.stream()
        self.image = self.device.pinned((max_batch, HEIGHT, WIDTH, 3), np.uint8)
        self.score = self.device.pinned((max_batch,), np.float32)
        self.pointers = {"image": self.device.memory(max_batch * FRAME_BYTES)}
        self.pointers |= {"anomaly_map": self.device.memory(max_batch * MAP_BYTES)}
        self.pointers |= {"score": self.device.memory(max_batch * 4)}
        self.image[:] = frames(max_batch)

    def bind(self, batch: int = 1) -> None:
        self.context.set_input_shape("image", (batch, HEIGHT, WIDTH, 3))
        for name, pointer in self.pointers.items():
            self.context.set_tensor_address(name, pointer)

    def upload(self, stream: int | None = None) -> None:
        self.device.upload(self.pointers["image"], self.image, stream=stream or self.stream)

    def run(self, stream: int | None = None) -> None:
        assert self.context.execute_async_v3(stream or self.stream)

    def download(self) -> None:
        self.device.download(self.score, self.pointers["score"], stream=self.stream)

    def wait(self) -> None:
        self.device.synchronize(stream=self.stream)

    def infer(self) -> None:
        self.upload()
        self.run()
        self.download()


@pytest.fixture
def hands(stand_in: Gpu, bundle: Bundle) -> Iterator[Hands]:
    yield Hands(stand_in, bundle, max_batch=2)
    stand_in.machine.lost = "cudaErrorLaunchFailure"  # what misuse leaves behind is not the point


def test_the_right_sequence_gives_the_right_answer(hands: Hands, bundle: Bundle) -> None:
    hands.bind(2)
    hands.infer()
    hands.wait()
    with Inspector(bundle, precision="fp32", backend="onnxruntime") as reference:
        assert np.allclose(hands.score, reference.answer(hands.image)[1], atol=1e-5)


def _no_addresses(hands: Hands) -> None:
    hands.context.set_input_shape("image", (1, HEIGHT, WIDTH, 3))
    hands.run()


def _no_shape(hands: Hands) -> None:
    for name, pointer in hands.pointers.items():
        hands.context.set_tensor_address(name, pointer)
    hands.run()


def _small_buffer(hands: Hands) -> None:
    hands.pointers["anomaly_map"] = hands.device.memory(MAP_BYTES)
    hands.bind(2)
    hands.run()


def _host_address(hands: Hands) -> None:
    hands.pointers["image"] = hands.image.ctypes.data
    hands.bind()
    hands.run()


def _unaligned_address(hands: Hands) -> None:
    hands.pointers["image"] += 4
    hands.bind()


def _freed_buffer(hands: Hands) -> None:
    hands.bind()
    hands.infer()
    hands.device.close()


def _copy_beyond_the_buffer(hands: Hands) -> None:
    hands.device.upload(hands.pointers["score"], hands.image, stream=hands.stream)


def _copy_the_wrong_way(hands: Hands) -> None:
    hands.device.download(hands.image, hands.image.ctypes.data, stream=hands.stream)


def _upload_on_another_stream(hands: Hands) -> None:
    hands.bind(2)
    hands.upload(stream=hands.device.stream())
    hands.run()
    hands.wait()


def _overwritten_while_another_stream_reads(hands: Hands) -> None:
    other = hands.device.stream()
    hands.device.download(hands.score, hands.pointers["score"], stream=other)
    hands.bind()
    hands.run()
    hands.wait()


def _host_writes_before_the_wait(hands: Hands) -> None:
    hands.bind(2)
    hands.upload()
    hands.image[:] = 0
    hands.wait()


def _default_stream(hands: Hands) -> None:
    hands.bind()
    hands.run(stream=1)


def _copy_on_the_default_stream(hands: Hands) -> None:
    hands.upload(stream=1)


def _capture_without_warm_up(hands: Hands) -> None:
    hands.bind()
    hands.device.capture(hands.infer, stream=hands.stream)


def _capture_after_a_change(hands: Hands) -> None:
    hands.bind(2)
    hands.infer()
    hands.wait()
    hands.bind(1)
    hands.device.capture(hands.infer, stream=hands.stream)


def _wait_while_capturing(hands: Hands) -> None:
    hands.device.capture(hands.wait, stream=hands.stream)


def _launch_after_a_change(hands: Hands) -> None:
    hands.bind(2)
    hands.infer()
    hands.wait()
    graph = hands.device.capture(hands.infer, stream=hands.stream)
    hands.bind(1)
    hands.device.launch(graph, stream=hands.stream)


def _launch_after_discard(hands: Hands) -> None:
    graph = hands.device.capture(lambda: None, stream=hands.stream)
    hands.device.discard(graph)
    hands.device.launch(graph, stream=hands.stream)


def _stream_after_close(hands: Hands) -> None:
    hands.device.close()
    hands.wait()


def _freed_twice(hands: Hands) -> None:
    cuda_runtime: Any = vendor.load("cuda.bindings.runtime")
    cuda_runtime.cudaFree(hands.pointers["score"])
    cuda_runtime.cudaFree(hands.pointers["score"])


def _time_of_what_has_not_happened(hands: Hands) -> None:
    start = hands.device.event()
    hands.device.record(start, stream=hands.stream)
    hands.device.elapsed_ms(start, start)


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (_no_addresses, "inference before image has an address"),
        (_no_shape, "before the input has a shape"),
        (_small_buffer, r"bytes at 0x[0-9a-f]+ go beyond the buffer"),
        (_host_address, "is pinned memory, not gpu or mapped"),
        (_unaligned_address, "address of image is not aligned to 256 bytes"),
        (_freed_buffer, "is not allocated, or was freed"),
        (_copy_beyond_the_buffer, "go beyond the buffer"),
        (_copy_the_wrong_way, "is pinned memory, not gpu"),
        (_upload_on_another_stream, "an inference does not wait for a copy, which is queued on another stream"),
        (_overwritten_while_another_stream_reads, "an inference does not wait for a copy"),
        (_host_writes_before_the_wait, "the host changed what a copy reads"),
        (_default_stream, "inference on the default stream"),
        (_copy_on_the_default_stream, "a copy on the default stream"),
        (_capture_without_warm_up, "capture without an inference since the last change"),
        (_capture_after_a_change, "capture without an inference since the last change"),
        (_wait_while_capturing, "being captured cannot be waited for"),
        (_launch_after_a_change, "whose execution context has another shape or address by now"),
        (_launch_after_discard, "is no graph, or was destroyed"),
        (_stream_after_close, "is no stream, or was destroyed"),
        (_freed_twice, "was freed before"),
        (_time_of_what_has_not_happened, "synchronise first"),
    ],
)
def test_misuse_fails(hands: Hands, misuse: Callable[[Hands], None], message: str) -> None:
    with pytest.raises(Misuse, match=message):
        misuse(hands)


def test_what_is_read_before_the_wait_is_nan(hands: Hands) -> None:
    hands.bind(2)
    for _ in range(2):  # the second time a right answer of the first is there, and must not be taken for the new one
        hands.infer()
        assert np.isnan(hands.score).all()
        hands.wait()
        assert np.isfinite(hands.score).all()


def test_two_threads_in_one_context_are_caught(hands: Hands) -> None:
    hands.bind()
    hands.context._running.acquire()  # as a thread that is inside execute_async_v3 holds it
    errors: list[BaseException] = []

    def run() -> None:
        try:
            hands.run()
        except Misuse as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "two threads use one execution context" in str(errors[0])


def test_allocating_while_capturing_is_refused_as_cuda_does(hands: Hands) -> None:
    with pytest.raises(EngineError, match="cudaMalloc failed") as caught:
        hands.device.capture(lambda: hands.device.memory(4) and None, stream=hands.stream)
    assert "cudaErrorStreamCaptureUnsupported" in str(caught.value.got)


@pytest.mark.parametrize(
    ("leave", "left"),
    [
        (lambda device: device.memory(16), "1 gpu buffers"),
        (lambda device: device.pinned((1,), np.uint8), "1 pinned buffers"),
        (lambda device: device.stream(), "1 streams"),
        (lambda device: device.event(), "1 events"),
        (lambda device: device.capture(lambda: None, stream=device.stream()), "1 streams, 1 graphs"),
    ],
)
def test_what_is_left_behind_is_told(leave: Callable[[Device], object], left: str) -> None:
    with pytest.raises(Misuse) as caught, standin.gpu():
        leave(cuda.open_device())
    assert set(str(caught.value).removeprefix("left behind: ").split(", ")) == set(left.split(", "))


def test_an_inspector_that_is_not_closed_is_told(bundle: Bundle) -> None:
    standin.add_engine(bundle, "fp32")
    kept = []
    left = "1 engines, 1 execution contexts, 3 gpu buffers, 1 graphs, 3 pinned buffers, 1 streams"
    with pytest.raises(Misuse, match=left), standin.gpu():
        kept.append(Inspector(bundle, precision="fp32", backend="tensorrt"))


def test_an_error_of_the_block_is_not_hidden_by_what_it_left() -> None:
    with pytest.raises(ZeroDivisionError), standin.gpu():
        cuda.open_device().stream()
        _ = 1 / 0


def test_the_example_in_its_text_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    golden_bundle(tmp_path / "copy_of_my.bundle", "int8")
    lines = [line for line in (standin.__doc__ or "").splitlines() if line.startswith("    ")]
    with pytest.raises(InspectionFault, match="cudaErrorLaunchFailure"):
        exec(textwrap.dedent("\n".join(lines)), {"frame": frames(1)[0]})


def test_one_stand_in_at_a_time() -> None:
    with standin.gpu(), pytest.raises(RuntimeError, match="one stand-in at a time"), standin.gpu():
        pass
    with standin.gpu():
        pass


def test_after_it_the_real_modules_are_back() -> None:
    with standin.gpu():
        assert not vendor.is_installed("pycuda.driver")
        with pytest.raises(ModuleNotFoundError, match="beside the stand-in"):
            vendor.load("pycuda.driver")
    assert vendor.load("json") is importlib.import_module("json")


def test_an_engine_of_the_stand_in_runs_nowhere_else(bundle: Bundle, no_gpu: None) -> None:
    entry = standin.add_engine(bundle, "fp32")
    assert entry.version == standin.VERSION
    with pytest.raises(EngineError):
        Inspector(bundle, precision="fp32", backend="tensorrt")
