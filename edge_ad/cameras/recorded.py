"""Files as a camera: each frame waits for its reader, or comes at a frame rate, once or over and over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from edge_ad.cameras.driver import Capture
from edge_ad.cameras.options import CameraOptions, FreeRun, SoftwareTrigger
from edge_ad.errors import EndOfFrames
from edge_ad.frame import Frame

__all__ = ["Pace", "RecordedDriver"]


class Pace:
    """When the next frame is due: at once, at a frame rate, or one for each trigger.

    Args:
        fps: Frames a second in free run; None for as fast as they are read.
        triggered: Whether each frame waits for `release`.
    """

    def __init__(self, fps: float | None, *, triggered: bool) -> None:
        self._period_s = 1 / fps if fps and not triggered else 0.0
        self._due_s = time.monotonic()
        self._released = threading.Semaphore(0) if triggered else None

    def wait(self, timeout_ms: float) -> bool:
        """Wait until a frame is due; False if none is within the time."""
        if self._released is not None:
            return self._released.acquire(timeout=timeout_ms / 1e3)
        wait_s = self._due_s - time.monotonic()
        time.sleep(max(0.0, min(wait_s, timeout_ms / 1e3)))
        if wait_s > timeout_ms / 1e3:
            return False
        self._due_s = max(self._due_s + self._period_s, time.monotonic() - self._period_s)
        return True

    def release(self) -> None:
        """Trigger one frame."""
        assert self._released is not None
        self._released.release()

    def forget(self) -> None:
        """Take back every trigger that has no frame yet."""
        while self._released is not None and self._released.acquire(blocking=False):
            pass


class _Recording(Protocol):
    """What edge_ad.cameras.files offers."""

    @property
    def total(self) -> int | None: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...


class RecordedDriver:
    """Plays image files or a video.

    Args:
        path: What is played.
        open_files: Opens it.
        options: Of the camera: free run or software trigger; nothing else can be set.
        fps: Frames a second; None for as fast as they are read.
        loop: Begin again at the end.
    """

    may_repeat = True
    answers_every_trigger = True

    def __init__(
        self,
        path: Path,
        open_files: Callable[[Path], _Recording],
        options: CameraOptions,
        *,
        fps: float | None = None,
        loop: bool = False,
    ) -> None:
        options.refuse_all_but("a recorded source", (), (FreeRun, SoftwareTrigger))
        self._files = open_files(path)
        self._frames = iter(self._files)
        self._pace = Pace(fps, triggered=isinstance(options.trigger, SoftwareTrigger))
        self._loop, self._number, self._path = loop, 0, path
        self.is_live = fps is not None
        self.total = None if loop else self._files.total
        self.description = f"{path}, {'an unknown number of' if self.total is None else self.total} frames"

    def grab(self, timeout_ms: float) -> Capture | None:
        """The next image, when it is due."""
        if not self._pace.wait(timeout_ms):
            return None
        frame = next(self._frames, None)
        if frame is None and self._loop and self._number:
            self._frames = iter(self._files)
            frame = next(self._frames, None)
        if frame is None:
            raise EndOfFrames(f"{self._path} is at its end.", got=f"{self._number} frames")
        self._number += 1
        return Capture(
            image=frame.image.copy(), number=self._number - 1, timestamp_ns=frame.timestamp_ns, name=frame.camera
        )

    def trigger(self) -> None:
        """Release one frame."""
        self._pace.release()

    def restart(self) -> None:
        """Take back triggers that have no frame yet."""
        self._pace.forget()

    def close(self) -> None:
        """Release the files; a second call does nothing."""
        self._files.close()
