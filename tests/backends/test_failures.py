"""What happens when an engine cannot be used or a GPU fails: a clear error, nothing kept, the process usable after."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from edge_ad import Inspector
from edge_ad.backends import standin, vendor
from edge_ad.backends.standin import Gpu
from edge_ad.backends.standin.cuda import CudaRuntime
from edge_ad.backends.standin.machine import Machine
from edge_ad.backends.tensorrt import TensorRtBackend
from edge_ad.bundle import Bundle
from edge_ad.errors import (
    BundleCorrupt,
    BundleMismatch,
    EdgeAdError,
    EngineError,
    EngineMismatch,
    InspectionFault,
    MissingDependency,
)
from edge_ad.manifest import Size
from tests.backends.conftest import frames
from tests.golden_bundle import swap_file
from tests.tiny_bundle import HEIGHT, WIDTH


def _change_engine(bundle: Bundle, change: Callable[[bytes], bytes]) -> Bundle:
    """As somebody could who makes bundles: the hash is right, the engine is not."""
    entry = standin.add_engine(bundle, "fp32")
    swap_file(bundle.path, entry.file, change(bundle.read(entry.file)))
    return Bundle(bundle.path)


def _replace(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("change", "kind", "expected", "got"),
    [
        pytest.param(lambda engine: engine[:-10], EngineMismatch, "a whole engine", "bytes expected", id="truncated"),
        pytest.param(lambda engine: b"", EngineMismatch, "a whole engine", "magic tag", id="empty"),
        pytest.param(lambda engine: b"\x7fELF" + engine, EngineMismatch, "a whole engine", "magic tag", id="garbage"),
        pytest.param(
            _replace(b'"99.0"', b'"98.0"'), EngineMismatch, "an engine of this version", "Version tag", id="version"
        ),
        pytest.param(
            _replace(b'"sm89"', b'"sm80"'), EngineMismatch, "for this GPU's compute capability", "sm80", id="gpu"
        ),
    ],
)
def test_an_engine_that_does_not_load_says_why_and_leaves_nothing(
    bundle: Bundle,
    either: Gpu,
    change: Callable[[bytes], bytes],
    kind: type[EngineError],
    expected: str,
    got: str,
) -> None:
    changed = _change_engine(bundle, change)
    with pytest.raises(kind, match=r"cannot be loaded by TensorRT-RTX 99\.0") as caught:
        TensorRtBackend(changed, "fp32")
    assert expected in str(caught.value.expected)
    assert got in str(caught.value.got)
    assert "--force" in str(caught.value.fix)
    assert either.held() == {}
    assert _still_works(changed)


def _still_works(bundle: Bundle) -> bool:
    """The process goes on: on the CPU, and on the GPU with a sound engine."""
    with Inspector(bundle, precision="fp32", backend="onnxruntime") as inspector:
        expected = inspector.inspect(frames(1)[0]).score
    standin.add_engine(bundle, "fp32")
    with Inspector(bundle, precision="fp32", backend="tensorrt") as inspector:
        return abs(inspector.inspect(frames(1)[0]).score - expected) < 1e-5


@pytest.mark.parametrize("flavour", ["rtx", "trt"])
def test_tensorrt_that_refuses_an_engine_without_saying_why(bundle: Bundle, flavour: str) -> None:
    standin.add_engine(bundle, "fp32", flavour=flavour)
    with standin.gpu(flavour=flavour) as gpu:
        gpu.refuse("deserialize_cuda_engine", "Error Code 1: Cuda Runtime")
        with pytest.raises(EngineError, match="cannot be loaded") as caught:
            TensorRtBackend(bundle, "fp32")
        assert caught.value.got == "Error Code 1: Cuda Runtime"
        assert "nvidia-smi" in str(caught.value.fix)


@pytest.mark.parametrize("cut", [slice(0, 4), slice(0, 0), slice(0, -1)])
def test_an_altered_engine_is_never_deserialised(bundle: Bundle, either: Gpu, cut: slice) -> None:
    entry = standin.add_engine(bundle, "fp32")
    file = bundle.path / entry.file
    file.write_bytes(file.read_bytes()[cut])
    with pytest.raises(BundleCorrupt, match="is not the file the manifest describes"):
        TensorRtBackend(bundle, "fp32")
    assert "deserialize_cuda_engine" not in either.calls


def _small_map(bundle: Bundle) -> None:
    bundle.manifest = dataclasses.replace(bundle.manifest, map=Size(height=8, width=8))


def _small_frame(bundle: Bundle) -> None:
    bundle.manifest = dataclasses.replace(bundle.manifest, input=Size(height=8, width=8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_small_map, r"bundle's anomaly_map.\n  expected: float32 of shape \(1, 8, 8\)"),
        (_small_frame, r"bundle's image.\n  expected: uint8 of shape \(1, 8, 8, 3\)"),
    ],
)
def test_an_engine_of_other_sizes_is_refused(
    bundle: Bundle, either: Gpu, spoil: Callable[[Bundle], None], message: str
) -> None:
    standin.add_engine(bundle, "fp32")
    spoil(bundle)
    with pytest.raises(EngineMismatch, match=message):
        TensorRtBackend(bundle, "fp32")
    assert either.held() == {}


ENGINE_BYTES = 4000  # a little more than the graph


@pytest.mark.parametrize(
    ("memory_bytes", "message", "expected"),
    [
        pytest.param(100, "cannot be loaded", "", id="weights"),
        pytest.param(ENGINE_BYTES + 1000, "refuses an execution context", "0.2 MiB of GPU memory", id="activations"),
        pytest.param(
            ENGINE_BYTES + 8 * HEIGHT * WIDTH * 64 + 1000, "memory for a buffer on the GPU", "0.0 MiB", id="buffers"
        ),
    ],
)
def test_out_of_memory_says_the_sizes_and_releases_everything(
    bundle: Bundle, memory_bytes: int, message: str, expected: str
) -> None:
    standin.add_engine(bundle, "fp32", max_batch=8)
    with standin.gpu(memory_bytes=memory_bytes) as gpu:
        with pytest.raises(EngineError, match=message) as caught:
            Inspector(bundle, precision="fp32", backend="tensorrt")
        assert expected in str(caught.value.expected)
        if expected:
            assert "free of" in str(caught.value.got)
        assert gpu.held() == {}
        gpu.machine.memory_bytes = 1 << 30
        assert _still_works(bundle)


def test_an_error_mid_stream_is_a_fault_that_says_to_open_another(bundle: Bundle, either: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    inspector = Inspector(bundle, precision="fp32", backend="tensorrt")
    either.fail("cudaStreamSynchronize", "cudaErrorInvalidValue")
    with pytest.raises(InspectionFault, match="failed to run") as caught:
        inspector.inspect(frames(1)[0])
    assert "open a new one" in str(caught.value.fix)

    either.mend()
    with pytest.raises(InspectionFault, match="was stopped by an earlier error"):  # what it holds is not known
        inspector.inspect(frames(1)[0])
    inspector.close()
    assert either.held() == {}
    assert _still_works(bundle)


def test_an_engine_that_stops_running_is_a_fault(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32", max_batch=2)
    backend = TensorRtBackend(bundle, "fp32")
    stand_in.refuse("execute_async_v3", "an illegal memory access was encountered")
    with pytest.raises(InspectionFault, match="an illegal memory access was encountered"):
        backend.run(frames(2))
    backend.close()


@pytest.mark.parametrize("error", ["cudaErrorLaunchFailure", "cudaErrorIllegalAddress", "cudaErrorECCUncorrectable"])
@pytest.mark.parametrize("call", ["cudaSetDevice", "cudaGraphLaunch", "cudaStreamSynchronize"])
def test_a_lost_gpu_says_to_restart_and_the_cpu_still_serves(
    bundle: Bundle, stand_in: Gpu, call: str, error: str
) -> None:
    standin.add_engine(bundle, "fp32")
    inspector = Inspector(bundle, precision="fp32", backend="tensorrt")
    stand_in.fail(call, error)
    with pytest.raises(InspectionFault, match=f"{call} failed") as caught:
        inspector.inspect(frames(1)[0])
    assert "restart the process" in str(caught.value.fix)

    inspector.close()  # CUDA refuses to release anything, and has nothing new to say
    inspector.close()
    with pytest.raises(EdgeAdError):
        Inspector(bundle, precision="fp32", backend="tensorrt")
    with Inspector(bundle, precision="fp32") as on_the_cpu:
        assert on_the_cpu.backend.endswith("-cpu")
        assert np.isfinite(on_the_cpu.inspect(frames(1)[0]).score)


def test_ctrl_c_leaves_nothing_under_way(bundle: Bundle, stand_in: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is interrupted; the next inspection does not meet the copies of the one before."""
    standin.add_engine(bundle, "fp32")
    inspector = Inspector(bundle, precision="fp32", backend="tensorrt")
    expected = inspector.inspect(frames(2)[1]).score
    launch = CudaRuntime.__getattr__

    def interrupted(runtime: CudaRuntime, name: str) -> Callable[..., object]:
        if name == "cudaStreamSynchronize":
            monkeypatch.undo()
            raise KeyboardInterrupt
        return launch(runtime, name)

    monkeypatch.setattr(CudaRuntime, "__getattr__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inspector.inspect(frames(2)[0])
    assert inspector.inspect(frames(2)[1]).score == expected
    inspector.close()


# Proof on load


@pytest.mark.parametrize(
    ("output", "place"), [("anomaly_map", r"at \(3, 5\)"), ("score", r"golden frame 0 differs by [0-9.]+ spreads")]
)
def test_an_engine_that_answers_otherwise_refuses_to_serve(
    bundle: Bundle, stand_in: Gpu, output: str, place: str
) -> None:
    """As TensorRT 11.1 did with fused amin and amax: it loads, it runs, it is wrong."""
    standin.add_engine(bundle, "fp32")

    def wrong(answer: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        maps, scores = (part.copy() for part in answer)
        if output == "score":
            scores += 1
        else:
            maps[:, 3, 5] += 1
        return maps, scores

    stand_in.distort(wrong)
    with pytest.raises(BundleMismatch, match=rf"by tensorrt-rtx in fp32: {output} of (.|\n)*{place}"):
        Inspector(bundle, precision="fp32", backend="tensorrt")
    assert stand_in.held() == {}
    stand_in.distort(None)
    assert _still_works(bundle)


def test_what_is_proven_is_what_serves(bundle: Bundle, stand_in: Gpu) -> None:
    """The golden vectors run through the captured graph, not through kernels that only the first frames meet."""
    standin.add_engine(bundle, "fp32")
    with Inspector(bundle, precision="fp32", backend="tensorrt"):
        captured = stand_in.calls.index("cudaGraphInstantiate")
        assert stand_in.calls[captured:].count("cudaGraphLaunch") == 1 + len(frames(2))


def test_nan_of_an_engine_is_a_fault_and_the_next_frame_is_served(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    with Inspector(bundle, precision="fp32", backend="tensorrt") as inspector:
        stand_in.distort(lambda answer: (answer[0], answer[1] * np.float32("nan")))
        with pytest.raises(InspectionFault, match="NaN or Inf"):
            inspector.inspect(frames(1)[0])
        stand_in.distort(None)
        assert np.isfinite(inspector.inspect(frames(1)[0]).score)


def test_without_any_tensorrt_the_package_is_named(bundle: Bundle) -> None:
    standin.add_engine(bundle, "fp32")
    machine = Machine(capability=(8, 9), integrated=False, memory_bytes=1 << 30)
    with (
        vendor.replaced({"cuda.bindings.runtime": CudaRuntime(machine)}),
        pytest.raises(MissingDependency, match=r"pip install 'edge-ad\[tensorrt\]'"),
    ):
        TensorRtBackend(bundle, "fp32")
