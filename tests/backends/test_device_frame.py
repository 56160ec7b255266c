"""Frames that lie on the GPU: read in place, in the order of streams, or refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edge_ad import Frame, Inspector
from edge_ad.backends import standin
from edge_ad.backends.device_frame import device_frames, is_on_device
from edge_ad.backends.execution import ALIGNMENT
from edge_ad.backends.standin import Gpu, StandInArray
from edge_ad.bundle import Bundle
from edge_ad.errors import FrameError
from tests.backends.conftest import frames
from tests.tiny_bundle import HEIGHT, WIDTH

SIZE = (HEIGHT, WIDTH)


@contextlib.contextmanager
def on_gpu(gpu: Gpu, values: npt.NDArray[Any], **options: int) -> Iterator[StandInArray]:
    array = gpu.array(values, **options)
    yield array
    array.free()


@contextlib.contextmanager
def inspector_of(bundle: Bundle, **batches: int) -> Iterator[Inspector]:
    standin.add_engine(bundle, "fp32", **batches)
    with Inspector(bundle, precision="fp32", backend="tensorrt") as inspector:
        yield inspector


def test_a_frame_on_the_gpu_gets_the_verdict_of_the_same_frame_on_the_host(bundle: Bundle, either: Gpu) -> None:
    with inspector_of(bundle) as inspector:
        frame = frames(1)[0]
        expected = inspector.inspect(frame)
        with on_gpu(either, frame) as array:
            for given in (array, either.dlpack(array), Frame(image=array, sequence=0, timestamp_ns=0, camera="a")):
                got = inspector.inspect(given)
                assert got.score == expected.score
                assert np.array_equal(got.anomaly_map, expected.anomaly_map)


def test_the_frame_is_read_in_place(bundle: Bundle, stand_in: Gpu) -> None:
    """One copy less than from the host: only the two answers travel."""
    with inspector_of(bundle) as inspector, on_gpu(stand_in, frames(1)[0]) as array:
        stand_in.calls.clear()
        inspector.inspect(array)
        assert stand_in.calls.count("cudaMemcpyAsync") == 2


def test_a_frame_at_the_same_place_is_replayed(bundle: Bundle, stand_in: Gpu) -> None:
    with inspector_of(bundle) as inspector, on_gpu(stand_in, frames(1)[0]) as array:
        scores = [inspector.inspect(array).score for _ in range(3)]
        stand_in.calls.clear()
        scores.append(inspector.inspect(array).score)
        assert "cudaGraphLaunch" in stand_in.calls
        assert "execute_async_v3" not in stand_in.calls
        assert len(set(scores)) == 1


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("batches", [{"max_batch": 1}, {"max_batch": 2}, {"min_batch": 2, "max_batch": 4}])
def test_a_batch_on_the_gpu(bundle: Bundle, stand_in: Gpu, count: int, batches: dict[str, int]) -> None:
    """Chunks behind the first are not aligned as TensorRT asks, and too few frames for the engine: both are copied."""
    assert (HEIGHT * WIDTH * 3) % ALIGNMENT
    images = frames(count)
    with inspector_of(bundle, **batches) as inspector, on_gpu(stand_in, images) as array:
        expected = [inspection.score for inspection in inspector.inspect_batch(list(images))]
        for given in (array, stand_in.dlpack(array)):
            got = [inspection.score for inspection in inspector.inspect_batch(given)]
            assert np.allclose(got, expected, atol=1e-5)


def test_frames_on_the_gpu_one_by_one(bundle: Bundle, stand_in: Gpu) -> None:
    images = frames(2)
    with inspector_of(bundle) as inspector, on_gpu(stand_in, images[0]) as a, on_gpu(stand_in, images[1]) as b:
        got = [inspection.score for inspection in inspector.inspect_batch([a, b])]
        assert got == [inspection.score for inspection in inspector.inspect_batch(list(images))]


def test_host_and_gpu_frames_take_turns(bundle: Bundle, stand_in: Gpu) -> None:
    """Each change of address drops the graph; the answers stay right."""
    images = frames(3)
    with inspector_of(bundle) as inspector, on_gpu(stand_in, images[1]) as a, on_gpu(stand_in, images[2]) as b:
        expected = [inspector.inspect(image).score for image in images]
        for order in ([0, 1, 2], [2, 2, 2, 1, 1, 1, 0, 0, 0], [1, 0, 1, 2]):
            given = [images[0], a, b]
            assert [inspector.inspect(given[index]).score for index in order] == [expected[index] for index in order]


def test_on_an_integrated_gpu_too(bundle: Bundle) -> None:
    images = frames(2)
    with (
        standin.gpu(integrated=True) as gpu,
        inspector_of(bundle, max_batch=2) as inspector,
        on_gpu(gpu, images) as array,
    ):
        expected = [inspection.score for inspection in inspector.inspect_batch(list(images))]
        assert [inspection.score for inspection in inspector.inspect_batch(array)] == expected
        with on_gpu(gpu, images[1]) as one:
            assert inspector.inspect(one).score == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize("by_dlpack", [False, True])
def test_the_stream_that_fills_the_frame_is_waited_for(bundle: Bundle, either: Gpu, by_dlpack: bool) -> None:
    """Its values arrive only when the stream is drained; the stand-in refuses a reader that does not wait."""
    frame, stream = frames(1)[0], either.stream()
    with inspector_of(bundle) as inspector:
        expected = inspector.inspect(frame).score
        with on_gpu(either, frame, stream=stream) as array:
            assert inspector.inspect(either.dlpack(array) if by_dlpack else array).score == expected
    either.machine.remove_stream(stream)


@pytest.mark.parametrize(("version", "stream"), [(2, "absent"), (3, None)])
def test_arrays_that_name_no_stream(bundle: Bundle, stand_in: Gpu, version: int, stream: str | None) -> None:
    """Version 2, pycuda's: the default stream is waited for. None of version 3: nothing has to be."""
    frame = frames(1)[0]
    with inspector_of(bundle) as inspector, on_gpu(stand_in, frame) as array:
        if version == 3:
            stand_in.machine.drain(array.stream)
        interface = {**array.__cuda_array_interface__, "version": version, "stream": stream}
        if stream == "absent":
            del interface["stream"]
        given = SimpleNamespace(__cuda_array_interface__=interface)
        assert inspector.inspect(given).score == inspector.inspect(frame).score


