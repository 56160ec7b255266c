"""A camera as a station sees it: triggers that end in exactly one frame or fault, and frames in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

from edge_ad.cameras.acquisition import Acquisition, CameraState
from edge_ad.cameras.driver import Driver
from edge_ad.cameras.options import CameraOptions, FreeRun, SoftwareTrigger
from edge_ad.cameras.outcomes import CameraStatistics, Outcomes
from edge_ad.errors import CameraError, CameraLost, EndOfFrames, NoFrame
from edge_ad.frame import Frame

__all__ = ["Camera"]


class Camera:
    """An opened source of frames; `edge_ad.cameras.open_camera` makes one.

    Threads of its own copy each frame out of the driver as soon as it is there, check it, and look for a lost camera
    again; so one camera that hangs or is lost holds up no other. Images are read-only and never reused, so a frame may
    be kept without copying it.

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
        self._outcomes = Outcomes(options.backlog, drops_oldest=isinstance(options.trigger, FreeRun))
        self._acquisition = Acquisition(name, open_driver, options, self._outcomes)
        self._is_closed = False

    @property
    def state(self) -> CameraState:
        """Whether the camera is there, and since when it is not."""
        return self._acquisition.state

    @property
    def statistics(self) -> CameraStatistics:
        """Counts of frames and faults."""
        return self._outcomes.statistics

    @property
    def description(self) -> str:
        """Model, size and pixel format on one line; "not connected" while it is lost."""
        driver = self._acquisition.driver
        return driver.description if driver else "not connected"

    @property
    def total(self) -> int | None:
        """Number of frames of a recorded source, or None where it is not known."""
        driver = self._acquisition.driver
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
        self._check_open()
        return self._acquisition.trigger()

    def read(self, timeout_ms: float | None = None) -> Frame:
        """The next frame, in order.

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
        return self._take(timeout_ms, latest=False)

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
        driver = self._acquisition.driver
        return self._take(timeout_ms, latest=driver is None or driver.is_live)

    def __iter__(self) -> Iterator[Frame]:
        """Frames until a recorded source ends: the newest of a free-running camera, one for each software trigger.

        The iterator raises what `read` does, and goes on after a FrameFault.
        """
        return iter(self._next_or_none, None)

    def _next_or_none(self) -> Frame | None:
        try:
            if isinstance(self.options.trigger, FreeRun):
                return self.read_latest()
            if isinstance(self.options.trigger, SoftwareTrigger):
                self.trigger()
            return self.read()
        except EndOfFrames:
            return None

    def close(self) -> None:
        """Stop and release the camera; triggers that have not ended never do. A second call does nothing."""
        self._is_closed = True
        self._outcomes.end(self._closed())
        self._acquisition.close()

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, timeout_ms: float | None, *, latest: bool) -> Frame:
        self._check_open()
        waits_for_trigger = timeout_ms is None and self._outcomes.is_pending
        timeout_s = None if waits_for_trigger else (self.options.timeout_ms if timeout_ms is None else timeout_ms) / 1e3
        outcome = self._outcomes.take(timeout_s, latest=latest)
        if isinstance(outcome, Frame):
            return outcome
        raise outcome or self._nothing()

    def _nothing(self) -> CameraError:
        state = self.state
        if state.connected:
            return NoFrame(f"{self.name} gave no frame.", expected="a frame within the wait", got="none")
        return CameraLost(
            f"{self.name} is not there.",
            expected="a camera that answers",
            got=state.reason,
            fix="check its power and cable; it is tried again and again",
        )

    def _check_open(self) -> None:
        if self._is_closed:
            raise self._closed()

    def _closed(self) -> CameraError:
        return CameraError(f"{self.name} is closed.", fix="open the camera again")
