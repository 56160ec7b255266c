"""Fixtures that replace the machine's GPU by the stand-in, through either binding of CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_ad.backends import cuda, runtime_cache, standin, vendor
from edge_ad.backends.standin.machine import Machine
from edge_ad.backends.standin.trt import TensorRt
from edge_ad.bundle import Bundle
from tests.backends.fake_pycuda import PyCuda
from tests.golden_bundle import golden_bundle
from tests.tiny_bundle import HEIGHT, WIDTH


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime_cache.ENVIRONMENT, str(tmp_path / "cache"))
    monkeypatch.delenv(cuda.ENVIRONMENT, raising=False)


@pytest.fixture
def stand_in() -> Iterator[standin.Gpu]:
    """The stand-in through cuda-python."""
    with standin.gpu() as gpu:
        yield gpu


@pytest.fixture(params=["cuda-python", "pycuda"])
def either(request: pytest.FixtureRequest) -> Iterator[standin.Gpu]:
    """The stand-in through cuda-python and through pycuda."""
    if request.param == "cuda-python":
        with standin.gpu() as gpu:
            yield gpu
        return
    machine = Machine(capability=(8, 9), integrated=False, memory_bytes=8 << 30)
    with vendor.replaced({"pycuda.driver": PyCuda(machine), "tensorrt_rtx": TensorRt(machine, "rtx")}):
        yield standin.Gpu(machine)
    assert machine.lost or machine.held() == {}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """fp32 and int8 with golden vectors, and no engine yet."""
    return golden_bundle(tmp_path / "tiny.bundle", "fp32", "int8")


def frames(count: int) -> npt.NDArray[np.uint8]:
    """Random, so that no row or byte equals another by chance of a pattern."""
    return np.random.default_rng(count).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)
