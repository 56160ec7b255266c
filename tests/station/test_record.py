"""The record: what was added is there after any end of the process, numbered without gaps, within its limits."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_ad.errors import RecordError
from edge_ad.station.query import Query, Reader
from edge_ad.station.record import TRIM_ROWS, Record
from edge_ad.station.schema import DATABASE, MIGRATIONS, connect
from edge_ad.station.verdict import ANOMALOUS, FAULT, GOOD, Verdict, VerdictName
from tests.station.made import EPOCH_NS, MODEL, SECOND_NS, verdict_of


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    opened = Record(tmp_path / "record")
    yield opened
    opened.close()


def stored(folder: Path, query: Query = Query(oldest_first=True)) -> list[Verdict]:  # noqa: B008 (it is frozen)
    with Reader(folder) as reader:
        return list(reader.verdicts(query))


def test_every_field_of_a_verdict_comes_back(record: Record) -> None:
    names: tuple[VerdictName, ...] = (GOOD, ANOMALOUS, FAULT)
    added = record.add([verdict_of(number, name) for number, name in enumerate(names)])
    assert [verdict.id for verdict in added] == [1, 2, 3]
    assert stored(record.folder) == added
    assert added[0] == dataclasses.replace(verdict_of(0), id=1)


def test_a_threshold_that_was_refitted_is_another_model(record: Record) -> None:
    refitted = dataclasses.replace(MODEL, threshold=0.5, threshold_version=3)
    record.add([verdict_of(0), verdict_of(1, model=refitted), verdict_of(2)])
    assert [v.model for v in stored(record.folder)] == [MODEL, refitted, MODEL]


def test_a_commit_waits_for_the_disk(record: Record) -> None:
    """synchronous=FULL (2) with a write-ahead log: SQLite's own promise of durability at every commit."""
    connection = record._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_nothing_of_a_batch_is_added_if_one_of_it_cannot_be(record: Record) -> None:
    record.add([verdict_of(0)])
    with pytest.raises(sqlite3.IntegrityError):
        record.add([verdict_of(1, model=dataclasses.replace(MODEL, bundle="new")), verdict_of(0)])
    assert [v.number for v in stored(record.folder)] == [0]
    added = record.add([verdict_of(2, model=dataclasses.replace(MODEL, bundle="new"))])
    assert added[0].id == 2  # the number that was not used is used now: no gap
    assert stored(record.folder)[-1].model == dataclasses.replace(MODEL, bundle="new")


def test_one_trigger_has_one_verdict(record: Record) -> None:
    record.add([verdict_of(7)])
    with pytest.raises(sqlite3.IntegrityError):
        record.add([verdict_of(7, FAULT)])
    assert len(stored(record.folder)) == 1


