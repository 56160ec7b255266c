"""The one thread that writes the record: what waits together is committed together, and only then told to anybody."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from edge_ad.station.record import Record
from edge_ad.station.stage import TICK_S, Stage
from edge_ad.station.verdict import Verdict

__all__ = ["Recorder"]

MOST_WAITING = 1024  # verdicts; whoever adds one more waits
HOUSEKEEPING_S = 1.0  # between two looks at the size, and between two notes of what was delivered
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    verdict: Verdict
    committed: Callable[[Verdict], None]


class Recorder:
    """Adds verdicts to a record, in the order in which they came.

    A commit that fails is tried again until it succeeds; meanwhile nothing is published, and `failure` says why.

    Args:
        record: Used by this thread alone from `start` on.
        make_room: Called when the disk refuses a commit.

    Attributes:
        failure: Why the record cannot be written now, "" while it can.
        newest_id: Of the last verdict that is on the disk.
        used_bytes: Of the database, as of the last look.
    """

    def __init__(self, record: Record, *, make_room: Callable[[], None] = lambda: None) -> None:
        self.failure = ""
        self.newest_id = record.newest_id
        self.used_bytes = record.used_bytes
        self._record, self._make_room = record, make_room
        self._waiting: deque[_Waiting] = deque()
        self._delivered: dict[str, int] = {}
        self._to_remember: dict[str, str] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._give_up_s = float("inf")
        self._housekeeping_s = time.monotonic()
        self.stage = Stage("recorder", self._run)

    def start(self) -> None:
        """Begin."""
        self.stage.start()

    def add(self, verdict: Verdict, committed: Callable[[Verdict], None] = lambda verdict: None) -> None:
        """Have a verdict recorded. Waits while too many are waiting already.

        Args:
            committed: Called, in the recorder's thread, with the verdict and its id once it is on the disk.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < MOST_WAITING)
            self._waiting.append(_Waiting(verdict, committed))
            self._changed.notify_all()

    def note_delivered(self, publisher: str, verdict_id: int) -> None:
        """Remember, at leisure, that a publisher has delivered up to this id."""
        with self._changed:
            self._delivered[publisher] = verdict_id

    def remember(self, name: str, value: str, timeout_s: float = 10.0) -> bool:
        """Keep a value from one start to the next; False if it was not on the disk within the time."""
        with self._changed:
            self._to_remember[name] = value
            self._changed.notify_all()
            return self._changed.wait_for(lambda: name not in self._to_remember, timeout_s)

    def wait_beyond(self, verdict_id: int, timeout_s: float) -> bool:
        """Wait until a verdict after this one is on the disk; False if there is none within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.newest_id > verdict_id, timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Record what waits, then end; False if that did not succeed within the time, and what was left is lost."""
        with self._changed:
            self._stopping, self._give_up_s = True, time.monotonic() + timeout_s
            self._changed.notify_all()
        return self.stage.join(timeout_s + 2 * _LONGEST_RETRY_S) and not self._waiting

    # --- its thread ----------------------------------------------------------------------------------------------

    def _run(self, stage: Stage) -> None:
        failures = 0
        while True:
            stage.beat()
            batch, is_last = self._next()
            try:
                self._commit(batch)
                failures, self.failure = 0, ""
                if is_last:
                    return
            except sqlite3.OperationalError as exc:  # full, failing or locked: it may pass
                self._report(str(exc))
                if "full" in self.failure:
                    self._make_room()
                    with suppress(sqlite3.OperationalError):
                        self._record.fold_log()
                failures += 1
                if is_last and time.monotonic() > self._give_up_s:
                    _log.error("%d verdicts were not recorded, and so not published", len(batch))
                    return
                self._pause(stage, min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(failures, 10)))

    def _next(self) -> tuple[list[_Waiting], bool]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._to_remember or self._stopping, TICK_S)
            return list(self._waiting), self._stopping

    def _commit(self, batch: list[_Waiting]) -> None:
        is_due = self._stopping or time.monotonic() - self._housekeeping_s > HOUSEKEEPING_S
        with self._changed:
            delivered = dict(self._delivered) if batch or is_due else {}
        if batch or delivered:
            recorded = self._record.add([item.verdict for item in batch], delivered)
            self._tell(batch, recorded, delivered)
        for name, value in list(self._to_remember.items()):
            self._record.remember(name, value)
            with self._changed:
                del self._to_remember[name]
                self._changed.notify_all()
        if is_due:
            self._record.trim()
            self.used_bytes = self._record.used_bytes
            self._housekeeping_s = time.monotonic()

    def _tell(self, batch: list[_Waiting], recorded: list[Verdict], delivered: dict[str, int]) -> None:
        with self._changed:
            for _ in batch:
                self._waiting.popleft()
            for name, verdict_id in delivered.items():
                if self._delivered.get(name) == verdict_id:
                    del self._delivered[name]
            self.newest_id = max([self.newest_id, *(verdict.id for verdict in recorded)])
            self._changed.notify_all()
        for item, verdict in zip(batch, recorded, strict=True):
            item.committed(verdict)

    def _report(self, failure: str) -> None:
        if failure != self.failure:
            _log.error("the record cannot be written: %s; verdicts wait, and are not published", failure)
        self.failure = failure

    def _pause(self, stage: Stage, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < min(until, self._give_up_s):
            stage.beat()
            time.sleep(min(TICK_S, max(0.0, until - time.monotonic())))
