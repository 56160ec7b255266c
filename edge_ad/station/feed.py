"""One camera of the station: its triggers become tickets, and its frames and faults find the tickets again."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from typing import Any

from edge_ad.cameras import open_camera
from edge_ad.errors import (
    CameraError,
    CameraLost,
    DataError,
    EndOfFrames,
    FrameFault,
    ImageFault,
    NoFrame,
    TriggerRefused,
)
from edge_ad.frame import Frame
from edge_ad.station.inspecting import Inspecting, Job
from edge_ad.station.ledger import Ledger
from edge_ad.station.recipes import LoadedRecipe
from edge_ad.station.settings import CameraSettings
from edge_ad.station.stage import TICK_S, Stage
from edge_ad.station.ticket import Ticket

__all__ = ["CameraFeed"]


class CameraFeed:
    """Reads one camera in a thread of its own, and triggers it.

    With software triggers, the camera's numbers tell which frame or fault belongs to which ticket. With a hardware
    trigger, every frame and every gap is a trigger; the part that was announced first is the next one's, and a part
    that was announced and had none within the camera's timeout_ms ends in a fault. Free-running, the latest frame is
    taken whenever the inspector has begun with the one before: what is judged is never older than two inspections.

    Args:
        settings: Of the camera.
        ledger: Opens and ends tickets.
        inspecting: Takes the frames.

    Raises:
        EdgeAdError: The camera cannot be opened as asked. One that is merely not there is tried again and again.
    """

    def __init__(self, settings: CameraSettings, ledger: Ledger, inspecting: Inspecting) -> None:
        self.settings = settings
        self.name = settings.name
        self._ledger, self._inspecting = ledger, inspecting
        self._camera = open_camera(settings.uri, settings.options)
        self._tickets: dict[int, Ticket] = {}
        self._announced: deque[Ticket] = deque()
        self._lock = threading.Lock()  # of tickets and announced ones
        self._room = threading.Semaphore(1)  # for one frame of a live camera
        self._stopping = threading.Event()
        self._ended = ""
        self._missed = 0  # beats of the station's clock that came to no trigger
        self.stages = [Stage(f"camera {self.name}", self._run)]
        if settings.interval_ms is not None:
            self.stages.append(Stage(f"clock {self.name}", self._tick))

    def start(self) -> None:
        """Begin to read."""
        for stage in self.stages:
            stage.start()

    def trigger(self, part_id: str | None = None, recipe: LoadedRecipe | None = None) -> Ticket:
        """Trigger the camera, or announce the part of its next hardware trigger. Never waits.

        Args:
            recipe: Held by the caller meanwhile; None for the one in use.

        Raises:
            TriggerRefused: It runs free, or it is closed.
        """
        if self.settings.is_live:
            raise TriggerRefused(
                f"Camera {self.name} runs free: it cannot be triggered.",
                expected=f'trigger = "software" or a line in [cameras.{self.name}]',
            )
        if self._ledger.recorder.failure:
            raise TriggerRefused(
                "The record cannot be written, so no verdict can be given.", got=self._ledger.recorder.failure
            )
        with self._lock:
            if self._stopping.is_set():
                raise TriggerRefused(f"Camera {self.name} is being stopped.")
            ticket = self._ledger.open(self.name, part_id, recipe)
            if not self.settings.takes_software_triggers:
                self._announced.append(ticket)
                return ticket
            try:
                self._tickets[self._camera.trigger()] = ticket
                return ticket
            except CameraError as error:
                refused = error
        self._ledger.end(ticket, ticket.fault(refused))
        return ticket

    @property
    def is_connected(self) -> bool:
        """The camera is there, and has not come to its end."""
        return self._camera.state.connected and not self._ended

    def state(self) -> dict[str, Any]:
        """The camera and its health, JSON-ready."""
        camera = self._camera
        return {
            "name": self.name,
            "mode": "live" if self.settings.is_live else "triggered",
            "description": camera.description,
            "connected": self.is_connected,
            "reason": self._ended or camera.state.reason,
            "missed_ticks": self._missed,
            **dataclasses.asdict(camera.statistics),
        }

    def stop(self) -> None:
        """Take no more triggers and, free-running, no more frames; what was triggered is still read."""
        with self._lock:  # whoever triggers at this moment has its ticket, or is refused
            self._stopping.set()

    def close(self) -> None:
        """Release the camera."""
        self._camera.close()
        for stage in self.stages:
            stage.join(2.0)

    # --- the thread that reads -----------------------------------------------------------------------------------

    def _run(self, stage: Stage) -> None:
        while not (self._stopping.is_set() and self._is_done()):
            stage.beat()
            self._end_announced()
            try:
                self._step(stage)
            except NoFrame:
                continue
            except FrameFault as fault:
                self._end_in_fault(fault)
            except CameraLost:
                continue  # the camera is tried again, and its state says so
            except (EndOfFrames, DataError) as error:
                self._ended = error.what
                time.sleep(TICK_S)
            except CameraError:
                if self._stopping.is_set():
                    return
                raise

    def _is_done(self) -> bool:
        with self._lock:
            return not self._tickets and not self._announced

    def _step(self, stage: Stage) -> None:
        if not self.settings.is_live:
            self._hand_over(self._camera.read(TICK_S * 1e3).copy(), stage)
        elif self._room.acquire(timeout=TICK_S):
            try:
                frame = self._camera.read_latest(TICK_S * 1e3).copy()
            except BaseException:
                self._room.release()
                raise
            self._hand_over(frame, stage)

    def _hand_over(self, frame: Frame, stage: Stage) -> None:
        ticket = self._ticket_of(frame.sequence)
        if ticket is None:
            ticket = self._ledger.open(self.name)
            ticket.date_back_to(frame)
        ticket.take_in(frame)
        taken = self._room.release if self.settings.is_live else _nothing
        self._inspecting.put(Job(ticket, frame, taken), stage)

    def _end_in_fault(self, fault: FrameFault) -> None:
        ticket = self._ticket_of(fault.sequence) or self._ledger.open(self.name)
        if isinstance(fault, ImageFault):
            ticket.take_in(fault.frame.copy())
        self._ledger.end(ticket, ticket.fault(fault))

    def _ticket_of(self, sequence: int) -> Ticket | None:
        """The ticket that asked for this frame or fault, None if nobody did."""
        with self._lock:
            if self.settings.takes_software_triggers:
                return self._tickets.pop(sequence)
            return self._announced.popleft() if self._announced else None

    def _end_announced(self) -> None:
        """End announced parts whose frame did not come in time."""
        latest_s = time.perf_counter() - self.settings.options.timeout_ms / 1e3
        late = []
        with self._lock:
            while self._announced and self._announced[0].start_s < latest_s:
                late.append(self._announced.popleft())
        for ticket in late:
            self._ledger.end(ticket, ticket.fault(f"{self.name} gave no frame for a part that was announced"))

    # --- the thread that triggers by the clock -------------------------------------------------------------------

    def _tick(self, stage: Stage) -> None:
        interval_s = (self.settings.interval_ms or 0) / 1e3
        due_s = time.perf_counter()
        while not self._stopping.is_set():
            stage.beat()
            wait_s = due_s - time.perf_counter()
            if wait_s > 0:
                time.sleep(min(wait_s, TICK_S))
                continue
            behind = int(-wait_s / interval_s)
            self._missed += behind
            due_s += (1 + behind) * interval_s
            try:
                self.trigger()
            except TriggerRefused:
                self._missed += 1


def _nothing() -> None:
    pass
