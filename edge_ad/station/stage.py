"""A thread of the station that says that it lives, so that a watchdog can tell when it does not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["TICK_S", "Stage"]

TICK_S = 0.1
"""The longest that a stage waits without a beat where nothing happens."""

_log = logging.getLogger(__name__)


class Stage:
    """A named thread with a heartbeat.

    Args:
        name: As logs and the watchdog tell it.
        work: What the thread does. It calls `beat` at least every TICK_S while it waits, and returns when it is done.

    Attributes:
        failure: What ended the thread before its time, "" if nothing did.
    """

    def __init__(self, name: str, work: Callable[[Stage], None]) -> None:
        self.name, self.failure = name, ""
        self._work = work
        self._last_beat_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self.beat()
        self._thread.start()

    def beat(self) -> None:
        """Say that the thread is at work, or waits for work."""
        self._last_beat_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat; 0 once the thread has ended as planned."""
        ended = not self._thread.is_alive() and not self.failure
        return 0.0 if ended else time.monotonic() - self._last_beat_s

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; False if it did not come within the time."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work(self)
        except Exception as exc:
            self.failure = f"{type(exc).__name__}: {exc}"
            _log.exception("%s has ended", self.name)
