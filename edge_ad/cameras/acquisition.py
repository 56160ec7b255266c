"""The threads behind a camera: one takes frames in and finds a lost source again, one sends software triggers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import SimpleQueue

from edge_ad.cameras.checks import ImageWatch
from edge_ad.cameras.driver import Capture, Driver
from edge_ad.cameras.options import CameraOptions, FreeRun, HardwareTrigger, SoftwareTrigger
from edge_ad.cameras.outcomes import Outcome, Outcomes, Slot
from edge_ad.errors import (
    CameraLost,
    DataError,
    EdgeAdError,
    EndOfFrames,
    FrameFault,
    FrameGap,
    FrameIncomplete,
    FrameLost,
    FrameOverrun,
    FrameTimeout,
    ImageFault,
)
from edge_ad.frame import Frame

__all__ = ["Acquisition", "CameraState"]

_POLL_MS = 50.0  # the longest that a loss, a timeout or closing goes unnoticed
_HANGING_S = 0.05  # a trigger that takes so long to send is one that the camera does not answer


@dataclass(frozen=True, kw_only=True)
class CameraState:
    """Whether the camera is there.

    Attributes:
        connected: It is.
        lost_since_ns: Since when it is not, nanoseconds since the epoch.
        attempts: How often it has been tried again since then.
        reason: Why it was lost, or why the last attempt failed.
    """

    connected: bool
    lost_since_ns: int | None = None
    attempts: int = 0
    reason: str = ""


class Acquisition:
    """Takes frames from a driver and settles triggers with them.

    A frame belongs to the oldest trigger in flight, for numbers without a gap say that none is missing between. After a
    trigger without a frame that is no longer certain: the driver is restarted, so that nothing late can come.

    Args:
        name: Of the camera.
        open_driver: Opens the source; called again after a loss.
        options: Of the camera.
        outcomes: Where frames and faults go.

    Raises:
        CameraError: As Camera's.
    """

    def __init__(
        self, name: str, open_driver: Callable[[], Driver], options: CameraOptions, outcomes: Outcomes
    ) -> None:
        self._name, self._options, self._outcomes = name, options, outcomes
        self._open_driver = open_driver
        self._closing = threading.Event()
        self._lock = threading.Lock()  # held while triggering, restarting and exchanging the driver
        self._loss: CameraLost | None = None  # found while triggering
        self._has_ended = False
        self._in_flight: deque[Slot] = deque()
        self._asked: SimpleQueue[Slot | None] = SimpleQueue()
        self._expected_number: int | None = None
        self._watch: ImageWatch | None = None
        self.driver: Driver | None = None
        self.state = CameraState(connected=True)
        try:
            self._install(open_driver())
        except CameraLost as error:
            if options.reconnect is None:
                raise
            self.state = CameraState(connected=False, lost_since_ns=time.time_ns(), reason=str(error))
        self._threads = [threading.Thread(target=self._run, name=f"{name} frames", daemon=True)]
        if isinstance(options.trigger, SoftwareTrigger):
            self._threads.append(threading.Thread(target=self._fire_all, name=f"{name} triggers", daemon=True))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop the threads and release the driver; a second call does nothing."""
        self._closing.set()
        self._asked.put(None)
        for thread in self._threads:
            thread.join()
        driver, self.driver = self.driver, None
        if driver is not None:
            driver.close()

    # --- the thread of the frames --------------------------------------------------------------------------------

    def _run(self) -> None:
        is_free = isinstance(self._options.trigger, FreeRun)
        while not self._closing.is_set() and not self._has_ended:
            driver = self.driver
            if driver is None:
                self._reopen()
            elif not is_free or driver.is_live or self._outcomes.wait_for_room(_POLL_MS / 1e3):
                self._step(driver)

    def _step(self, driver: Driver) -> None:
        try:
            capture = driver.grab(min(_POLL_MS, self._options.timeout_ms))
            if capture is not None:
                self._take_in(driver, capture)
            if self._loss is not None:
                raise self._loss
            self._expire(driver)
        except CameraLost as error:
            self._lose(driver, error)
        except (EndOfFrames, DataError) as error:
            self._finish(error)
        except Exception as exc:  # a driver's defect must not end a station's run unseen
            lost = CameraLost(f"The driver of {self._name} failed.", got=f"{type(exc).__name__}: {exc}")
            lost.__cause__ = exc
            self._lose(driver, lost)

    def _take_in(self, driver: Driver, capture: Capture) -> None:
        is_first = self._expected_number is None
        missing = 0 if self._expected_number is None else capture.number - self._expected_number
        if missing < 0:
            self._outcomes.count("late")
            return
        self._expected_number = capture.number + 1
        match self._options.trigger:
            case FreeRun():
                self._outcomes.skip(missing)
                self._outcomes.add(lambda sequence: self._outcome(capture, sequence))
            case HardwareTrigger():
                for _ in range(missing):
                    self._outcomes.add(self._gap)
                self._outcomes.add(lambda sequence: self._outcome(capture, sequence))
            case SoftwareTrigger():
                if is_first and capture.number > 0 and len(self._in_flight) > 1:
                    self._give_up(driver, FrameGap, "It cannot be told which trigger the first frame is of.")
                else:
                    self._settle_oldest(capture, missing)

    def _settle_oldest(self, capture: Capture, missing: int) -> None:
        for _ in range(min(missing, len(self._in_flight))):
            slot = self._in_flight.popleft()
            self._outcomes.settle(slot, self._gap(slot.sequence))
        if self._in_flight:
            slot = self._in_flight.popleft()
            self._outcomes.settle(slot, self._outcome(capture, slot.sequence))
        else:
            self._outcomes.count("late")

    def _outcome(self, capture: Capture, sequence: int) -> Outcome:
        if capture.image is None:
            return self._fault(FrameIncomplete, sequence, f"Frame {sequence} of {self._name} is incomplete.")
        capture.image.flags.writeable = False  # the next check compares with it
        frame = Frame(
            image=capture.image,
            sequence=sequence,
            timestamp_ns=capture.timestamp_ns,
            camera=capture.name or self._name,
        )
        try:
            if self._watch is not None:
                self._watch.check(frame)
        except ImageFault as fault:
            return fault
        return frame

    def _gap(self, sequence: int) -> FrameFault:
        return self._fault(FrameGap, sequence, f"Frame {sequence} of {self._name} was made and never arrived.")

    def _fault(self, kind: type[FrameFault], sequence: int, what: str, got: object = None) -> FrameFault:
        return kind(what, camera=self._name, sequence=sequence, timestamp_ns=time.time_ns(), got=got)

    def _fail(self, slot: Slot, kind: type[FrameFault], what: str, got: object = None) -> None:
        self._outcomes.settle(slot, self._fault(kind, slot.sequence, what, got))

    def _expire(self, driver: Driver) -> None:
        if any(slot.deadline_s <= time.monotonic() for slot in tuple(self._in_flight)):
            self._give_up(driver, FrameTimeout, f"none within {self._options.timeout_ms:g} ms")

    def _give_up(self, driver: Driver, kind: type[FrameFault], got: str) -> None:
        """End every trigger in flight and have the camera forget them: a late frame must not pass for the next."""
        self._fail_in_flight(kind, got)
        self._lock_or_refuse()
        try:
            self._fail_in_flight(kind, got)
            if self._loss is not None:
                raise self._loss
            driver.restart()
            self._expected_number = None
        finally:
            self._lock.release()

    def _fail_in_flight(self, kind: type[FrameFault], got: str) -> None:
        while self._in_flight:
            slot = self._in_flight.popleft()
            self._fail(slot, kind, f"Trigger {slot.sequence} of {self._name} has no frame.", got)

    def _lock_or_refuse(self) -> None:
        """Take the lock. While a trigger hangs in the driver, those behind it end at once: nobody waits for them."""
        while not self._lock.acquire(timeout=_HANGING_S):
            while not self._asked.empty():
                slot = self._asked.get()
                if slot is None:
                    self._asked.put(None)
                    break
                self._refuse(slot)

    def _refuse(self, slot: Slot) -> None:
        self._fail(slot, FrameTimeout, f"Trigger {slot.sequence} of {self._name} could not be sent in time.")

    # --- losing the source and finding it again ------------------------------------------------------------------

    def _install(self, driver: Driver) -> None:
        checks = self._options.checks
        self._watch = ImageWatch(checks, may_repeat=driver.may_repeat) if checks else None
        self._expected_number = None
        with self._lock:
            self.driver, self._loss = driver, None
            self.state = CameraState(connected=True)

    def _lose(self, driver: Driver, error: CameraLost) -> None:
        self.state = CameraState(connected=False, lost_since_ns=time.time_ns(), reason=str(error))
        self._fail_in_flight(FrameLost, error.what)
        self._lock_or_refuse()
        try:
            self.driver = None
            self._fail_in_flight(FrameLost, error.what)
        finally:
            self._lock.release()
        self._outcomes.count("losses")
        if self._options.reconnect is None:
            self._finish(error)
        driver.close()

    def _finish(self, error: EdgeAdError) -> None:
        with self._lock:
            self._has_ended = True
            self._fail_in_flight(FrameLost, error.what)
        self._outcomes.end(error)

    def _reopen(self) -> None:
        assert self._options.reconnect is not None
        if self._closing.wait(self._options.reconnect.delay_s(self.state.attempts)):
            return
        try:
            self._install(self._open_driver())
            self._outcomes.count("reconnects")
        except EdgeAdError as error:
            self.state = replace(self.state, attempts=self.state.attempts + 1, reason=str(error))

    # --- the thread of the triggers ------------------------------------------------------------------------------

    def trigger(self) -> int:
        """Ask for a frame; returns its number. Called from any thread; never waits."""
        slot = self._outcomes.expect()
        if self._has_ended or not self.state.connected:
            self._fail(slot, FrameLost, f"{self._name} was triggered while it was not there.")
        else:
            self._asked.put(slot)
        return slot.sequence

    def _fire_all(self) -> None:
        assert isinstance(self._options.trigger, SoftwareTrigger)
        latest_s = self._options.trigger.latest_ms / 1e3
        while (slot := self._asked.get()) is not None:
            # To restart a dead camera takes seconds, and holds the lock.
            if self._lock.acquire(timeout=max(0.0, slot.asked_s + latest_s - time.monotonic())):
                try:
                    self._fire(slot, latest_s)
                finally:
                    self._lock.release()
            else:
                self._refuse(slot)

    def _fire(self, slot: Slot, latest_s: float) -> None:
        driver, now_s = self.driver, time.monotonic()
        if driver is None or self._has_ended or self._loss is not None:
            self._fail(slot, FrameLost, f"{self._name} was triggered while it was not there.")
        elif now_s - slot.asked_s > latest_s:
            self._refuse(slot)
        elif self._in_flight and not driver.answers_every_trigger:
            self._fail(slot, FrameOverrun, f"{self._name} was triggered before the frame of the trigger before was in.")
        else:
            slot.deadline_s = now_s + self._options.timeout_ms / 1e3
            self._in_flight.append(slot)
            try:
                driver.trigger()
            except CameraLost as error:
                self._loss = error
