"""What people taught a station: marks on parts, and thresholds in place of those that bundles bring.

Both are in `teach.sqlite` beside the record, which outlives verdicts that gave way and a record that was damaged. Rows
are only ever added, so it is its own audit trail: who, when, why, from what to what, and what it was judged by.
A taught threshold is for one graph and precision, and replaces exactly the threshold that the bundle brought for it:
a bundle that brings another graph or another threshold is served with its own again.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from edge_ad.errors import RecordError, StationError
from edge_ad.inspector import Inspector
from edge_ad.station.verdict import Verdict, utc

__all__ = ["MARKS", "BundleThreshold", "Mark", "MarkName", "Teaching", "ThresholdChange"]

DATABASE = "teach.sqlite"
APPLICATION_ID = 0x45445443  # "EDTC", in the header of the file
MIGRATIONS = (
    """
    CREATE TABLE marks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time_ns INTEGER NOT NULL,
        who TEXT NOT NULL,
        mark TEXT CHECK (mark IN ('good', 'defect')),
        note TEXT NOT NULL,
        record TEXT NOT NULL,
        verdict_id INTEGER NOT NULL,
        triggered_ns INTEGER NOT NULL,
        camera TEXT NOT NULL,
        part_id TEXT,
        score REAL NOT NULL,
        model_sha256 TEXT NOT NULL,
        precision TEXT NOT NULL
    );
    CREATE INDEX marks_by_model ON marks (model_sha256, precision);
    CREATE TABLE thresholds (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time_ns INTEGER NOT NULL,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        graph_sha256 TEXT NOT NULL,
        precision TEXT NOT NULL,
        bundle_threshold REAL NOT NULL,
        bundle_version INTEGER NOT NULL,
        version INTEGER NOT NULL,
        threshold REAL NOT NULL,
        before REAL NOT NULL,
        basis TEXT NOT NULL,
        UNIQUE (graph_sha256, precision, bundle_threshold, bundle_version, version)
    );
    """,
)

MarkName: TypeAlias = Literal["good", "defect"]
MARKS: tuple[MarkName, ...] = ("good", "defect")


@dataclass(frozen=True, kw_only=True)
class BundleThreshold:
    """The threshold that a bundle brings for one of its graphs."""

    graph_sha256: str
    precision: str
    threshold: float
    version: int

    @staticmethod
    def of(inspector: Inspector) -> BundleThreshold:
        """That of the precision which this inspector runs."""
        manifest = inspector.bundle.manifest
        entry = manifest.precisions[inspector.precision]
        return BundleThreshold(
            graph_sha256=manifest.files[entry.graph],
            precision=inspector.precision,
            threshold=entry.threshold,
            version=entry.threshold_version,
        )


@dataclass(frozen=True, kw_only=True)
class ThresholdChange:
    """A threshold from the moment it was set until the next change.

    Attributes:
        version: One above the version before, whether that was the bundle's or a taught one.
        before: The threshold before.
        basis: What it was judged by, JSON-ready.
    """

    time_ns: int
    who: str
    why: str
    version: int
    threshold: float
    before: float
    basis: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict, the time in UTC."""
        tree = vars(self).copy()
        return {"time": utc(tree.pop("time_ns")), **tree}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What somebody says of a part that was judged.

    Attributes:
        mark: "good": it should have been accepted; "defect": it should have been, or rightly was, rejected.
        record, verdict_id: The verdict's record and its id there.
        triggered_ns: When the part was triggered, nanoseconds since the epoch.
    """

    time_ns: int
    who: str
    mark: MarkName
    note: str
    record: str
    verdict_id: int
    triggered_ns: int
    camera: str
    part_id: str | None
    score: float

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict, times in UTC."""
        tree = vars(self).copy()
        return {"time": utc(tree.pop("time_ns")), "triggered": utc(tree.pop("triggered_ns")), **tree}


