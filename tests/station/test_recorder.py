"""The writing thread: commits together what waits together, tells only what is on the disk, outlasts a full disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_ad.station.query import Reader
from edge_ad.station.record import Record
from edge_ad.station.recorder import MOST_WAITING, Recorder
from edge_ad.station.verdict import Verdict
from tests.station.made import until, verdict_of


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    opened = Record(tmp_path)
    yield opened
    opened.close()


def ids_on_disk(record: Record) -> list[int]:
    with Reader(record.folder) as reader:
        return [verdict.id for verdict in reader.after(0, 10_000)]


def test_a_verdict_is_told_once_it_is_on_the_disk_and_in_order(record: Record) -> None:
    recorder = Recorder(record)
    recorder.start()
    told: list[tuple[Verdict, bool]] = []

    def committed(verdict: Verdict) -> None:
        told.append((verdict, verdict.id in ids_on_disk(record)))

    for number in range(40):
        recorder.add(verdict_of(number), committed)
    assert recorder.stop(10)
    assert [(verdict.number, verdict.id) for verdict, _ in told] == [(n, n + 1) for n in range(40)]
    assert all(was_there for _, was_there in told)
    assert recorder.newest_id == 40


def test_what_waits_together_is_committed_together(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    add = record.add

    def slow_add(verdicts: list[Verdict], delivered: dict[str, int]) -> list[Verdict]:
        batches.append(len(verdicts))
        started.set()
        assert may_go_on.wait(10)
        return add(verdicts, delivered)

    monkeypatch.setattr(record, "add", slow_add)
    started, may_go_on = threading.Event(), threading.Event()
    recorder = Recorder(record)
    recorder.start()
    recorder.add(verdict_of(0))
    assert started.wait(10)
    for number in range(1, 30):
        recorder.add(verdict_of(number))
    may_go_on.set()
    assert recorder.stop(10)
    assert batches == [1, 29]


def test_a_full_disk_holds_verdicts_back_until_there_is_room(record: Record) -> None:
    """max_page_count has SQLite refuse the commit as a full disk does."""
    made_room: list[str] = []
    recorder = Recorder(record, make_room=lambda: made_room.append(recorder.failure))
    pages = record._value("PRAGMA page_count")
    record._connection.execute(f"PRAGMA max_page_count = {pages}")
    recorder.start()
    told: list[int] = []
    for number in range(200):
        recorder.add(verdict_of(number), lambda verdict: told.append(verdict.id))
    until(lambda: recorder.failure, "the failure")
    assert "full" in recorder.failure and made_room
    assert told == [] == ids_on_disk(record)
    record._connection.execute("PRAGMA max_page_count = 100000")
    until(lambda: len(told) == 200)
    assert recorder.failure == ""
    assert told == ids_on_disk(record) == list(range(1, 201))
    assert recorder.stop(10)


def test_a_record_that_stays_full_ends_a_stop_in_time_and_says_what_was_lost(
    record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(record)
    record._connection.execute(f"PRAGMA max_page_count = {record._value('PRAGMA page_count')}")
    recorder.start()
    for number in range(200):
        recorder.add(verdict_of(number), lambda verdict: pytest.fail("it was not recorded"))
    assert not recorder.stop(0.3)
    assert "200 verdicts were not recorded" in caplog.text


def test_whoever_adds_more_than_may_wait_is_held_up(record: Record) -> None:
    recorder = Recorder(record)  # not started, so nothing is taken
    adding = threading.Thread(target=lambda: [recorder.add(verdict_of(n)) for n in range(MOST_WAITING + 1)])
    adding.start()
    until(lambda: len(recorder._waiting) == MOST_WAITING)
    adding.join(0.2)
    assert adding.is_alive()
    recorder.start()
    adding.join(10)
    assert not adding.is_alive()
    assert recorder.stop(10)
    assert ids_on_disk(record) == list(range(1, MOST_WAITING + 2))


def test_waiting_for_the_next_verdict_ends_with_it(record: Record) -> None:
    recorder = Recorder(record)
    recorder.start()
    assert not recorder.wait_beyond(0, 0.01)
    recorder.add(verdict_of(0))
    assert recorder.wait_beyond(0, 10)
    assert not recorder.wait_beyond(1, 0.01)
    assert recorder.stop(10)


def test_deliveries_are_on_the_disk_after_a_stop_and_soon_without_one(record: Record) -> None:
    record.register(["mqtt", "webhook"])
    recorder = Recorder(record)
    recorder.start()
    recorder.note_delivered("mqtt", 5)
    until(lambda: "mqtt" not in recorder._delivered)
    recorder.note_delivered("webhook", 6)
    assert recorder.stop(10)
    assert record.register(["mqtt", "webhook"]) == {"mqtt": 5, "webhook": 6}


def test_what_is_to_be_remembered_is_on_the_disk_when_the_call_returns(record: Record) -> None:
    assert record.remembered("recipe") is None
    recorder = Recorder(record)
    recorder.start()
    assert recorder.remember("recipe", "flange") and recorder.remember("recipe", "housing")
    assert recorder.stop(10)
    assert record.remembered("recipe") == "housing"


def test_the_database_is_kept_within_its_limit_while_verdicts_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_ad.station.recorder.HOUSEKEEPING_S", 0.01)
    record = Record(tmp_path / "small", most_bytes=200_000)
    record.add([verdict_of(number) for number in range(2000)])
    recorder = Recorder(record)
    assert recorder.used_bytes > 200_000
    recorder.start()
    until(lambda: recorder.used_bytes < 200_000)
    assert recorder.stop(10)
    assert ids_on_disk(record)[-1] == 2000
    record.close()
