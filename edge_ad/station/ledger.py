"""Every trigger of a run, from the moment it is accepted until its verdict is on the disk and told."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from edge_ad.inspection import Inspection
from edge_ad.station.images import ImageStore
from edge_ad.station.latency import Latencies
from edge_ad.station.recipes import LoadedRecipe, RecipeBook
from edge_ad.station.recorder import Recorder
from edge_ad.station.ticket import Ticket
from edge_ad.station.verdict import VERDICTS, Verdict, VerdictName

__all__ = ["Ledger", "Listener"]

Listener = Callable[[Verdict, Ticket, Inspection | None], None]
"""Told of every verdict, in the recorder's thread, once it is on the disk."""

_log = logging.getLogger(__name__)


class Ledger:
    """Opens tickets, and ends each of them exactly once.

    Args:
        run: Of the record.
        cameras: Names of all.
        recipes: Whose recipe in use a ticket holds, unless it is given its own.
        recorder, images: Where ends go.
        latencies: Filled here.

    Attributes:
        listeners: To be added to before the first ticket.
        void: Ends that came after the ticket had ended: a frame after the timeout, say.
    """

    def __init__(
        self,
        run: int,
        cameras: Sequence[str],
        recipes: RecipeBook,
        recorder: Recorder,
        images: ImageStore,
        latencies: Latencies,
    ) -> None:
        self.run, self.recorder, self.images, self.latencies = run, recorder, images, latencies
        self.listeners: list[Listener] = []
        self.void = 0
        self._recipes = recipes
        self._open: dict[int, Ticket] = {}
        self._number = 0
        self._triggers: Counter[str] = Counter(dict.fromkeys(cameras, 0))
        self._ended: Counter[tuple[str, VerdictName]] = Counter()
        self._changed = threading.Condition()

    def open(self, camera: str, part_id: str | None = None, recipe: LoadedRecipe | None = None) -> Ticket:
        """Accept a trigger; its ticket holds the recipe until its end."""
        if recipe is None:
            recipe = self._recipes.take()
        else:
            recipe.hold()
        with self._changed:
            self._number += 1
            self._triggers[camera] += 1
            ticket = Ticket(run=self.run, number=self._number, camera=camera, recipe=recipe, part_id=part_id)
            self._open[ticket.number] = ticket
        return ticket

    def end(self, ticket: Ticket, verdict: Verdict, inspection: Inspection | None = None) -> None:
        """End a ticket, unless it has ended. Waits while the recorder is behind."""
        if not ticket.settle():
            with self._changed:
                self.void += 1
            return
        self.recorder.add(verdict, lambda recorded: self._recorded(ticket, recorded, inspection))

    def _recorded(self, ticket: Ticket, verdict: Verdict, inspection: Inspection | None) -> None:
        self.latencies.add(ticket.camera, ticket.recorded(verdict))
        if ticket.frame is not None:
            self.images.offer(verdict, ticket.frame.image, inspection)
        for listener in self.listeners:
            try:
                listener(verdict, ticket, inspection)
            except Exception:  # who listens must not stop the record
                _log.exception("a listener failed")
        with self._changed:
            self._ended[verdict.camera, verdict.verdict] += 1
            del self._open[ticket.number]
            self._changed.notify_all()
        ticket.recipe.release()

    def end_overdue(self, timeout_ms: float) -> None:
        """End tickets that have been open for longer, in faults: whatever holds them up, the line gets an answer."""
        if self.recorder.failure:  # it is the record that holds them up, and that is told already
            return
        self.end_all(f"no verdict within {timeout_ms:g} ms", time.perf_counter() - timeout_ms / 1e3)

    def end_all(self, reason: str, begun_before_s: float = float("inf")) -> None:
        """End tickets that are still open, those that began before a time (time.perf_counter), in faults."""
        with self._changed:
            unsettled = [ticket for ticket in self._open.values() if not ticket.is_settled]
        for ticket in unsettled:
            if ticket.start_s < begun_before_s:
                _log.error("trigger %s of %s: %s", ticket.id, ticket.camera, reason)
                self.end(ticket, ticket.fault(reason))

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until every ticket has ended on the disk; False if that did not come within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout_s)

    def counts(self) -> dict[str, int]:
        """Triggers, what they ended in, and how many are open; the first is always the sum of the others."""
        by_camera = self.counts_by_camera().values()
        return {name: sum(counts[name] for counts in by_camera) for name in ("triggers", *VERDICTS, "open")}

    def counts_by_camera(self) -> dict[str, dict[str, int]]:
        """The same for each camera."""
        with self._changed:
            triggers, ended = dict(self._triggers), dict(self._ended)
        found = {}
        for camera, count in triggers.items():
            ends = {str(name): ended.get((camera, name), 0) for name in VERDICTS}
            found[camera] = {"triggers": count, **ends, "open": count - sum(ends.values())}
        return found
