"""Work done ahead: in order, bounded, and over when it is told to be."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from edge_ad.ahead import in_order


def test_results_come_in_order_whichever_is_ready_first() -> None:
    released = [threading.Event() for _ in range(6)]
    released[1].set()

    def work(item: int) -> int:
        released[item].wait()
        for event in released:  # the later one lets the earlier one go
            event.set()
        return item * 10

    assert list(in_order(work, range(6), threads=3)) == [0, 10, 20, 30, 40, 50]


def test_no_more_is_begun_than_threads_and_no_more_is_taken_than_twice_that() -> None:
    taken, running, most = [], [0], [0]
    lock = threading.Lock()

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    def work(item: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.001)
        with lock:
            running[0] -= 1
        return item

    results = in_order(work, items(), threads=3)
    for count, _ in enumerate(results, 1):
        assert len(taken) <= count + 5
    assert most[0] <= 3


def test_a_failure_is_raised_in_its_turn() -> None:
    results = in_order(lambda item: 1 // (item - 2), range(10), threads=2)
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_closing_waits_for_what_runs_and_drops_the_rest() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        time.sleep(0.02)
        done.append(item)
        return item

    results = in_order(work, range(1000), threads=2)
    next(results)
    results.close()
    finished = len(done)
    assert finished < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
    time.sleep(0.05)
    assert len(done) == finished
