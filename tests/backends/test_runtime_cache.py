"""What TensorRT-RTX finished for this GPU is kept between starts, and never in the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_ad import Inspector
from edge_ad.backends import runtime_cache, standin
from edge_ad.backends.runtime_cache import RuntimeCacheFile
from edge_ad.backends.standin import Gpu
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleMismatch
from tests.backends.conftest import frames
from tests.tiny_bundle import replace_graph, tiny_graph


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def start(bundle: Bundle, gpu: Gpu, count: int = 1) -> int:
    """Open, inspect, close; returns how much was compiled."""
    before = gpu.compilations
    with Inspector(bundle, precision="fp32", backend="tensorrt") as inspector:
        assert all(np.isfinite(inspection.score) for inspection in inspector.inspect_batch(list(frames(count))))
    return gpu.compilations - before


def test_the_second_start_compiles_nothing(bundle: Bundle, either: Gpu, folder: Path) -> None:
    standin.add_engine(bundle, "fp32", max_batch=4)
    assert start(bundle, either) == 2  # batches of 4, which the buffers are made for, and 1
    (file,) = folder.iterdir()
    os.utime(file, (1, 1))
    assert start(bundle, either) == 0
    assert file.stat().st_mtime == 1  # nothing new, nothing written
    assert start(bundle, either, count=3) == 1
    assert start(bundle, either, count=3) == 0  # what came later is kept at the end
    assert len(list(folder.iterdir())) == 1


def test_the_bundle_is_left_as_it_is(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    before = {file: file.read_bytes() for file in bundle.path.rglob("*") if file.is_file()}
    start(bundle, stand_in)
    assert {file: file.read_bytes() for file in bundle.path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda file: file.write_bytes(b""), id="empty"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:-1]), id="cut"),
        pytest.param(lambda file: file.write_bytes(b"\0" + file.read_bytes()[1:]), id="altered"),
        pytest.param(lambda file: (file.unlink(), file.mkdir()), id="folder"),
        pytest.param(lambda file: (file.rename(f"{file}.moved"), file.symlink_to(f"{file}.moved")), id="link"),
    ],
)
def test_a_damaged_file_is_ignored_and_written_anew(
    bundle: Bundle, stand_in: Gpu, folder: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    standin.add_engine(bundle, "fp32")
    start(bundle, stand_in)
    (file,) = folder.glob("*.cache")
    damage(file)
    assert start(bundle, stand_in) == 1
    if file.is_dir():
        assert "could not be written" in caplog.text
        return
    assert not file.is_symlink()
    assert start(bundle, stand_in) == 0


def test_what_tensorrt_rejects_is_written_anew(bundle: Bundle, stand_in: Gpu, folder: Path) -> None:
    """Whole, and of another environment: TensorRT-RTX says so itself."""
    standin.add_engine(bundle, "fp32")
    start(bundle, stand_in)
    (file,) = folder.glob("*.cache")
    content = b'{"version": "98.0", "gpu": "stand-in GPU", "batches": [1]}'
    file.write_bytes(runtime_cache._DIGEST(content).digest() + content)
    assert start(bundle, stand_in) == 1
    assert start(bundle, stand_in) == 0


def test_another_engine_never_meets_it(bundle: Bundle, stand_in: Gpu, folder: Path) -> None:
    standin.add_engine(bundle, "fp32")
    start(bundle, stand_in)
    replace_graph(bundle, "fp32", tiny_graph(seed=5))
    standin.add_engine(bundle, "fp32")
    with pytest.raises(
        BundleMismatch, match="is not reproduced by tensorrt-rtx"
    ):  # the golden vectors are the old ones
        start(bundle, stand_in)
    assert len(list(folder.iterdir())) == 2


def test_another_gpu_or_driver_never_meets_it(bundle: Bundle, folder: Path) -> None:
    standin.add_engine(bundle, "fp32", target="portable")
    for capability in ((8, 9), (12, 0)):
        with standin.gpu(capability=capability) as gpu:
            assert start(bundle, gpu) == 1
    assert len(list(folder.iterdir())) == 2


def test_a_cache_cannot_hide_a_wrong_answer(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    start(bundle, stand_in)
    stand_in.distort(lambda answer: (answer[0], answer[1] + np.float32(1)))
    with pytest.raises(BundleMismatch, match="score of golden frame"):
        start(bundle, stand_in)


def test_a_folder_that_cannot_be_written_costs_time_and_is_told(
    bundle: Bundle, stand_in: Gpu, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    standin.add_engine(bundle, "fp32")
    monkeypatch.setenv(runtime_cache.ENVIRONMENT, os.devnull)
    assert start(bundle, stand_in) == 1
    assert start(bundle, stand_in) == 1
    assert "set EDGE_AD_CACHE to a writable folder" in caplog.text


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(runtime_cache.ENVIRONMENT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert runtime_cache._folder() == tmp_path / "edge_ad"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert not runtime_cache._folder().parent.is_dir()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert runtime_cache._folder() == tmp_path / "home" / ".cache" / "edge_ad"


def test_old_files_are_forgotten(bundle: Bundle, stand_in: Gpu, folder: Path) -> None:
    folder.mkdir()
    for number in range(100):
        file = folder / f"{number}.cache"
        file.write_bytes(b"old")
        os.utime(file, (number, number))
    standin.add_engine(bundle, "fp32")
    start(bundle, stand_in)
    left = {file.name for file in folder.iterdir()}
    assert len(left) == 64
    assert {f"{number}.cache" for number in range(37, 100)} < left
    assert start(bundle, stand_in) == 0


def test_threads_write_beside_each_other(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Inspectors of one process that close at once: whoever is last wins, and nobody is told of a folder's faults."""
    threads, device = 8, SimpleNamespace(name="GPU", driver=(13, 0), capability=(8, 9))
    together = threading.Barrier(threads)

    def write(number: int) -> None:
        file = RuntimeCacheFile("0" * 64, "1.7", device)
        for turn in range(20):
            together.wait()
            file.write(bytes([number, turn]) * 1000)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(threads)))
    assert caplog.records == []
    content = RuntimeCacheFile("0" * 64, "1.7", device).read()
    assert content in [bytes([number, 19]) * 1000 for number in range(threads)]
