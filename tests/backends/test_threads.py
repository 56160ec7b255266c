"""Several inspectors, several threads: one engine, right answers, nothing left."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_ad import Inspector
from edge_ad.backends import standin
from edge_ad.backends.standin import Gpu
from edge_ad.bundle import Bundle
from edge_ad.errors import InspectionFault
from tests.backends.conftest import frames

WORKERS, FRAMES = 6, 60


@pytest.fixture(autouse=True)
def _restless() -> Iterator[None]:
    """Threads change in the middle of everything, not only where they wait."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(work: Callable[[int], object]) -> list[object]:
    """All at once; the first error is raised."""
    barrier = threading.Barrier(WORKERS)

    def begin(number: int) -> object:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(WORKERS) as pool:
        return [future.result() for future in [pool.submit(begin, number) for number in range(WORKERS)]]


def test_inspectors_share_the_engine_and_nothing_else(bundle: Bundle, either: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    inspectors = [Inspector(bundle, precision="fp32", backend="tensorrt") for _ in range(3)]
    held = either.held()
    assert (held["engines"], held["execution contexts"], held["streams"]) == (1, 3, 3)
    assert either.calls.count("deserialize_cuda_engine") == 1

    inspectors[0].close()
    assert either.held()["engines"] == 1
    assert inspectors[1].inspect(frames(1)[0]).score == inspectors[2].inspect(frames(1)[0]).score
    inspectors[1].close()
    inspectors[2].close()
    assert either.held() == {}


def test_each_precision_has_its_engine(bundle: Bundle, stand_in: Gpu) -> None:
    for precision in ("fp32", "int8"):
        standin.add_engine(bundle, precision)
    with (
        Inspector(bundle, precision="fp32", backend="tensorrt"),
        Inspector(bundle, precision="int8", backend="tensorrt"),
    ):
        assert stand_in.held()["engines"] == 2


def test_an_engine_that_is_altered_meanwhile_is_not_shared(bundle: Bundle, stand_in: Gpu) -> None:
    entry = standin.add_engine(bundle, "fp32")
    with Inspector(bundle, precision="fp32", backend="tensorrt"):
        (bundle.path / entry.file).write_bytes(b"altered")
        with pytest.raises(Exception, match="is not the file the manifest describes"):
            Inspector(bundle, precision="fp32", backend="tensorrt")


def test_an_inspector_for_each_thread(bundle: Bundle, stand_in: Gpu) -> None:
    """Opened, used and closed at once: contexts and streams stay apart, else the stand-in raises Misuse."""
    standin.add_engine(bundle, "fp32")
    images = frames(FRAMES)
    with Inspector(bundle, precision="fp32", backend="onnxruntime") as reference:
        expected = [reference.inspect(image).score for image in images]

    def work(number: int) -> list[float]:
        with Inspector(bundle, precision="fp32", backend="tensorrt") as inspector:
            return [inspector.inspect(image).score for image in images[number::WORKERS]]

    for number, scores in enumerate(in_threads(work)):
        assert np.allclose(scores, expected[number::WORKERS], atol=1e-5)  # type: ignore[arg-type]


def test_one_inspector_in_many_threads(bundle: Bundle, either: Gpu) -> None:
    """They take turns: each gets the verdict of its own frame."""
    standin.add_engine(bundle, "fp32")
    images = frames(FRAMES)
    with Inspector(bundle, precision="fp32", backend="tensorrt") as inspector:
        expected = [inspector.inspect(image).score for image in images]
        assert len(set(expected)) > FRAMES // 2

        def work(number: int) -> list[float]:
            return [inspector.inspect(image).score for image in images[number::WORKERS]]

        for number, scores in enumerate(in_threads(work)):
            assert scores == expected[number::WORKERS]


def test_closing_while_others_inspect(bundle: Bundle, stand_in: Gpu) -> None:
    """Whoever comes too late is told; nobody meets memory that is gone."""
    standin.add_engine(bundle, "fp32")
    inspector = Inspector(bundle, precision="fp32", backend="tensorrt")
    image = frames(1)[0]
    expected = inspector.inspect(image).score

    def work(number: int) -> None:
        if number == 0:
            inspector.inspect(image)
            inspector.close()
            return
        with pytest.raises(InspectionFault, match="closed"):
            while True:
                assert inspector.inspect(image).score == expected

    in_threads(work)
    assert stand_in.held() == {}
