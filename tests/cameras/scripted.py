"""Drivers whose frames a test decides: the seam that every real driver implements too."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable

import numpy as np

from edge_ad.cameras import Camera, CameraOptions
from edge_ad.cameras.driver import Capture, Driver
from edge_ad.errors import FrameFault
from edge_ad.frame import Frame, Image

__all__ = ["Scripted", "Simulated", "capture", "grey", "level_of", "opened", "outcomes", "wait_until"]


def grey(level: int) -> Image:
    """A grey image with a mark that lets the brightness checks pass."""
    image = np.full((8, 8, 3), level % 200 + 30, np.uint8)
    image[0, 0] = level // 200
    return image


def level_of(image: Image) -> int:
    """The level that `grey` was given."""
    return int(image[0, 0, 0]) * 200 + int(image[4, 4, 0]) - 30


def capture(number: int, level: int | None = None) -> Capture:
    """A whole frame."""
    return Capture(image=grey(number if level is None else level), number=number, timestamp_ns=number)


class Scripted:
    """Gives what is put into `script`: a capture, or an error to raise."""

    description = "scripted"
    may_repeat = False
    answers_every_trigger = False
    total = None

    def __init__(self, *script: Capture | Exception, is_live: bool = True) -> None:
        self.script: queue.Queue[Capture | Exception] = queue.Queue()
        self.is_live = is_live
        self.calls: list[str] = []
        for item in script:
            self.script.put(item)

    def grab(self, timeout_ms: float) -> Capture | None:
        try:
            item = self.script.get(timeout=timeout_ms / 1e3)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def trigger(self) -> None:
        self.calls.append("trigger")

    def restart(self) -> None:
        self.calls.append("restart")

    def close(self) -> None:
        self.calls.append("close")


class Simulated(Scripted):
    """A camera that answers triggers in a thread of its own, and fails now and then.

    Its images show the number of the trigger that exposed them, so that a frame given to the wrong trigger is seen.

    Args:
        fates: What may happen to a trigger: "answered", "ignored" (the camera was busy and makes no frame), "unseen"
            (the frame is made and never arrives), "incomplete" or "late" (it arrives after the timeout).
        late_s: How long a late frame takes.
        overlap: See Driver.answers_every_trigger.
    """

    def __init__(self, fates: list[str], late_s: float, *, overlap: bool) -> None:
        super().__init__()
        self.answers_every_trigger = overlap
        self._fates, self._late_s = fates, late_s
        self._random = random.Random(1)
        self._lock = threading.Lock()
        self._triggers = self._number = self._generation = 0

    def trigger(self) -> None:
        with self._lock:
            shown, self._triggers = self._triggers, self._triggers + 1
            fate = self._random.choice(self._fates)
            if fate == "ignored":
                return
            number, self._number = self._number, self._number + 1
            generation = self._generation
        if fate == "unseen":
            return
        item = capture(number, shown)
        if fate == "incomplete":
            item = Capture(image=None, number=number, timestamp_ns=0)
        delay_s = self._late_s if fate == "late" else 0.001
        threading.Timer(delay_s, self._deliver, (item, generation)).start()

    def _deliver(self, item: Capture, generation: int) -> None:
        with self._lock:
            if generation == self._generation:
                self.script.put(item)

    def restart(self) -> None:
        """As a real one: an empty stream, and the camera's count goes on."""
        with self._lock:
            self._generation += 1
            while not self.script.empty():
                self.script.get()


def opened(driver: Driver | Callable[[], Driver], options: CameraOptions | None = None) -> Camera:
    """A camera on that driver, without checks of its images unless the options say so."""
    make: Callable[[], Driver] = driver if callable(driver) else lambda: driver
    return Camera("test://", make, options or CameraOptions(checks=None))


def outcomes(camera: Camera, count: int) -> list[Frame | FrameFault]:
    """The next `count` frames and faults."""
    found: list[Frame | FrameFault] = []
    for _ in range(count):
        try:
            found.append(camera.read(5000))
        except FrameFault as fault:
            found.append(fault)
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    """Whether the condition came to hold within the time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return condition()