class Teaching:
    """The store of marks and thresholds. Threads may share it.

    Args:
        folder: Of the record, which is there.

    Raises:
        RecordError: It cannot be opened, or is damaged. The bundles' thresholds are not taken in its place: a station
            that was taught would become more or less sensitive, and nobody would know.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / DATABASE
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as exc:
            raise self._unusable(exc) from exc
        try:
            self._connection.execute("PRAGMA synchronous = EXTRA")
            self._prepare()
        except sqlite3.Error as exc:
            self._connection.close()
            raise self._unusable(exc) from exc
        except RecordError:
            self._connection.close()
            raise

    def _unusable(self, got: object) -> RecordError:
        return RecordError(
            f"{self._path} cannot be used: the thresholds that were set on this station are in it.",
            expected="the file as the station left it",
            got=got,
            fix="restore it from a backup; or move it away, and the bundles' own thresholds hold again",
        )

    def _prepare(self) -> None:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        found = self._connection.execute("PRAGMA quick_check(1)").fetchall()
        if found != [("ok",)]:
            raise self._unusable(found[0][0])
        if application not in (0, APPLICATION_ID) or version > len(MIGRATIONS):
            raise self._unusable("another program's file, or one of a newer edge_ad")
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            marks = f"PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION_ID};"
            self._connection.executescript(f"BEGIN IMMEDIATE; {script} {marks} COMMIT;")

    # --- marks ---------------------------------------------------------------------------------------------------

    def mark(self, record: str, verdict: Verdict, mark: MarkName | None, *, who: str, note: str = "") -> None:
        """Say that a part was good or had a defect; None takes back what was said of it.

        Args:
            record: The uid of the verdict's record.

        Raises:
            StationError: It is a fault: it has no score to learn from.
        """
        if verdict.model is None or verdict.score is None:
            raise StationError(f"Verdict {verdict.id} is a fault, and has no score.", expected="a part that was judged")
        of_verdict = (verdict.id, verdict.time_ns, verdict.camera, verdict.part_id, verdict.score)
        of_model = (verdict.model.model_sha256, verdict.model.precision)
        row = (time.time_ns(), who, mark, note, record, *of_verdict, *of_model)
        with self._transaction():
            self._connection.execute(
                "INSERT INTO marks (time_ns, who, mark, note, record, verdict_id, triggered_ns, camera, part_id, score,"
                " model_sha256, precision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )

    def marks(self, model_sha256: str, precision: str) -> list[Mark]:
        """What holds now of the parts that a model judged, the newest last."""
        with self._use("read"):
            rows = self._connection.execute(
                "SELECT time_ns, who, mark, note, record, verdict_id, triggered_ns, camera, part_id, score FROM marks"
                " WHERE mark IS NOT NULL AND id IN (SELECT max(id) FROM marks WHERE model_sha256 = ? AND precision = ?"
                " GROUP BY record, verdict_id) ORDER BY id",
                (model_sha256, precision),
            ).fetchall()
        names = tuple(Mark.__dataclass_fields__)
        return [Mark(**dict(zip(names, row, strict=True))) for row in rows]

    # --- thresholds ----------------------------------------------------------------------------------------------

    def history(self, of: BundleThreshold) -> list[ThresholdChange]:
        """Every change of a bundle's threshold on this station, the newest last."""
        with self._use("read"):
            return self._history(of)

    def _history(self, of: BundleThreshold) -> list[ThresholdChange]:
        rows = self._connection.execute(
            "SELECT basis, time_ns, who, why, version, threshold, before FROM thresholds WHERE graph_sha256 = ?"
            " AND precision = ? AND bundle_threshold = ? AND bundle_version = ? ORDER BY version",
            _key(of),
        ).fetchall()
        names = ("time_ns", "who", "why", "version", "threshold", "before")
        return [ThresholdChange(basis=json.loads(row[0]), **dict(zip(names, row[1:], strict=True))) for row in rows]

    def in_use(self, of: BundleThreshold) -> tuple[float, int]:
        """The threshold that holds for a bundle on this station, and its version."""
        history = self.history(of)
        return (history[-1].threshold, history[-1].version) if history else (of.threshold, of.version)

    def of_inspector(self, inspector: Inspector) -> tuple[float, int]:
        """The threshold by which an inspector is to judge on this station, and its version."""
        return self.in_use(BundleThreshold.of(inspector))

    def change(
        self, of: BundleThreshold, threshold: float, *, version: int, who: str, why: str, basis: dict[str, Any]
    ) -> ThresholdChange:
        """Set another threshold; it is on the disk when this returns.

        Args:
            version: The one it replaces, as the person saw it.

        Raises:
            StationError: Somebody else has changed it meanwhile.
        """
        with self._transaction():
            history = self._history(of)
            before, newest = (history[-1].threshold, history[-1].version) if history else (of.threshold, of.version)
            if version != newest:
                raise StationError(
                    "The threshold was changed meanwhile.", expected=f"version {newest}", got=f"version {version}"
                )
            change = ThresholdChange(
                time_ns=time.time_ns(),
                who=who,
                why=why,
                version=newest + 1,
                threshold=threshold,
                before=before,
                basis=basis,
            )
            row = (change.time_ns, who, why, *_key(of), change.version, threshold, before, json.dumps(basis))
            self._connection.execute(
                "INSERT INTO thresholds (time_ns, who, why, graph_sha256, precision, bundle_threshold, bundle_version,"
                " version, threshold, before, basis) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
        return change

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._use("written"):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def _use(self, purpose: str) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as exc:  # also of a station that stops meanwhile
            raise RecordError(
                f"{self._path} cannot be {purpose}; nothing was changed.", got=exc, fix="check the disk's free space"
            ) from exc

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        with self._lock:
            self._connection.close()


def _key(of: BundleThreshold) -> tuple[str, str, float, int]:
    return of.graph_sha256, of.precision, of.threshold, of.version
