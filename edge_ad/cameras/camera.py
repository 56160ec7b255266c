"""A camera: triggers that end in exactly one frame or fault, frames in order, and a lost source found again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType

from edge_ad.cameras.checks import ImageWatch
from edge_ad.cameras.driver import Capture, Driver
from edge_ad.cameras.options import CameraOptions, FreeRun, HardwareTrigger, SoftwareTrigger
from edge_ad.cameras.outcomes import CameraStatistics, Outcome, Outcomes, Slot
from edge_ad.errors import (
    CameraError,
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
    NoFrame,
)
from edge_ad.frame import Frame

__all__ = ["Camera", "CameraState"]

_POLL_MS = 100.0  # the longest that a loss, a timeout or closing goes unnoticed


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


class Camera:
    """An opened source of frames; `edge_ad.cameras.open_camera` makes one.

    A thread of its own copies each frame out of the driver as soon as it is there, checks it and puts it in order; so
    one camera that hangs or is lost holds up no other. Another one sends software triggers.

    Frames carry a running number. In free run a gap in it is a dropped frame. With a software trigger it is the number
    that `trigger` returned; each number comes back exactly once, as a frame or as a FrameFault, in order.

    Args:
        name: Of the camera, as its frames and faults tell it.
        open_driver: Opens the source with its options applied; called again after a loss.
        options: Of the camera.

    Raises:
        CameraError: It cannot be opened. Where options.reconnect is given, a camera that is merely not there
            (CameraLost) is tried again from the start.
    """

    def __init__(self, name: str, open_driver: Callable[[], Driver], options: CameraOptions) -> None:
        self.name, self.options = name, options
        self._open_driver = open_driver
        self._outcomes = Outcomes(options.backlog, drops_oldest=isinstance(options.trigger, FreeRun))
        self._closing = threading.Event()
        self._driver_lock = threading.Lock()  # held while triggering, restarting and exchanging the driver
        self._driver: Driver | None = None
        self._loss: CameraLost | None = None
        self._state = CameraState(connected=True)
        self._in_flight: deque[Slot] = deque()
        self._asked: SimpleQueue[Slot | None] = SimpleQueue()
        self._expected_number: int | None = None
        self._ended = False
        self._watch: ImageWatch | None = None
        try:
            self._install(open_driver())
        except CameraLost as error:
            if options.reconnect is None:
                raise
            self._state = CameraState(connected=False, lost_since_ns=time.time_ns(), reason=str(error))
        self._threads = [threading.Thread(target=self._run, name=f"{name} frames", daemon=True)]
        if isinstance(options.trigger, SoftwareTrigger):
            self._threads.append(threading.Thread(target=self._fire_all, name=f"{name} triggers", daemon=True))
        for thread in self._threads:
            thread.start()

    # --- what a station calls ------------------------------------------------------------------------------------

    @property
    def state(self) -> CameraState:
        """Whether the camera is there, and since when it is not."""
        return self._state

    @property
    def statistics(self) -> CameraStatistics:
        """Counts of frames and faults."""
        return self._outcomes.statistics

    @property
    def description(self) -> str:
        """Model, size and pixel format on one line; "not connected" while it is lost."""
        driver = self._driver
        return driver.description if driver else "not connected"

    @property
    def total(self) -> int | None:
        """Number of frames of a recorded source, or None where it is not known."""
        driver = self._driver
        return driver.total if driver else None

    def trigger(self) -> int:
        """Have the camera expose now; returns the number that the frame or the fault will carry. Never waits.

        Raises:
            CameraError: The camera was not opened with SoftwareTrigger, or is closed.
        """
        if not isinstance(self.options.trigger, SoftwareTrigger):
            raise CameraError(
                f"{self.name} does not take software triggers.",
                expected="CameraOptions(trigger=SoftwareTrigger())",
                got=self.options.trigger,
            )
        if self._closing.is_set():
            raise self._closed()
        slot = self._outcomes.expect()
        if self._ended or not self._state.connected:
            self._fail(slot, FrameLost, f"{self.name} was triggered while it was not there.")
        else:
            self._asked.put(slot)
        return slot.sequence

    def read(self, timeout_ms: float | None = None) -> Frame:
        """The next frame, in order; borrowed until the next one is read.

        Args:
            timeout_ms: How long to wait. By default until the pending trigger has ended, which it does; where none is
                pending, options.timeout_ms.

        Raises:
            FrameFault: The next trigger, or with HardwareTrigger the next frame, ended without an image to judge. In
                free run only frames that came and are unfit are faults; missing ones are gaps in the numbers.
            NoFrame: Nothing came within the time.
            CameraLost: Nothing came, for the camera is not there. Reading may go on: it is tried again.
            EndOfFrames: The recorded source has told all it holds.
            DataError: The recorded source is broken.
        """
        return self._taken(timeout_ms, latest=False)

    def read_latest(self, timeout_ms: float | None = None) -> Frame:
        """The newest frame that was not read yet, waiting for one if need be; older ones are passed over and counted.

        A recorded source waits for its reader, so this is `read` there. Errors are those of `read`.

        Raises:
            CameraError: The camera has a trigger: none of its frames may be passed over.
        """
        if not isinstance(self.options.trigger, FreeRun):
            raise CameraError(
                f"{self.name} has a trigger, so no frame may be passed over.",
                expected="read()",
                got="read_latest()",
            )
        driver = self._driver
        return self._taken(timeout_ms, latest=driver is None or driver.is_live)

    def __iter__(self) -> Iterator[Frame]:
        """Frames until a recorded source ends: the newest of a free-running camera, one for each software trigger."""
        while True:
            try:
                if isinstance(self.options.trigger, SoftwareTrigger):
                    self.trigger()
                yield self.read_latest() if isinstance(self.options.trigger, FreeRun) else self.read()
            except EndOfFrames:
                return

    def close(self) -> None:
        """Stop and release the camera; triggers that have not ended never do. A second call does nothing."""
        self._closing.set()
        self._asked.put(None)
        self._outcomes.end(self._closed())
        for thread in self._threads:
            thread.join()
        with self._driver_lock:
            driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _taken(self, timeout_ms: float | None, *, latest: bool) -> Frame:
        if self._closing.is_set():
            raise self._closed()
        waits_for_trigger = timeout_ms is None and self._outcomes.is_pending
        timeout_s = None if waits_for_trigger else (self.options.timeout_ms if timeout_ms is None else timeout_ms) / 1e3
        outcome = self._outcomes.take(timeout_s, latest=latest)
        if isinstance(outcome, Frame):
            return outcome
        raise outcome or self._nothing()

    def _nothing(self) -> CameraError:
        state = self._state
        if state.connected:
            return NoFrame(f"{self.name} gave no frame.", expected="a frame within the wait", got="none")
        return CameraLost(
            f"{self.name} is not there.",
            expected="a camera that answers",
            got=state.reason,
            fix="check its power and cable; it is tried again and again",
        )

    def _closed(self) -> CameraError:
        return CameraError(f"{self.name} is closed.", fix="open the camera again")

    # --- the thread of the frames --------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set() and not self._ended:
            driver = self._driver
            if driver is None:
                self._reopen()
            elif driver.is_live or not isinstance(self.options.trigger, FreeRun) or self._outcomes.wait_for_room(0.1):
                self._step(driver)

    def _step(self, driver: Driver) -> None:
        try:
            capture = driver.grab(min(_POLL_MS, self.options.timeout_ms))
            if capture is not None:
                self._take_in(capture)
            if self._loss is not None:
                raise self._loss
            self._expire(driver)
        except CameraLost as error:
            self._lose(driver, error)
        except (EndOfFrames, DataError) as error:
            self._finish(error)
        except Exception as exc:  # a driver's defect must not end a station's run unseen
            lost = CameraLost(f"The driver of {self.name} failed.", got=f"{type(exc).__name__}: {exc}")
            lost.__cause__ = exc
            self._lose(driver, lost)

    def _take_in(self, capture: Capture) -> None:
        missing = 0 if self._expected_number is None else capture.number - self._expected_number
        if missing < 0:
            self._outcomes.count("late")
            return
        self._expected_number = capture.number + 1
        match self.options.trigger:
            case FreeRun():
                self._outcomes.skip(missing)
                self._outcomes.add(lambda sequence: self._outcome(capture, sequence))
            case HardwareTrigger():
                for _ in range(missing):
                    self._outcomes.add(self._gap)
                self._outcomes.add(lambda sequence: self._outcome(capture, sequence))
            case SoftwareTrigger():
                for _ in range(min(missing, len(self._in_flight))):
                    slot = self._in_flight.popleft()
                    self._outcomes.settle(slot, self._gap(slot.sequence))
                if not self._in_flight:
                    self._outcomes.count("late")
                    return
                slot = self._in_flight.popleft()
                self._outcomes.settle(slot, self._outcome(capture, slot.sequence))

    def _outcome(self, capture: Capture, sequence: int) -> Outcome:
        if capture.image is None:
            return self._fault(FrameIncomplete, sequence, f"Frame {sequence} of {self.name} is incomplete.")
        capture.image.flags.writeable = False  # the next check compares with it
        frame = Frame(
            image=capture.image,
            sequence=sequence,
            timestamp_ns=capture.timestamp_ns,
            camera=capture.name or self.name,
        )
        try:
            if self._watch is not None:
                self._watch.check(frame)
        except ImageFault as fault:
            return fault
        return frame

    def _gap(self, sequence: int) -> FrameFault:
        return self._fault(FrameGap, sequence, f"Frame {sequence} of {self.name} was made and never arrived.")

    def _fault(self, kind: type[FrameFault], sequence: int, what: str, got: object = None) -> FrameFault:
        return kind(what, camera=self.name, sequence=sequence, timestamp_ns=time.time_ns(), got=got)

    def _fail(self, slot: Slot, kind: type[FrameFault], what: str, got: object = None) -> None:
        self._outcomes.settle(slot, self._fault(kind, slot.sequence, what, got))

    def _expire(self, driver: Driver) -> None:
        """End triggers whose time is over, and have the camera forget them: a late frame must not pass for the next."""
        if not self._is_overdue():
            return
        with self._driver_lock:
            if not self._is_overdue():
                return
            while self._in_flight:
                slot = self._in_flight.popleft()
                self._fail(
                    slot,
                    FrameTimeout,
                    f"{self.name} gave no frame for trigger {slot.sequence}.",
                    "none within the time",
                )
            driver.restart()
            self._expected_number = None

    def _is_overdue(self) -> bool:
        return any(slot.deadline_s <= time.monotonic() for slot in tuple(self._in_flight))

    # --- losing the source and finding it again ------------------------------------------------------------------

    def _install(self, driver: Driver) -> None:
        checks = self.options.checks
        self._watch = ImageWatch(checks, may_repeat=driver.may_repeat) if checks else None
        self._expected_number = None
        with self._driver_lock:
            self._driver, self._loss = driver, None
            self._state = CameraState(connected=True)

    def _lose(self, driver: Driver, error: CameraLost) -> None:
        self._state = CameraState(connected=False, lost_since_ns=time.time_ns(), reason=str(error))
        with self._driver_lock:
            self._driver = None
            self._fail_in_flight(error)
        self._outcomes.count("losses")
        if self.options.reconnect is None:
            self._finish(error)
        driver.close()

    def _fail_in_flight(self, error: EdgeAdError) -> None:
        while self._in_flight:
            slot = self._in_flight.popleft()
            self._fail(
                slot, FrameLost, f"{self.name} was lost before trigger {slot.sequence} had its frame.", error.what
            )

    def _finish(self, error: EdgeAdError) -> None:
        with self._driver_lock:
            self._ended = True
            self._fail_in_flight(error)
        self._outcomes.end(error)

    def _reopen(self) -> None:
        assert self.options.reconnect is not None
        if self._closing.wait(self.options.reconnect.delay_s(self._state.attempts)):
            return
        try:
            self._install(self._open_driver())
            self._outcomes.count("reconnects")
        except EdgeAdError as error:
            state = self._state
            self._state = CameraState(
                connected=False, lost_since_ns=state.lost_since_ns, attempts=state.attempts + 1, reason=str(error)
            )

    # --- the thread of the triggers ------------------------------------------------------------------------------

    def _fire_all(self) -> None:
        while (slot := self._asked.get()) is not None:
            with self._driver_lock:
                self._fire(slot)

    def _fire(self, slot: Slot) -> None:
        assert isinstance(self.options.trigger, SoftwareTrigger)
        driver, now_s = self._driver, time.monotonic()
        if driver is None or self._ended or self._loss is not None:
            self._fail(slot, FrameLost, f"{self.name} was triggered while it was not there.")
        elif (now_s - slot.asked_s) * 1e3 > self.options.trigger.latest_ms:
            self._fail(slot, FrameTimeout, f"Trigger {slot.sequence} of {self.name} could not be sent in time.")
        elif self._in_flight and not driver.answers_every_trigger:
            self._fail(slot, FrameOverrun, f"{self.name} was triggered before the frame of the trigger before was in.")
        else:
            slot.deadline_s = now_s + self.options.timeout_ms / 1e3
            self._in_flight.append(slot)
            try:
                driver.trigger()
            except CameraLost as error:
                self._loss = error
