"""The stage that watches the others, and tells the system's watchdog that all is well while it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from edge_ad.station.stage import Stage
from edge_ad.station.systemd import notify

__all__ = ["Watch"]

INTERVAL_S = 1.0

_log = logging.getLogger(__name__)


class Watch:
    """Looks at every stage once a second.

    Args:
        stages: Those without which there is no verdict.
        stuck_s: A stage that has shown no life for so long is stuck.
        each_time: What else is to be done once a second.
        status: One line on how the station is, for the service manager.
    """

    def __init__(
        self,
        stages: Callable[[], Sequence[Stage]],
        stuck_s: float,
        each_time: Callable[[], None],
        status: Callable[[], str],
    ) -> None:
        self._stages, self._stuck_s, self._each_time, self._status = stages, stuck_s, each_time, status
        self._stopping = threading.Event()
        self._known: list[str] = []
        self.stage = Stage("watch", self._run)

    def problems(self) -> list[str]:
        """Stages that have ended, and stages that are stuck."""
        ended = [f"{stage.name} has ended: {stage.failure}" for stage in self._stages() if stage.failure]
        silent = [stage for stage in self._stages() if not stage.failure and stage.silent_s > self._stuck_s]
        return ended + [f"{stage.name} is stuck, for more than {self._stuck_s:g} s" for stage in silent]

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self.stage.join(2 * INTERVAL_S)

    def _run(self, stage: Stage) -> None:
        while not self._stopping.wait(INTERVAL_S):
            stage.beat()
            problems = self.problems()
            for problem in problems:
                if problem not in self._known:
                    _log.critical("%s", problem)
            self._known = problems
            notify(f"STATUS={self._status()}", *([] if problems else ["WATCHDOG=1"]))
            self._each_time()
