"""The record of verdicts: one SQLite file with one writer. A verdict that was added is on the disk."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edge_ad import __version__
from edge_ad.errors import RecordError
from edge_ad.station.schema import DATABASE, check_integrity, connect, migrate
from edge_ad.station.verdict import ServedModel, Verdict, utc

__all__ = ["DEFAULT_MOST_BYTES", "Record"]

DEFAULT_MOST_BYTES = 10 << 30
TRIM_ROWS = 500  # deleted in one transaction, so that no verdict waits long for it

_INSERT = """INSERT INTO verdicts (run, number, time_ns, camera, recipe, verdict, reason, part_id, sequence,
    captured_ns, model, score, regions, capture_ms, wait_ms, inspect_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_MODEL_COLUMNS = tuple(field.name for field in dataclasses.fields(ServedModel))


class Record:
    """The record, opened for its one writer. Not for several threads at once.

    A damaged file is put aside and a new record begun: the line goes on, and `damage` says so. A record has a `uid`,
    and each start of the station is a `run` of it.

    Args:
        folder: Made if it is not there.
        most_bytes: Of the database; the oldest verdicts give way.

    Attributes:
        damage: What was found wrong with the file at the start, "" for nothing.
        was_interrupted: The run before did not end with `close`: a crash, a kill or a loss of power.

    Raises:
        RecordError: The folder cannot be used, another station uses it, or a newer edge_ad wrote it.
    """

    def __init__(self, folder: Path, *, most_bytes: int = DEFAULT_MOST_BYTES) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        self._models: dict[ServedModel, int] = {}
        with ExitStack() as undo:
            self._lock = _lock(folder)
            undo.callback(os.close, self._lock)
            self.damage = self._put_damaged_aside()
            self._connection = connect(folder)
            undo.callback(self._connection.close)
            migrate(self._connection, folder / DATABASE)
            (self.uid,) = self._connection.execute("SELECT uid FROM record").fetchone()
            self.was_interrupted = bool(self._value("SELECT count(*) FROM runs WHERE stopped_ns IS NULL"))
            self.run = self._begin_run()
            undo.pop_all()

    def _put_damaged_aside(self) -> str:
        found = check_integrity(self.folder)
        if not found:
            return ""
        aside = f"{DATABASE}.damaged-{utc(time.time_ns())[:19].replace(':', '')}"
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.replace(self.folder / (DATABASE + suffix), self.folder / (aside + suffix))
        return f"{DATABASE} was damaged ({found}); it was put aside as {aside}, and a new record was begun"

    def _begin_run(self) -> int:
        with self._transaction():
            self._connection.execute("UPDATE runs SET stopped_ns = 0 WHERE stopped_ns IS NULL")
            row = (time.time_ns(), __version__)
            return int(
                self._connection.execute("INSERT INTO runs (started_ns, version) VALUES (?, ?)", row).lastrowid or 0
            )

    def add(self, verdicts: Sequence[Verdict], delivered: Mapping[str, int] | None = None) -> list[Verdict]:
        """Add verdicts in one transaction, and wait for the disk; returns them with their ids.

        Args:
            delivered: Publishers and the id up to which they have delivered.

        Raises:
            sqlite3.Error: Nothing was added: the disk is full or fails. It may be tried again.
        """
        with self._transaction():
            recorded = [dataclasses.replace(verdict, id=self._insert(verdict)) for verdict in verdicts]
            rows = [(verdict_id, name) for name, verdict_id in (delivered or {}).items()]
            self._connection.executemany("UPDATE deliveries SET verdict_id = ? WHERE publisher = ?", rows)
        return recorded

    def _insert(self, verdict: Verdict) -> int:
        row = (
            *(verdict.run, verdict.number, verdict.time_ns, verdict.camera, verdict.recipe),
            *(verdict.verdict, verdict.reason, verdict.part_id, verdict.sequence, verdict.captured_ns),
            *(self._model_id(verdict.model), verdict.score, json.dumps([vars(region) for region in verdict.regions])),
            *(verdict.capture_ms, verdict.wait_ms, verdict.inspect_ms),
        )
        return int(self._connection.execute(_INSERT, row).lastrowid or 0)

    def _model_id(self, model: ServedModel | None) -> int | None:
        if model is None:
            return None
        if model not in self._models:
            row, names = dataclasses.astuple(model), ", ".join(_MODEL_COLUMNS)
            marks = ", ".join("?" * len(row))
            self._connection.execute(f"INSERT OR IGNORE INTO models ({names}) VALUES ({marks})", row)
            (found,) = self._connection.execute(f"SELECT id FROM models WHERE ({names}) = ({marks})", row).fetchone()
            self._models[model] = int(found)
        return self._models[model]

    def remember(self, name: str, value: str) -> None:
        """Keep a value under a name, from one start of the station to the next."""
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO remembered VALUES (?, ?)", (name, value))

    def remembered(self, name: str) -> str | None:
        """The value that was kept, None if there is none."""
        row = self._connection.execute("SELECT value FROM remembered WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def register(self, publishers: Sequence[str]) -> dict[str, int]:
        """Up to which id each publisher has delivered; a new one begins after the newest verdict."""
        newest = self.newest_id
        with self._transaction():
            rows = [(name, newest) for name in publishers]
            self._connection.executemany("INSERT OR IGNORE INTO deliveries VALUES (?, ?)", rows)
        delivered = dict(self._connection.execute("SELECT publisher, verdict_id FROM deliveries"))
        return {name: int(delivered[name]) for name in publishers}

    def trim(self) -> int:
        """Delete some of the oldest verdicts if the database is too large; returns how many. The newest one stays."""
        if self.used_bytes <= self.most_bytes:
            return 0
        with self._transaction():
            return self._connection.execute(
                "DELETE FROM verdicts WHERE id IN (SELECT id FROM verdicts WHERE id < ? ORDER BY id LIMIT ?)",
                (self.newest_id, TRIM_ROWS),
            ).rowcount

    def fold_log(self) -> None:
        """Fold the write-ahead log into the database, and give its room on the disk back."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @property
    def newest_id(self) -> int:
        """Of the last verdict that was added; 0 if there is none."""
        return self._value("SELECT coalesce(max(id), 0) FROM verdicts")

    @property
    def used_bytes(self) -> int:
        """Of the database, without pages that wait to be used again."""
        pages = self._value("PRAGMA page_count") - self._value("PRAGMA freelist_count")
        return pages * self._value("PRAGMA page_size")

    def _value(self, statement: str) -> int:
        (value,) = self._connection.execute(statement).fetchone()
        return int(value)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._models = {}
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """End the run as planned; a second call does nothing."""
        if self._lock < 0:
            return
        with suppress(sqlite3.Error):
            self._connection.execute("UPDATE runs SET stopped_ns = ? WHERE id = ?", (time.time_ns(), self.run))
        self._connection.close()
        os.close(self._lock)
        self._lock = -1


def _lock(folder: Path) -> int:
    """The lock on a record, which the system takes back from a process that ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "record.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise RecordError(
            f"The record cannot be kept in {folder}.",
            expected="a folder that can be written",
            got=exc.strerror,
            fix="check the path and its permissions",
        ) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise RecordError(
            f"Another station keeps its record in {folder}.",
            expected="one station for each record",
            fix="stop the other one, or give this one another folder in [record]",
        ) from None
    return lock
