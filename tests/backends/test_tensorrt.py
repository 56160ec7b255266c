"""The TensorRT backend: which engine, in which order of calls, and what happens when it cannot run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_ad.backends import flavours as flavours_module
from edge_ad.backends import open_backend
from edge_ad.backends import tensorrt as backend_module
from edge_ad.backends.engine_choice import Machine, choose_engine
from edge_ad.backends.flavours import Flavour, target_of
from edge_ad.backends.tensorrt import TensorRtBackend
from edge_ad.bundle import Bundle
from edge_ad.errors import (
    BundleCorrupt,
    EngineError,
    EngineMismatch,
    FrameError,
    InspectionFault,
    MissingDependency,
)
from edge_ad.manifest import EngineEntry, Size
from tests.backends.fake_gpu import CAPABILITY, FakePyCuda, FakeRuntime, FakeTrt, Status
from tests.tiny_bundle import HEIGHT, WIDTH, tiny_bundle

VERSION = "1.7.1.116"
HERE = Machine(versions={"rtx": VERSION}, capability=(8, 9))
ENGINE_BYTES = b"an engine"


def _add_engine(bundle: Bundle, *, max_batch: int = 1, content: bytes = ENGINE_BYTES, **changes: str) -> EngineEntry:
    """Put bytes in place as an engine of the bundle."""
    entry = EngineEntry(
        file=changes.get("file", "engines/one.engine"),
        flavour=changes.get("flavour", "rtx"),
        version=changes.get("version", VERSION),
        target=changes.get("target", "sm89"),
        precision=changes.get("precision", "fp32"),
        graph_sha256=bundle.manifest.files[bundle.precision("fp32").graph],
        max_batch=max_batch,
    )
    with bundle.edit() as edit:
        edit.write(entry.file, content)
        edit.manifest = dataclasses.replace(edit.manifest, engines=(*edit.manifest.engines, entry))
    return entry


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "tiny", "fp32", "int8")


def test_engine_for_this_very_gpu_comes_before_a_portable_one(bundle: Bundle) -> None:
    _add_engine(bundle, file="engines/portable.engine", target="portable")
    exact = _add_engine(bundle, file="engines/exact.engine", target="sm89")
    assert choose_engine(bundle, "fp32", HERE) == exact


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (12, 0), (12, 1)])
def test_portable_engine_runs_from_ampere_on(bundle: Bundle, capability: tuple[int, int]) -> None:
    portable = _add_engine(bundle, target="portable")
    assert choose_engine(bundle, "fp32", dataclasses.replace(HERE, capability=capability)) == portable


def test_preferred_flavour_comes_first(bundle: Bundle) -> None:
    _add_engine(bundle, file="engines/rtx.engine")
    plain = _add_engine(bundle, file="engines/trt.engine", flavour="trt", version="11.4.0")
    both = Machine(versions={"trt": "11.4.0", "rtx": VERSION}, capability=(8, 9))
    assert choose_engine(bundle, "fp32", both) == plain


@pytest.mark.parametrize(
    ("engine", "capability", "expected", "got", "target"),
    [
        pytest.param(
            {"target": "sm89"},
            (12, 0),
            "compute capability 12.0 (this GPU)",
            "compute capability 8.9",
            "sm120",
            id="gpu",
        ),
        pytest.param(
            {"target": "portable"},
            (7, 5),
            "compute capability 7.5 (this GPU)",
            "portable: compute capability 8.0 or higher",
            "sm75",
            id="turing",
        ),
        pytest.param(
            {"version": "1.6.0.9"},
            (8, 9),
            f"TensorRT-RTX {VERSION} (installed)",
            "1.6.0.9",
            "sm89",
            id="version",
        ),
        pytest.param({"flavour": "trt"}, (8, 9), "TensorRT-RTX (installed)", "TensorRT", "sm89", id="flavour"),
    ],
)
def test_engine_that_does_not_fit_says_why(
    bundle: Bundle, engine: dict[str, str], capability: tuple[int, int], expected: str, got: str, target: str
) -> None:
    _add_engine(bundle, **engine)
    with pytest.raises(EngineMismatch) as caught:
        choose_engine(bundle, "fp32", dataclasses.replace(HERE, capability=capability))
    assert str(caught.value).splitlines() == [
        f"{bundle.path}/engines/one.engine does not fit this machine.",
        f"  expected: {expected}",
        f"  got:      {got} (manifest.json)",
        f"  fix:      python -m build_engines {bundle.path} --target {target}",
    ]


def test_engine_of_another_graph_does_not_fit(bundle: Bundle) -> None:
    """An edit drops such an engine; a manifest from elsewhere may still list one."""
    entry = _add_engine(bundle)
    stale = dataclasses.replace(entry, graph_sha256="0" * 64)
    bundle.manifest = dataclasses.replace(bundle.manifest, engines=(stale,))
    with pytest.raises(EngineMismatch) as caught:
        choose_engine(bundle, "fp32", HERE)
    assert caught.value.expected == f"compiled from graph {entry.graph_sha256}"


def test_the_closest_engine_is_the_one_told_about(bundle: Bundle) -> None:
    _add_engine(bundle, file="engines/old.engine", version="1.6.0.9")
    _add_engine(bundle, file="engines/close.engine", target="sm86")
    with pytest.raises(EngineMismatch, match=r"close\.engine"):
        choose_engine(bundle, "fp32", HERE)


def test_no_engine_of_the_precision(bundle: Bundle) -> None:
    _add_engine(bundle)
    with pytest.raises(EngineMismatch, match="has no int8 engine") as caught:
        choose_engine(bundle, "int8", HERE)
    assert caught.value.got == "engines/one.engine"


# ---- running, on the fake GPU ----

Fake = FakeRuntime | FakePyCuda


@pytest.fixture
def fake_trt(fake_cuda: Fake, monkeypatch: pytest.MonkeyPatch) -> FakeTrt:
    trt = FakeTrt(fake_cuda.memory, fake_cuda.calls, (HEIGHT, WIDTH))
    flavour = Flavour(name="rtx", version=VERSION, trt=trt)
    monkeypatch.setattr(backend_module, "installed_flavours", lambda: ("rtx",))
    monkeypatch.setattr(backend_module, "load_flavour", lambda name=None: flavour)
    return trt


def _frames(count: int) -> npt.NDArray[np.uint8]:
    """Random, so that no row or byte equals another by chance of a pattern."""
    return np.random.default_rng(count).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 2, 5, 0])
@pytest.mark.parametrize("max_batch", [1, 2])
def test_answers_are_those_of_the_engine(bundle: Bundle, fake_trt: FakeTrt, count: int, max_batch: int) -> None:
    _add_engine(bundle, max_batch=max_batch)
    backend = TensorRtBackend(bundle, "fp32")
    images = _frames(count)

    maps, scores = backend.run(images)

    expected = images.mean(axis=3, dtype=np.float32)
    assert (maps.shape, maps.dtype) == ((count, HEIGHT, WIDTH), np.float32)
    assert (scores.shape, scores.dtype) == ((count,), np.float32)
    assert np.array_equal(maps, expected)
    assert np.array_equal(scores, expected.reshape(count, -1).max(axis=1) if count else scores)
    backend.close()


@pytest.mark.parametrize("fake_cuda", ["cuda-python"], indirect=True)
def test_order_of_calls(bundle: Bundle, fake_cuda: FakeRuntime, fake_trt: FakeTrt) -> None:
    """Three frames in chunks of two: the shape changes once, and each chunk waits once, after its downloads."""
    _add_engine(bundle, max_batch=2)
    backend = TensorRtBackend(bundle, "fp32")
    fake_cuda.calls.clear()

    backend.run(_frames(3))

    chunk = ["cudaMemcpyAsync", "execute", "cudaMemcpyAsync", "cudaMemcpyAsync", "cudaStreamSynchronize"]
    assert fake_cuda.calls == ["cudaSetDevice", *chunk, "set_input_shape 1", *chunk]
    backend.close()


def test_buffers_fit_the_largest_batch_and_are_released(bundle: Bundle, fake_cuda: Fake, fake_trt: FakeTrt) -> None:
    _add_engine(bundle, max_batch=3)
    backend = TensorRtBackend(bundle, "fp32")
    per_frame = HEIGHT * WIDTH * (3 + 4) + 4
    assert fake_cuda.memory.size_bytes == 2 * 3 * per_frame  # pinned and on the GPU

    backend.close()
    assert fake_cuda.memory.size_bytes == 0
    backend.close()
    with pytest.raises(InspectionFault, match="closed"):
        backend.run(_frames(1))


def test_the_answer_is_the_callers(bundle: Bundle, fake_trt: FakeTrt) -> None:
    _add_engine(bundle)
    backend = TensorRtBackend(bundle, "fp32")
    maps, scores = backend.run(_frames(1))
    before = maps.copy(), scores.copy()
    backend.run(255 - _frames(1))
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
def test_batch_that_does_not_fit(bundle: Bundle, fake_trt: FakeTrt, images: npt.NDArray[np.uint8]) -> None:
    _add_engine(bundle)
    backend = TensorRtBackend(bundle, "fp32")
    with pytest.raises(FrameError, match="does not fit the engine"):
        backend.run(images)
    backend.close()


def test_engine_that_stops_running_is_a_fault(bundle: Bundle, fake_trt: FakeTrt) -> None:
    _add_engine(bundle)
    backend = TensorRtBackend(bundle, "fp32")
    fake_trt.runs = False
    with pytest.raises(InspectionFault, match="an illegal memory access was encountered"):
        backend.run(_frames(1))
    backend.close()


@pytest.mark.parametrize("fake_cuda", ["cuda-python"], indirect=True)
@pytest.mark.parametrize("call", ["cudaSetDevice", "cudaMemcpyAsync", "cudaStreamSynchronize"])
def test_cuda_that_stops_working_is_a_fault(
    bundle: Bundle, fake_cuda: FakeRuntime, fake_trt: FakeTrt, call: str
) -> None:
    _add_engine(bundle)
    backend = TensorRtBackend(bundle, "fp32")
    fake_cuda.failing[call] = Status.cudaErrorLaunchFailure
    with pytest.raises(InspectionFault, match=f"{call} failed"):
        backend.run(_frames(1))
    fake_cuda.failing.clear()
    backend.close()


def _wrong_map_size(bundle: Bundle, trt: FakeTrt) -> None:
    bundle.manifest = dataclasses.replace(bundle.manifest, map=Size(height=8, width=8))


def _half_precision_map(bundle: Bundle, trt: FakeTrt) -> None:
    trt.map_dtype = np.float16


def _wrong_frame_size(bundle: Bundle, trt: FakeTrt) -> None:
    trt.frame = (64, 64)


def _refused(bundle: Bundle, trt: FakeTrt) -> None:
    trt.loads = False


def _no_context(bundle: Bundle, trt: FakeTrt) -> None:
    trt.creates_context = False


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (_wrong_map_size, EngineMismatch, r"bundle's anomaly_map.\n  expected: float32 of shape \(1, 8, 8\)"),
        (_half_precision_map, EngineMismatch, r"got:      float16 of shape"),
        (_wrong_frame_size, EngineMismatch, r"bundle's image"),
        (_refused, EngineError, r"cannot be loaded by TensorRT-RTX 1\.7(.|\n)*Version tag does not match\.\n"),
        (_no_context, EngineError, r"refuses an execution context(.|\n)*out of memory"),
    ],
)
def test_engine_that_cannot_be_used_leaves_nothing_allocated(
    bundle: Bundle,
    fake_cuda: Fake,
    fake_trt: FakeTrt,
    spoil: Callable[[Bundle, FakeTrt], None],
    error: type[EngineError],
    message: str,
) -> None:
    _add_engine(bundle)
    spoil(bundle, fake_trt)
    with pytest.raises(error, match=message) as caught:
        TensorRtBackend(bundle, "fp32")
    assert "not worth telling" not in str(caught.value)
    assert fake_cuda.memory.size_bytes == 0


@pytest.mark.parametrize("content", [ENGINE_BYTES[:4], b"another engine", b""])
def test_altered_engine_is_never_deserialised(
    bundle: Bundle, fake_cuda: Fake, fake_trt: FakeTrt, content: bytes
) -> None:
    entry = _add_engine(bundle)
    (bundle.path / entry.file).write_bytes(content)
    with pytest.raises(BundleCorrupt, match="is not the file the manifest describes"):
        TensorRtBackend(bundle, "fp32")
    assert "deserialize" not in fake_cuda.calls


def test_without_any_tensorrt_the_package_is_named(
    bundle: Bundle, fake_cuda: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "installed_flavours", tuple)
    monkeypatch.setattr(flavours_module, "installed_flavours", tuple)
    with pytest.raises(MissingDependency, match=r"pip install 'edge-ad\[tensorrt\]'"):
        TensorRtBackend(bundle, "fp32")


def test_mismatch_of_the_installed_version_through_the_backend(bundle: Bundle, fake_trt: FakeTrt) -> None:
    _add_engine(bundle, version="1.6.0.9")
    with pytest.raises(EngineMismatch, match=f"expected: TensorRT-RTX {VERSION}"):
        open_backend(bundle, "fp32", "tensorrt")


def test_auto_takes_tensorrt_where_an_engine_fits(bundle: Bundle, fake_trt: FakeTrt) -> None:
    _add_engine(bundle, target=target_of(CAPABILITY))
    backend = open_backend(bundle, "fp32", "auto")
    assert backend.name == "tensorrt-rtx"
    backend.close()


def test_auto_takes_the_cpu_where_no_engine_fits(bundle: Bundle, fake_trt: FakeTrt) -> None:
    _add_engine(bundle, target="sm120")
    backend = open_backend(bundle, "fp32", "auto")
    assert backend.name == "onnxruntime-cpu"
    backend.close()
