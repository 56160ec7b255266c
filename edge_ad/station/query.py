"""Questions to the record. Readers disturb no writer, and may read while a station runs."""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_ad.errors import RecordError
from edge_ad.inspection import Region
from edge_ad.station.schema import connect
from edge_ad.station.verdict import GOOD, ServedModel, Verdict, VerdictName

__all__ = ["Query", "Reader", "parse_time"]

_PAGE = 500  # rows of one read: a long one would keep the write-ahead log from being taken back
_SELECT = """SELECT v.id, run, number, time_ns, camera, recipe, verdict, reason, part_id, sequence, captured_ns, score,
    regions, capture_ms, wait_ms, inspect_ms, bundle, bundle_sha256, model_sha256, precision, backend, threshold,
    threshold_version FROM verdicts AS v LEFT JOIN models AS m ON v.model = m.id"""
_MODEL_AT = 16  # the column of _SELECT where the model's fields begin, in their order
_MODEL_FIELDS = tuple(field.name for field in dataclasses.fields(ServedModel))
_NEVER = 2**62
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIMES = "a time such as 2026-11-21, 2026-11-21T08:30:00 or 2026-11-21T08:30:00Z, or how long ago: 90s, 15m, 8h, 7d"


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which verdicts are wanted; None asks for any.

    Attributes:
        since_ns, until_ns: Times of the trigger, nanoseconds since the epoch; the end is not included.
        verdicts: Such as ("anomalous", "fault").
        limit: At most so many.
        oldest_first: The order by time; the newest come first otherwise.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    camera: str | None = None
    part_id: str | None = None
    recipe: str | None = None
    verdicts: tuple[VerdictName, ...] | None = None
    limit: int | None = None
    oldest_first: bool = False

    def conditions(self) -> tuple[list[str], list[Any]]:
        """SQL conditions and the values of their question marks."""
        asked = (
            ("time_ns >= ?", self.since_ns),
            ("time_ns < ?", self.until_ns),
            ("camera = ?", self.camera),
            ("part_id = ?", self.part_id),
            ("recipe = ?", self.recipe),
        )
        conditions = [condition for condition, value in asked if value is not None]
        values: list[Any] = [value for _, value in asked if value is not None]
        if self.verdicts is not None:
            conditions.append(f"verdict IN ({', '.join('?' * len(self.verdicts))})")
            values += self.verdicts
            if GOOD not in self.verdicts:
                conditions.append("verdict != 'good'")  # there is an index of those
        return conditions, values


def parse_time(text: str) -> int:
    """A moment in nanoseconds since the epoch: ISO 8601 (of this machine's time zone where it names none), or ago.

    Raises:
        ValueError: Saying what is expected.
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip())
    try:
        if found:
            return time.time_ns() - int(found[1]) * _UNITS_S[found[2]] * 1_000_000_000
        moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text.strip()))
        return round(moment.timestamp() * 1e6) * 1000
    except (ValueError, OverflowError, OSError):
        raise ValueError(_TIMES) from None


class Reader:
    """Reads a record. For one thread at a time.

    Args:
        folder: Of the record.

    Attributes:
        uid: Of the record.

    Raises:
        RecordError: There is no record there, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._connection = connect(folder, read_only=True)
        try:
            (self.uid,) = self._connection.execute("SELECT uid FROM record").fetchone()
        except (sqlite3.Error, TypeError) as exc:
            self._connection.close()
            raise RecordError(
                f"The record in {folder} cannot be read.",
                got=exc,
                fix="read it as the user that the station runs as; a damaged one is put aside at the next start",
            ) from exc

    def verdicts(self, query: Query, *, beyond: Verdict | None = None) -> Iterator[Verdict]:
        """What the query asks for, read page by page.

        Args:
            beyond: Go on after this one, which an earlier reading ended with.
        """
        left = _NEVER if query.limit is None else query.limit
        while left > 0:
            page = self._page(query, beyond, min(left, _PAGE))
            yield from page
            if len(page) < _PAGE:
                return
            left, beyond = left - len(page), page[-1]

    def _page(self, query: Query, beyond: Verdict | None, count: int) -> list[Verdict]:
        conditions, values = query.conditions()
        order, sign = ("ASC", ">") if query.oldest_first else ("DESC", "<")
        if beyond is not None:
            conditions.append(f"time_ns {sign}= ? AND (time_ns {sign} ? OR v.id {sign} ?)")
            values += [beyond.time_ns, beyond.time_ns, beyond.id]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        statement = f"{_SELECT} {where} ORDER BY time_ns {order}, v.id {order} LIMIT ?"
        return [_verdict(row) for row in self._connection.execute(statement, [*values, count])]

    def after(self, verdict_id: int, limit: int) -> list[Verdict]:
        """The verdicts that were recorded after an id, in the order of their ids."""
        rows = self._connection.execute(f"{_SELECT} WHERE v.id > ? ORDER BY v.id LIMIT ?", (verdict_id, limit))
        return [_verdict(row) for row in rows]

    def verdict(self, verdict_id: int) -> Verdict | None:
        """The verdict of an id, if it is in the record."""
        row = self._connection.execute(f"{_SELECT} WHERE v.id = ?", (verdict_id,)).fetchone()
        return None if row is None else _verdict(row)

    def counts(self, query: Query) -> dict[VerdictName, int]:
        """How many of each verdict the query asks for; its limit does not count."""
        conditions, values = query.conditions()
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = self._connection.execute(f"SELECT verdict, count(*) FROM verdicts {where} GROUP BY verdict", values)
        return dict(rows.fetchall())

    def close(self) -> None:
        """Release the record; a second call does nothing."""
        self._connection.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _verdict(row: tuple[Any, ...]) -> Verdict:
    model = dict(zip(_MODEL_FIELDS, row[_MODEL_AT:], strict=True))
    return Verdict(
        id=row[0],
        run=row[1],
        number=row[2],
        time_ns=row[3],
        camera=row[4],
        recipe=row[5],
        verdict=row[6],
        reason=row[7],
        part_id=row[8],
        sequence=row[9],
        captured_ns=row[10],
        score=row[11],
        regions=tuple(Region(**region) for region in json.loads(row[12])),
        capture_ms=row[13],
        wait_ms=row[14],
        inspect_ms=row[15],
        model=None if model["bundle"] is None else ServedModel(**model),
    )
