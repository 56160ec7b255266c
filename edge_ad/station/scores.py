"""What the record says of scores: those of one model, one by one, and counted over time.

Counting is left to SQLite, which does it without Python's lock, and what lies in the past is counted once: a page that
looks at a week takes no time from verdicts.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_ad.station.schema import connect
from edge_ad.station.verdict import ServedModel, VerdictName

__all__ = ["BINS", "Bucket", "ScoreScale", "Trend", "recorded_scores"]

BINS = 96
"""Of a histogram of scores; the first and the last also hold what lies beyond."""

_LOOK_BACK = 200_000  # verdicts: a model that was not used in these has no scores here
_MOST_CACHED = 4096  # buckets


def recorded_scores(
    folder: Path, model: ServedModel, limit: int, camera: str | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Ids (N,) and scores (N,) of the last parts that a model judged, the newest first.

    Args:
        folder: Of the record.
        model: What runs: another engine of the same graph gives other scores.
        camera: Whose parts; None for those of all cameras that this model judges.
    """
    of_camera, value = ("", ()) if camera is None else (" AND camera = ?", (camera,))
    with closing(connect(folder, read_only=True)) as connection:
        rows = connection.execute(
            f"SELECT id, score FROM verdicts WHERE id > (SELECT max(id) FROM verdicts) - {_LOOK_BACK}"
            f" AND model IN ({_models(connection, model)}){of_camera} ORDER BY id DESC LIMIT ?",
            (*value, limit),
        ).fetchall()
    ids, scores = zip(*rows, strict=True) if rows else ((), ())
    return np.array(ids, np.int64), np.array(scores, np.float64)


def _models(connection: sqlite3.Connection, model: ServedModel) -> str:
    """The record's numbers of a model, under whichever threshold, as a list in SQL."""
    rows = connection.execute(
        "SELECT id FROM models WHERE model_sha256 = ? AND precision = ?", (model.model_sha256, model.precision)
    )
    return ", ".join(str(int(row[0])) for row in rows)


@dataclass(frozen=True)
class ScoreScale:
    """How scores are counted: in BINS bins from `low` on.

    Attributes:
        low: The lower end of the first bin.
        width: Of a bin.
    """

    low: float
    width: float

    def quantile(self, counts: npt.NDArray[np.int64], share: float) -> float | None:
        """The score that a share of the counted ones is below, to a part of a bin; None where nothing was counted."""
        total = int(counts.sum())
        if total == 0:
            return None
        below = np.concatenate([[0], np.cumsum(counts)])
        return self.low + self.width * float(np.interp(share * total, below, np.arange(len(below))))


@dataclass(frozen=True)
class Bucket:
    """A span of time.

    Attributes:
        start_ns: Its beginning, nanoseconds since the epoch.
        verdicts: How many of each.
        scores: (BINS,) int64: how many scores of the model lie in each bin.
    """

    start_ns: int
    verdicts: dict[VerdictName, int]
    scores: npt.NDArray[np.int64]


class Trend:
    """Verdicts and scores over time. Threads may share it.

    Args:
        folder: Of the record.
        settle_ns: What was triggered so long ago is on the record, and its buckets change no more.
    """

    def __init__(self, folder: Path, settle_ns: int) -> None:
        self._folder, self._settle_ns = folder, settle_ns
        self._past: OrderedDict[tuple[object, ...], Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def buckets(
        self, camera: str, model: ServedModel, scale: ScoreScale, *, until_ns: int, step_ns: int, count: int
    ) -> list[Bucket]:
        """The last `count` buckets of `step_ns` each, the last of which holds `until_ns`.

        Args:
            model: Whose scores are counted; verdicts are those of every model.
        """
        last = until_ns // step_ns
        with self._lock, closing(connect(self._folder, read_only=True)) as connection:
            models = _models(connection, model)
            found = []
            for number in range(last - count + 1, last + 1):
                key = (camera, model.model_sha256, model.precision, models, scale, step_ns, number)
                bucket = self._past.get(key) or _count(connection, camera, models, scale, number * step_ns, step_ns)
                if (number + 1) * step_ns < until_ns - self._settle_ns:
                    self._past[key] = bucket
                    self._past.move_to_end(key)
                found.append(bucket)
            while len(self._past) > _MOST_CACHED:
                self._past.popitem(last=False)
        return found


def _count(
    connection: sqlite3.Connection, camera: str, models: str, scale: ScoreScale, start_ns: int, step_ns: int
) -> Bucket:
    place = f"min(max(CAST((score - ?) / ? AS INTEGER), 0), {BINS - 1})"
    rows = connection.execute(
        f"SELECT verdict, CASE WHEN model IN ({models}) THEN {place} END AS bin, count(*) FROM verdicts"
        " WHERE time_ns >= ? AND time_ns < ? AND camera = ? GROUP BY verdict, bin",
        (scale.low, scale.width, start_ns, start_ns + step_ns, camera),
    )
    verdicts: dict[VerdictName, int] = {"good": 0, "anomalous": 0, "fault": 0}
    scores = np.zeros(BINS, np.int64)
    for verdict, bin_number, count in rows:
        verdicts[verdict] += count
        if bin_number is not None:
            scores[bin_number] += count
    return Bucket(start_ns, verdicts, scores)