def _changed(**changes: object) -> Callable[[StandInArray], object]:
    return lambda array: SimpleNamespace(__cuda_array_interface__={**array.__cuda_array_interface__, **changes})


@pytest.mark.parametrize(
    ("values", "change", "message"),
    [
        pytest.param(np.zeros((*SIZE, 3), np.float32), _changed(), r"got:      <f4 array of shape", id="dtype"),
        pytest.param(np.zeros((WIDTH, HEIGHT, 3), np.uint8), _changed(), "set the camera to 17x24", id="turned"),
        pytest.param(np.zeros(SIZE, np.uint8), _changed(), "does not fit the input contract", id="grey"),
        pytest.param(np.zeros((1, 1, *SIZE, 3), np.uint8), _changed(), "does not fit the input", id="dimensions"),
        pytest.param(frames(1)[0], _changed(strides=(1, 17, 408)), "is not contiguous", id="planes"),
        pytest.param(frames(1)[0], _changed(strides=(WIDTH * 6, 3, 1)), "ascontiguousarray", id="every-other-row"),
        pytest.param(frames(1)[0], _changed(mask=object()), "a masked array", id="masked"),
        pytest.param(frames(1)[0], _changed(stream=0), "stream 0, which the interface forbids", id="stream"),
        pytest.param(frames(1)[0], _changed(data=(0x10, False)), "lies on another GPU", id="place"),
        pytest.param(frames(2), _changed(), r"holds several frames(.|\n)*inspect_batch", id="batch"),
    ],
)
def test_an_array_that_does_not_fit_is_refused_and_the_next_is_taken(
    bundle: Bundle,
    stand_in: Gpu,
    values: npt.NDArray[Any],
    change: Callable[[StandInArray], object],
    message: str,
) -> None:
    with inspector_of(bundle) as inspector, on_gpu(stand_in, values) as array:
        with pytest.raises(FrameError, match=message):
            inspector.inspect(change(array))
        assert np.isfinite(inspector.inspect(frames(1)[0]).score)


def test_host_and_gpu_frames_in_one_batch_are_refused(bundle: Bundle, stand_in: Gpu) -> None:
    frame = frames(1)[0]
    with (
        inspector_of(bundle) as inspector,
        on_gpu(stand_in, frame) as array,
        pytest.raises(FrameError, match="partly on the GPU"),
    ):
        inspector.inspect_batch([array, frame])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_bundle_on_the_cpu_refuses_and_says_how_to_copy(
    bundle: Bundle, stand_in: Gpu, backend: str, whole: bool
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    with (
        Inspector(bundle, precision="fp32", backend=backend) as inspector,
        on_gpu(stand_in, frames(1)) as array,
        pytest.raises(FrameError, match=r"runs on the CPU(.|\n)*cupy\.asnumpy"),
    ):
        inspector.inspect_batch(array if whole else [array])


@pytest.mark.parametrize(
    "elsewhere",
    [np.zeros((2, 3), np.uint8), torch.zeros(2, 3, dtype=torch.uint8), torch.ones(2, requires_grad=True), [1], None],
)
def test_what_lies_on_the_host_is_not_on_a_gpu(elsewhere: object) -> None:
    assert not is_on_device(elsewhere)


class _Pretends:
    """Another library's array on the host, told to lie on the GPU: its real DLPack, read by our own reader."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, *, stream: int) -> Any:
        return self.array.__dlpack__()


@pytest.mark.parametrize("of", [np.ascontiguousarray, torch.from_numpy])
def test_dlpack_of_real_libraries_is_understood(of: Callable[[npt.NDArray[np.uint8]], Any]) -> None:
    values = frames(3)
    array = of(values)
    for given, shape, offset in (
        (array, (3, *SIZE, 3), 0),
        (array[1], (1, *SIZE, 3), values[0].nbytes),
        (array[1:2], (1, *SIZE, 3), values[0].nbytes),
    ):
        found = device_frames(_Pretends(given), SIZE, stream=1)
        assert (found.shape, found.pointer, found.follow) == (shape, values.ctypes.data + offset, None)
    with pytest.raises(FrameError, match=r"strides \(72, -3, 1\)|strides \(72, 6, 1\)"):
        device_frames(_Pretends(array[0, :, ::2]), (HEIGHT, WIDTH // 2), stream=1)
    with pytest.raises(FrameError, match="<f4 array"):
        device_frames(_Pretends(of(values.astype(np.float32))), SIZE, stream=1)
    with pytest.raises(FrameError, match="cannot be shared"):
        device_frames(SimpleNamespace(__dlpack__=lambda stream: object()), SIZE, stream=1)
