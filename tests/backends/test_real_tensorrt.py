"""The TensorRT backend with the real TensorRT, and on a real GPU where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from build_engines import BuildOptions, build
from build_engines.targets import known_targets
from edge_ad.backends import open_backend
from edge_ad.backends.engine import engine_from_bytes
from edge_ad.backends.flavours import load_flavour, target_of
from edge_ad.backends.onnxruntime import OnnxRuntimeBackend
from edge_ad.backends.tensorrt import TensorRtBackend
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineError, NoGpu
from tests.tiny_bundle import HEIGHT, WIDTH, needs_rtx, tiny_bundle

# Largest |difference| of map and score between TensorRT and ONNX Runtime on the tiny bundle, whose scores are about
# 0.2: other kernels sum in another order (fp32), round sums to 11 bits (fp16), flip single steps (int8).
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-3, "int8": 2e-2}


def _frames(count: int) -> npt.NDArray[np.uint8]:
    """Random, so that no row or byte equals another by chance of a pattern."""
    return np.random.default_rng(count).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "tiny", "fp32", "int8")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda engine: engine, "cudaError", id="no-driver"),
        pytest.param(
            lambda engine: engine[:-1000], "Serialization assertion plan.header.size == blobSize", id="truncated"
        ),
        pytest.param(lambda engine: b"no engine at all" * 100, "kEXPECTED_MAGIC_TAG", id="garbage"),
        pytest.param(lambda engine: b"", "empty memory buffer", id="empty"),
    ],
)
@needs_rtx
def test_real_deserialisation_failure_is_our_error(
    bundle: Bundle, no_gpu: None, spoil: Callable[[bytes], bytes], reason: str
) -> None:
    (built,) = build(bundle, BuildOptions(targets=("sm89",), precisions=("fp32",), flavour="rtx"))
    flavour = load_flavour("rtx")
    with pytest.raises(EngineError, match=r"one\.engine cannot be loaded by TensorRT-RTX") as caught:
        engine_from_bytes(flavour, spoil(bundle.read(built.entry.file)), "one.engine")
    assert reason in str(caught.value.got)


@needs_rtx
def test_real_machine_without_gpu_says_no_gpu(bundle: Bundle, no_gpu: None) -> None:
    build(bundle, BuildOptions(targets=("sm89",), flavour="rtx"))
    with pytest.raises(NoGpu):
        open_backend(bundle, "fp32", "tensorrt")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("max_batch", [1, 2])
def test_real_engine_agrees_with_onnxruntime(
    tmp_path: Path, gpu: tuple[int, int], precision: str, max_batch: int
) -> None:
    if target_of(gpu) not in known_targets(load_flavour()):
        pytest.skip(f"{load_flavour().title} does not serve {target_of(gpu)}")
    bundle = tiny_bundle(tmp_path / "tiny", precision)
    build(bundle, BuildOptions(targets=("this-gpu",), max_batch=max_batch))
    reference, backend = OnnxRuntimeBackend(bundle, precision), TensorRtBackend(bundle, precision)
    for count in (1, 2, 5, 1):
        images = _frames(count)
        for expected, got in zip(reference.run(images), backend.run(images), strict=True):
            assert got.shape == expected.shape
            assert np.abs(got - expected).max() <= TOLERANCE[precision]
    backend.close()
    backend.close()
