"""The thread that carries verdicts from the record to one way out: in order, and again until they are acknowledged."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edge_ad.errors import DeliveryFailed, EdgeAdError
from edge_ad.station.publishing import Control, OpenPublisher, Publisher
from edge_ad.station.query import Reader
from edge_ad.station.recorder import Recorder
from edge_ad.station.stage import TICK_S, Stage

__all__ = ["Courier"]

BATCH = 100
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.25, 10.0

_log = logging.getLogger(__name__)


class Courier:
    """Carries verdicts to one publisher.

    Args:
        opening: Of the publisher.
        control: The station.
        recorder: Says when there is more, and remembers what was delivered.
        folder: Of the record.
        delivered: The id up to which this publisher has delivered.
        state: The station's state, for `Publisher.tell`.

    Attributes:
        delivered: Up to which id it has delivered by now.
        missed: Verdicts that the record had given up before they could be delivered.
        failure: Why it cannot deliver now, "" while it can.
    """

    def __init__(
        self,
        opening: OpenPublisher,
        control: Control,
        recorder: Recorder,
        folder: Path,
        delivered: int,
        state: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.name, self.kind = opening.name, opening.kind
        self.delivered, self.missed, self.failure = delivered, 0, ""
        self._recorder, self._folder, self._state = recorder, folder, state
        self._opening, self._control = opening, control
        self._stopping = threading.Event()
        self._told: Mapping[str, Any] | None = None
        self.stage = Stage(f"publisher {self.name}", self._run)

    def start(self) -> None:
        """Begin."""
        self.stage.start()

    def to_json(self) -> dict[str, Any]:
        """What it is, how far it is, and what keeps it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "delivered": self.delivered,
            "waiting": max(0, self._recorder.newest_id - self.delivered),
            "missed": self.missed,
            "failure": self.failure,
        }

    def stop(self, timeout_s: float) -> bool:
        """Deliver what is in the record if the other side takes it, then end; False if it took longer."""
        self._stopping.set()
        return self.stage.join(timeout_s)

    # --- its thread ----------------------------------------------------------------------------------------------

    def _run(self, stage: Stage) -> None:
        attempt = 0
        with ExitStack() as undo:
            reader = undo.enter_context(Reader(self._folder))
            publisher: Publisher | None = None
            while True:
                stage.beat()
                is_last = self._stopping.is_set()
                try:
                    if publisher is None:
                        if is_last:
                            return
                        publisher = self._opening.open(self._control)
                        undo.callback(publisher.close)
                    self._tell(publisher)
                    had_some = self._deliver(publisher, reader)
                    attempt, self.failure = 0, ""
                    if is_last and not had_some:
                        return
                except Exception as exc:  # whatever the other side does, the station goes on
                    self._report(exc)
                    if is_last:
                        return
                    self._pause(stage, min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(attempt, 10)))
                    attempt += 1

    def _tell(self, publisher: Publisher) -> None:
        state = self._state()
        if state != self._told:
            publisher.tell(state)
            self._told = state

    def _deliver(self, publisher: Publisher, reader: Reader) -> bool:
        """Deliver some; False if there was nothing to deliver."""
        if not self._recorder.wait_beyond(self.delivered, 0 if self._stopping.is_set() else TICK_S):
            return False
        verdicts = reader.after(self.delivered, BATCH)
        if not verdicts:
            return False
        count = publisher.deliver(verdicts)
        if count < 1:
            raise DeliveryFailed("Nothing was acknowledged.")
        self.missed += verdicts[0].id - self.delivered - 1
        self.delivered = verdicts[count - 1].id
        self._recorder.note_delivered(self.name, self.delivered)
        return True

    def _report(self, exc: Exception) -> None:
        failure = exc.what if isinstance(exc, EdgeAdError) else f"{type(exc).__name__}: {exc}"
        if failure != self.failure:
            _log.warning("%s: %s Verdicts wait in the record.", self.name, failure)
        self.failure = failure

    def _pause(self, stage: Stage, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._stopping.is_set():
            stage.beat()
            self._stopping.wait(min(TICK_S, max(0.0, until - time.monotonic())))
