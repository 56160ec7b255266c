"""Fixtures that ask the machine, and fixtures that replace it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

import pytest

from edge_ad.backends import cuda
from edge_ad.backends.flavours import installed_flavours
from edge_ad.errors import EdgeAdError
from tests.backends.fake_gpu import FakePyCuda, FakeRuntime


@pytest.fixture(scope="session")
def gpu() -> tuple[int, int]:
    """Compute capability of the real GPU; skips where none can run TensorRT."""
    if not installed_flavours():
        pytest.skip("no TensorRT is installed")
    try:
        return cuda.compute_capability()
    except EdgeAdError as exc:
        pytest.skip(f"no GPU to run on: {exc.got}")


@pytest.fixture(scope="session")
def no_gpu() -> None:
    """Skips where there is a GPU, for what can only be seen without."""
    try:
        cuda.compute_capability()
    except EdgeAdError:
        return
    pytest.skip("this machine has a GPU")


@pytest.fixture(params=["cuda-python", "pycuda"])
def fake_cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRuntime | FakePyCuda]:
    """Either binding, on a GPU made of ordinary memory."""
    fake = FakeRuntime() if request.param == "cuda-python" else FakePyCuda()
    module = "cuda.bindings.runtime" if request.param == "cuda-python" else "pycuda.driver"
    real = importlib.import_module
    monkeypatch.setattr(cuda.importlib, "import_module", lambda name: fake if name == module else real(name))
    monkeypatch.setattr(cuda, "_is_installed", lambda name: name == module)
    monkeypatch.delenv(cuda.ENVIRONMENT, raising=False)
    assert module not in sys.modules or request.param == "cuda-python"
    yield fake
