"""The TensorRT backend on the stand-in: answers, order of calls, buffers, CUDA graphs and zero copy."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from edge_ad import Inspector
from edge_ad.backends import open_backend, standin
from edge_ad.backends.execution import ExecutionOptions
from edge_ad.backends.onnxruntime import OnnxRuntimeBackend
from edge_ad.backends.standin import Gpu
from edge_ad.backends.tensorrt import TensorRtBackend
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineMismatch, FrameError, InspectionFault
from tests.backends.conftest import frames
from tests.tiny_bundle import HEIGHT, WIDTH

PER_FRAME_BYTES = HEIGHT * WIDTH * (3 + 4) + 4


def expected_of(bundle: Bundle, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], ...]:
    """What ONNX Runtime answers, frame by frame."""
    reference = OnnxRuntimeBackend(bundle, "fp32")
    maps, scores = zip(*(reference.run(image[None]) for image in images), strict=True)
    return np.concatenate(maps), np.concatenate(scores)


def assert_right(bundle: Bundle, backend: TensorRtBackend, images: npt.NDArray[np.uint8]) -> None:
    for expected, got in zip(expected_of(bundle, images), backend.run(images), strict=True):
        assert (got.shape, got.dtype) == (expected.shape, np.float32)
        assert np.abs(got - expected).max() <= 1e-5  # ONNX Runtime itself sums batches in another order


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(("min_batch", "max_batch"), [(1, 1), (1, 2), (2, 4)])
def test_answers_are_those_of_the_graph(
    bundle: Bundle, either: Gpu, count: int, min_batch: int, max_batch: int
) -> None:
    standin.add_engine(bundle, "fp32", min_batch=min_batch, max_batch=max_batch)
    backend = TensorRtBackend(bundle, "fp32")
    for _ in range(3):  # kernel by kernel, captured, replayed
        assert_right(bundle, backend, frames(count))
    backend.close()


def test_no_frames_have_no_answer(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    backend = TensorRtBackend(bundle, "fp32")
    maps, scores = backend.run(frames(0))
    assert (maps.shape, scores.shape) == ((0, HEIGHT, WIDTH), (0,))
    backend.close()


def test_an_inference_is_one_graph_and_one_wait(bundle: Bundle, stand_in: Gpu) -> None:
    """The first two inferences, one of them captured, happen while the backend opens."""
    standin.add_engine(bundle, "fp32")
    backend = TensorRtBackend(bundle, "fp32")
    assert backend.graph_state == "captured"
    stand_in.calls.clear()
    backend.run(frames(1))
    assert stand_in.calls == ["cudaSetDevice", "cudaGraphLaunch", "cudaStreamSynchronize"]
    backend.close()


def test_another_batch_is_captured_anew_at_its_second_inference(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32", max_batch=2)
    backend = TensorRtBackend(bundle, "fp32")
    kernels = ["cudaMemcpyAsync", "execute_async_v3", "cudaMemcpyAsync", "cudaMemcpyAsync"]
    capture = ["cudaStreamBeginCapture", *kernels, "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphDestroy"]
    replay = ["cudaGraphLaunch", "cudaStreamSynchronize"]
    for expected in (["cudaGraphExecDestroy", *kernels, "cudaStreamSynchronize"], [*capture, *replay], replay):
        stand_in.calls.clear()
        assert_right(bundle, backend, frames(2))
        assert stand_in.calls == ["cudaSetDevice", *expected]
    assert stand_in.held()["graphs"] == 1
    backend.close()


def test_without_graphs_every_kernel_is_queued(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    backend = TensorRtBackend(bundle, "fp32", ExecutionOptions(cuda_graph=False))
    assert_right(bundle, backend, frames(1))
    assert backend.graph_state == "off"
    assert "cudaGraphLaunch" not in stand_in.calls
    backend.close()


def test_pycuda_leaves_the_graph_to_tensorrt_rtx(bundle: Bundle, either: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    backend = TensorRtBackend(bundle, "fp32")
    captured_here = "cudaGraphLaunch" in either.calls
    assert backend.graph_state == ("captured" if captured_here else "TensorRT-RTX's own")
    backend.close()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda gpu: gpu.fail("cudaStreamEndCapture", "cudaErrorStreamCaptureUnsupported"), "cudaStreamEndCapture"),
        (lambda gpu: gpu.fail("cudaGraphInstantiate", "cudaErrorMemoryAllocation"), "cudaGraphInstantiate"),
        (lambda gpu: setattr(gpu.machine, "capturable", False), "cannot be captured"),
    ],
)
def test_a_capture_that_fails_is_told_and_inference_goes_on(
    bundle: Bundle, stand_in: Gpu, caplog: pytest.LogCaptureFixture, spoil: object, reason: str
) -> None:
    standin.add_engine(bundle, "fp32")
    spoil(stand_in)  # type: ignore[operator]
    backend = TensorRtBackend(bundle, "fp32")
    assert backend.graph_state.startswith("none: ")
    assert reason in backend.graph_state
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    for _ in range(3):
        assert_right(bundle, backend, frames(1))
    assert stand_in.calls.count("cudaStreamBeginCapture") <= 1  # once is enough
    backend.close()


def test_on_an_integrated_gpu_nothing_is_copied(bundle: Bundle) -> None:
    standin.add_engine(bundle, "fp32", max_batch=2)
    with standin.gpu(integrated=True) as gpu:
        backend = TensorRtBackend(bundle, "fp32")
        for count in (1, 2, 2, 2, 1):
            assert_right(bundle, backend, frames(count))
        assert "cudaMemcpyAsync" not in gpu.calls
        assert "gpu buffers" not in gpu.held()
        assert gpu.held()["mapped buffers"] == 3
        backend.close()


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("zero_copy", [True, False])
def test_zero_copy_can_be_chosen(bundle: Bundle, integrated: bool, zero_copy: bool) -> None:
    standin.add_engine(bundle, "fp32")
    with standin.gpu(integrated=integrated) as gpu:
        backend = TensorRtBackend(bundle, "fp32", ExecutionOptions(zero_copy=zero_copy))
        assert_right(bundle, backend, frames(1))
        assert ("cudaMemcpyAsync" in gpu.calls) is not zero_copy
        backend.close()


def test_buffers_fit_the_largest_batch_and_are_released(bundle: Bundle, either: Gpu) -> None:
    standin.add_engine(bundle, "fp32", max_batch=3)
    backend = TensorRtBackend(bundle, "fp32")
    sizes = {kind: 0 for kind in ("pinned", "gpu")}
    for block in either.machine.blocks.values():
        sizes[block.kind] += block.size_bytes
    assert sizes == {"pinned": 3 * PER_FRAME_BYTES, "gpu": 3 * PER_FRAME_BYTES}

    backend.close()
    assert either.held() == {}
    backend.close()
    assert backend.graph_state == "closed"
    with pytest.raises(InspectionFault, match="closed"):
        backend.run(frames(1))


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_nothing_grows_over_many_inspections(bundle: Bundle, stand_in: Gpu, count: int) -> None:
    standin.add_engine(bundle, "fp32", max_batch=2)
    backend = TensorRtBackend(bundle, "fp32")
    images = {count: frames(count) for count in (1, 2, 3)}
    backend.run(images[3])
    before = stand_in.held()
    for number in range(count):
        backend.run(images[1 + number * 3 // count])  # chunks and changes of batch among them
        assert stand_in.held().keys() | {"graphs"} == before.keys() | {"graphs"}
    assert {**stand_in.held(), "graphs": 1} == {**before, "graphs": 1}
    backend.close()


def test_nothing_is_left_of_many_backends(bundle: Bundle, either: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    for _ in range(50):
        TensorRtBackend(bundle, "fp32").close()
        assert either.held() == {}


def test_the_answer_is_the_callers(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    backend = TensorRtBackend(bundle, "fp32")
    maps, scores = backend.run(frames(1))
    before = maps.copy(), scores.copy()
    backend.run(255 - frames(1))
    backend.close()
    assert np.array_equal(maps, before[0])
    assert np.array_equal(scores, before[1])


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(np.zeros((1, HEIGHT, WIDTH, 3), np.float32), id="dtype"),
        pytest.param(np.zeros((1, WIDTH, HEIGHT, 3), np.uint8), id="size"),
        pytest.param(np.zeros((HEIGHT, WIDTH, 3), np.uint8), id="no-batch"),
    ],
)
def test_batch_that_does_not_fit_is_refused_and_the_next_is_taken(
    bundle: Bundle, stand_in: Gpu, images: npt.NDArray[np.uint8]
) -> None:
    standin.add_engine(bundle, "fp32")
    backend = TensorRtBackend(bundle, "fp32")
    with pytest.raises(FrameError, match="does not fit the engine"):
        backend.run(images)
    assert_right(bundle, backend, frames(1))
    backend.close()


def test_tensorrt_without_a_runtime_cache_serves_too(bundle: Bundle) -> None:
    standin.add_engine(bundle, "fp32", flavour="trt")
    with standin.gpu(flavour="trt"):
        backend = TensorRtBackend(bundle, "fp32")
        assert backend.name == "tensorrt"
        assert_right(bundle, backend, frames(1))
        backend.close()


def test_auto_takes_tensorrt_where_an_engine_fits(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    with Inspector(bundle, precision="fp32") as inspector:
        assert inspector.backend == "tensorrt-rtx"
        assert inspector.model_sha256 == bundle.manifest.files["engines/fp32-rtx-stand-in-sm89.engine"]


def test_auto_takes_the_cpu_where_no_engine_fits(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32", target="sm120")
    with Inspector(bundle, precision="fp32") as inspector:
        assert inspector.backend.endswith("-cpu")


def test_a_portable_engine_serves(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32", target="portable")
    backend = TensorRtBackend(bundle, "fp32")
    assert_right(bundle, backend, frames(1))
    backend.close()


def test_mismatch_of_the_installed_version_through_the_backend(bundle: Bundle, stand_in: Gpu) -> None:
    entry = standin.add_engine(bundle, "fp32")
    bundle.manifest = dataclasses.replace(bundle.manifest, engines=(dataclasses.replace(entry, version="1.6.0.9"),))
    with pytest.raises(EngineMismatch, match=rf"expected: TensorRT-RTX {standin.VERSION}"):
        open_backend(bundle, "fp32", "tensorrt")
