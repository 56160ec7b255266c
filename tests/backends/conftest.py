"""Fixtures that replace the machine's GPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

import pytest

from edge_ad.backends import cuda
from tests.backends.fake_gpu import FakePyCuda, FakeRuntime


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
