"""The record's tables, how older ones are brought up to date, and how a damaged file is met.

Ids of verdicts are given without gaps and never twice (AUTOINCREMENT), so a subscriber that counts them knows that it
has all of them. Tables are only ever added to: a migration is SQL, appended to MIGRATIONS, never changed afterwards.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from edge_ad.errors import RecordError

__all__ = ["DATABASE", "MIGRATIONS", "check_integrity", "connect", "migrate"]

DATABASE = "record.sqlite"
APPLICATION_ID = 0x45444144  # "EDAD", in the header of the file
BUSY_MS = 5000  # how long a connection waits for another one's transaction
CHECK_S = 5.0  # a start is not held up longer than this by the integrity check
_CHECK_STEPS = 100_000  # of SQLite's machine, between two looks at the clock

MIGRATIONS = (
    """
    CREATE TABLE record (uid TEXT NOT NULL, created_ns INTEGER NOT NULL);
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        started_ns INTEGER NOT NULL,
        stopped_ns INTEGER,
        version TEXT NOT NULL
    );
    CREATE TABLE models (
        id INTEGER PRIMARY KEY,
        bundle TEXT NOT NULL,
        bundle_sha256 TEXT NOT NULL,
        model_sha256 TEXT NOT NULL,
        precision TEXT NOT NULL,
        backend TEXT NOT NULL,
        threshold REAL NOT NULL,
        threshold_version INTEGER NOT NULL,
        UNIQUE (bundle, bundle_sha256, model_sha256, precision, backend, threshold, threshold_version)
    );
    CREATE TABLE verdicts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL REFERENCES runs (id),
        number INTEGER NOT NULL,
        time_ns INTEGER NOT NULL,
        camera TEXT NOT NULL,
        recipe TEXT NOT NULL,
        verdict TEXT NOT NULL CHECK (verdict IN ('good', 'anomalous', 'fault')),
        reason TEXT NOT NULL,
        part_id TEXT,
        sequence INTEGER,
        captured_ns INTEGER,
        model INTEGER REFERENCES models (id),
        score REAL,
        regions TEXT NOT NULL,
        capture_ms REAL,
        wait_ms REAL,
        inspect_ms REAL,
        UNIQUE (run, number)
    );
    CREATE INDEX verdicts_by_time ON verdicts (time_ns);
    CREATE INDEX verdicts_by_part ON verdicts (part_id) WHERE part_id IS NOT NULL;
    CREATE INDEX verdicts_not_good ON verdicts (time_ns) WHERE verdict != 'good';
    CREATE TABLE deliveries (publisher TEXT PRIMARY KEY, verdict_id INTEGER NOT NULL);
    CREATE TABLE remembered (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    """,
)


def connect(folder: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to the record in `folder`, in autocommit; the caller closes it.

    A writer's commit is on the disk when it returns: WAL with synchronous=FULL waits for the disk at every commit.

    Raises:
        RecordError: There is no record there, or it cannot be opened.
    """
    path = folder / DATABASE
    if read_only and not path.is_file():
        raise RecordError(
            f"{folder} holds no record.",
            expected=f"a folder with {DATABASE}, as [record] folder in station.toml names it",
            fix="give that folder, or start the station once",
        )
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
            uri=True,
            timeout=BUSY_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as exc:
        raise RecordError(f"{path} cannot be opened.", got=exc, fix="check the folder and its permissions") from exc
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def check_integrity(folder: Path, seconds: float = CHECK_S) -> str:
    """Look for damage; returns what was found, "" where nothing was, also when the time was up before the end."""
    path = folder / DATABASE
    if not path.exists():
        return ""
    deadline = time.monotonic() + seconds
    try:
        with closing(connect(folder)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _CHECK_STEPS)
            rows = connection.execute("PRAGMA quick_check(1)").fetchall()
            return "" if rows == [("ok",)] else "; ".join(str(row[0]) for row in rows)
    except sqlite3.OperationalError as exc:
        if str(exc) == "interrupted":
            return ""
        raise RecordError(f"{path} cannot be checked.", got=exc, fix="check the disk and its permissions") from exc
    except sqlite3.DatabaseError as exc:
        return str(exc)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the tables up to date, each step whole or not at all.

    Raises:
        RecordError: The file is something else, or was written by a newer edge_ad.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application not in (0, APPLICATION_ID) or (application == 0 and _tables(connection)):
        raise RecordError(f"{path} is not a station's record.", fix="choose another folder in [record]")
    if version > len(MIGRATIONS):
        raise RecordError(
            f"{path} was written by a newer edge_ad.",
            expected=f"schema {len(MIGRATIONS)} or older",
            got=f"schema {version}",
            fix="install that version, or choose another folder in [record]",
        )
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        marks = f"PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION_ID};"
        connection.executescript(f"BEGIN IMMEDIATE; {script} {marks} COMMIT;")
    if not connection.execute("SELECT uid FROM record").fetchone():
        connection.execute("INSERT INTO record VALUES (?, ?)", (secrets.token_hex(8), time.time_ns()))


def _tables(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return int(count)