ADD_AND_DIE = """
import os, signal, sys
from pathlib import Path
from edge_ad.station.record import Record
from tests.station.made import verdict_of
record = Record(Path(sys.argv[1]))
for number in range(50):
    print(record.add([verdict_of(number, run=record.run)])[0].id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_added_survives_a_kill_and_the_next_run_knows_of_it(tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", ADD_AND_DIE, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    record = Record(tmp_path)
    assert record.was_interrupted and record.run == 3 and record.newest_id == 100
    with Reader(tmp_path) as reader:
        assert [(v.id, v.trigger_id) for v in reader.after(49, 2)] == [(50, "1-49"), (51, "2-0")]
    record.close()
    ended = Record(tmp_path)
    assert not ended.was_interrupted
    ended.close()


def test_two_stations_do_not_share_a_record(record: Record) -> None:
    with pytest.raises(RecordError, match="Another station"):
        Record(record.folder)
    record.close()
    record.close()
    Record(record.folder).close()


def test_a_damaged_record_is_put_aside_and_a_new_one_is_begun(tmp_path: Path) -> None:
    first = Record(tmp_path)
    first.add([verdict_of(number) for number in range(300)])
    first.close()
    path = tmp_path / DATABASE
    content = bytearray(path.read_bytes())
    for place in range(4096, len(content), 4096):
        content[place : place + 64] = os.urandom(64)
    path.write_bytes(content)
    second = Record(tmp_path)
    assert "put aside" in second.damage and second.uid != first.uid
    assert second.add([verdict_of(0)])[0].id == 1
    second.close()
    assert [p for p in tmp_path.iterdir() if p.name.startswith(f"{DATABASE}.damaged-")]
    assert Record(tmp_path).damage == ""


def test_a_file_that_is_no_database_is_put_aside_too(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"these are notes" * 1000)
    record = Record(tmp_path)
    assert "not a database" in record.damage
    record.close()


def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as other:
        other.execute("CREATE TABLE notes (text TEXT)")
    other.close()
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(RecordError, match="not a station's record"):
        Record(tmp_path)
    assert (tmp_path / DATABASE).read_bytes()[100:] == before[100:]  # what follows the header


def test_a_record_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Record(tmp_path).close()
    connection = connect(tmp_path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(RecordError, match="newer edge_ad"):
        Record(tmp_path)


def test_an_older_record_is_brought_up_to_date_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Record(tmp_path)
    old.add([verdict_of(0)])
    old.close()
    later = (*MIGRATIONS, "ALTER TABLE verdicts ADD COLUMN belt TEXT NOT NULL DEFAULT 'A';")
    monkeypatch.setattr("edge_ad.station.schema.MIGRATIONS", later)
    record = Record(tmp_path)
    assert record._connection.execute("SELECT belt FROM verdicts").fetchall() == [("A",)]
    assert record._connection.execute("PRAGMA user_version").fetchone() == (len(later),)
    assert record.uid == old.uid
    record.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Record(tmp_path).close()
    broken = (*MIGRATIONS, "ALTER TABLE verdicts ADD COLUMN belt TEXT; ALTER TABLE no_such_table ADD COLUMN x TEXT;")
    monkeypatch.setattr("edge_ad.station.schema.MIGRATIONS", broken)
    with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
        Record(tmp_path)
    monkeypatch.undo()
    record = Record(tmp_path)
    columns = [row[1] for row in record._connection.execute("PRAGMA table_info(verdicts)")]
    assert "belt" not in columns
    record.close()


def test_publishers_begin_after_the_newest_verdict_and_go_on_where_they_were(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.add([verdict_of(0), verdict_of(1)])
    assert record.register(["mqtt"]) == {"mqtt": 2}
    record.add([verdict_of(2), verdict_of(3)])
    record.add([], {"mqtt": 3})
    record.close()
    record = Record(tmp_path)
    assert record.register(["webhook", "mqtt"]) == {"webhook": 4, "mqtt": 3}
    record.close()


def test_the_oldest_verdicts_give_way_when_the_database_is_too_large(tmp_path: Path) -> None:
    record = Record(tmp_path, most_bytes=300_000)
    for start in range(0, 4000, 500):
        record.add([verdict_of(number) for number in range(start, start + 500)])
    assert record.used_bytes > 300_000
    while record.trim():
        assert record.newest_id == 4000
    assert record.used_bytes <= 300_000
    left = [verdict.id for verdict in stored(tmp_path)]
    assert left == list(range(left[0], 4001)) and left[0] % TRIM_ROWS == 1
    pages = record._value("PRAGMA page_count")
    for start in range(4000, 8000, 500):
        record.add([verdict_of(number) for number in range(start, start + 500)])
        while record.trim():
            pass
    assert record.used_bytes <= 300_000
    assert record._value("PRAGMA page_count") <= pages  # freed pages are used again: the file stops growing
    record.close()


def test_the_newest_verdict_is_never_given_up(tmp_path: Path) -> None:
    record = Record(tmp_path, most_bytes=0)
    record.add([verdict_of(0), verdict_of(1), verdict_of(2)])
    assert record.trim() == 2
    assert record.trim() == 0
    assert [v.id for v in stored(tmp_path)] == [3]
    record.close()


def test_queries_find_what_they_ask_for_in_their_order(record: Record) -> None:
    kinds: tuple[VerdictName, ...] = (GOOD, GOOD, GOOD, ANOMALOUS, FAULT)
    cameras = ("top", "side")
    record.add([verdict_of(n, kinds[n % 5], camera=cameras[n % 2], recipe=f"r{n % 3}") for n in range(1200)])
    folder = record.folder

    def numbers(query: Query) -> list[int]:
        return [verdict.number for verdict in stored(folder, query)]

    assert numbers(Query()) == list(range(1199, -1, -1))
    assert numbers(Query(oldest_first=True)) == list(range(1200))
    assert numbers(Query(limit=3)) == [1199, 1198, 1197]
    assert numbers(Query(limit=700)) == list(range(1199, 499, -1))
    assert numbers(Query(camera="side", limit=2)) == [1199, 1197]
    assert numbers(Query(recipe="r1", limit=2)) == [1198, 1195]
    assert numbers(Query(part_id="part-4")) == [4]
    assert numbers(Query(verdicts=(ANOMALOUS, FAULT), limit=3)) == [1199, 1198, 1194]
    assert numbers(Query(verdicts=(GOOD,), oldest_first=True, limit=4)) == [0, 1, 2, 5]
    window = Query(since_ns=EPOCH_NS + 10 * SECOND_NS, until_ns=EPOCH_NS + 13 * SECOND_NS)
    assert numbers(window) == [12, 11, 10]
    assert numbers(dataclasses.replace(window, verdicts=(GOOD,))) == [12, 11, 10]
    with Reader(folder) as reader:
        assert reader.counts(Query()) == {GOOD: 720, ANOMALOUS: 240, FAULT: 240}
        assert reader.counts(window) == {GOOD: 3}
        assert reader.counts(Query(camera="top", verdicts=(ANOMALOUS,))) == {ANOMALOUS: 120}


def test_reading_goes_on_where_it_ended_even_among_verdicts_of_one_moment(record: Record) -> None:
    record.add([verdict_of(number, time_ns=EPOCH_NS) for number in range(5)])
    with Reader(record.folder) as reader:
        for oldest_first, order in ((False, [5, 4, 3, 2, 1]), (True, [1, 2, 3, 4, 5])):
            query = Query(limit=2, oldest_first=oldest_first)
            seen = list(reader.verdicts(query))
            while page := list(reader.verdicts(query, beyond=seen[-1])):
                seen += page
            assert [verdict.id for verdict in seen] == order


def test_verdicts_are_read_by_id_for_those_who_follow(record: Record) -> None:
    record.add([verdict_of(number, time_ns=EPOCH_NS - number) for number in range(5)])  # a clock that was set back
    with Reader(record.folder) as reader:
        assert [verdict.id for verdict in reader.after(2, 2)] == [3, 4]
        assert reader.verdict(4) == reader.after(3, 1)[0]
        assert reader.verdict(6) is None


def test_a_reader_of_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="holds no record"):
        Reader(tmp_path)
    (tmp_path / DATABASE).write_bytes(b"")
    with pytest.raises(RecordError, match="cannot be read"):
        Reader(tmp_path)


def test_a_verdict_as_json_is_flat_and_says_when_in_utc() -> None:
    tree = json.loads(json.dumps(verdict_of(3, ANOMALOUS).to_json()))
    assert tree["trigger_id"] == "1-3" and tree["time"] == "2026-09-21T14:13:23.000000Z"
    assert tree["bundle_sha256"] == "a" * 64 and tree["threshold_version"] == 2
    assert tree["regions"] == [{"x": 1, "y": 2, "width": 3, "height": 4, "score": 0.875}]
    fault = verdict_of(3, FAULT).to_json()
    assert fault["reason"] == "no frame came"
    assert fault["score"] is None and fault["threshold"] is None and fault["captured"] is None
    assert fault.keys() == tree.keys()
