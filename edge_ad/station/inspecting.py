"""The stage that judges: one frame after another, from whichever camera, without a pause while one waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue

from edge_ad.errors import EdgeAdError
from edge_ad.frame import Frame
from edge_ad.station.ledger import Ledger
from edge_ad.station.stage import TICK_S, Stage
from edge_ad.station.ticket import Ticket

__all__ = ["MOST_WAITING", "Inspecting", "Job"]

MOST_WAITING = 8
"""Frames that wait for the inspector. With one more a camera's frames stay with it, up to its own backlog."""

_log = logging.getLogger(__name__)


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Job:
    """A frame to judge.

    Attributes:
        ticket: What it is judged for.
        frame: Its own, not the camera's.
        taken: Called when the inspector begins with it.
    """

    ticket: Ticket
    frame: Frame
    taken: Callable[[], None] = _nothing


class Inspecting:
    """Judges frames in the order in which they came, in a thread of its own.

    Args:
        ledger: Where tickets end.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._jobs: Queue[Job | None] = Queue(MOST_WAITING)  # None wakes the thread
        self._stopping = threading.Event()
        self.stage = Stage("inspector", self._run)

    @property
    def waiting(self) -> int:
        """Frames that wait."""
        return self._jobs.qsize()

    def put(self, job: Job, stage: Stage) -> None:
        """Have a frame judged. Waits while too many are waiting already, and beats for `stage` meanwhile."""
        while True:
            stage.beat()
            try:
                return self._jobs.put(job, timeout=TICK_S)
            except Full:
                continue

    def stop(self, timeout_s: float) -> bool:
        """Judge what waits, then end; False if it took longer."""
        self._stopping.set()
        with suppress(Full):
            self._jobs.put_nowait(None)
        return self.stage.join(timeout_s)

    def _run(self, stage: Stage) -> None:
        while True:
            stage.beat()
            is_last = self._stopping.is_set()
            try:
                job = self._jobs.get(not is_last, TICK_S)
            except Empty:
                if is_last:
                    return
                continue
            if job is not None:
                job.taken()
                if not job.ticket.is_settled:
                    self._judge(job)

    def _judge(self, job: Job) -> None:
        ticket = job.ticket
        ticket.begun_s = time.perf_counter()
        try:
            inspection = ticket.recipe.inspectors[ticket.camera].inspect(job.frame)
        except EdgeAdError as error:
            self._ledger.end(ticket, ticket.fault(error))
        except Exception as exc:  # a defect costs this verdict, and must not cost the next
            _log.exception("the inspection of trigger %s failed", ticket.id)
            self._ledger.end(ticket, ticket.fault(f"{type(exc).__name__}: {exc}"))
        else:
            self._ledger.end(ticket, ticket.judged(inspection), inspection)
