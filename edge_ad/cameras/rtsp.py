"""Network cameras that stream RTSP, decoded by the FFmpeg that comes with OpenCV."""

from __future__ import annotations

import time

import cv2

from edge_ad.cameras.driver import Capture
from edge_ad.cameras.options import CameraOptions
from edge_ad.errors import CameraLost
from edge_ad.frame import check_image

__all__ = ["RtspDriver"]

_SILENCE_MS = 5000  # a stream that says nothing for so long is lost


class RtspDriver:
    """A stream over TCP. It does not tell which frames it lost, so its numbers have no gaps.

    Args:
        url: With user and password, if it needs them.
        name: The same without.
        options: None can be set: the camera's own page sets exposure, size and rate.
    """

    is_live = True
    may_repeat = False
    answers_every_trigger = False
    total = None

    def __init__(self, url: str, name: str, options: CameraOptions) -> None:
        options.refuse_all_but("rtsp://", ())
        self._name, self._number = name, 0
        settings = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: _SILENCE_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: _SILENCE_MS,
            cv2.CAP_PROP_N_THREADS: 1,  # FFmpeg's decoding threads would hold back a frame each
        }
        self._capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, [value for pair in settings.items() for value in pair])
        if not self._capture.isOpened():
            raise CameraLost(
                f"{name} does not answer.",
                expected="an RTSP stream that FFmpeg can decode",
                got="none",
                fix="try it with ffplay; check address, path, user and password",
            )
        width, height = (int(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.description = f"{name}, {width}x{height}"

    def grab(self, timeout_ms: float) -> Capture:
        """The next frame, however long it takes: at most 5 s."""
        is_read, image = self._capture.read()
        if not is_read:
            raise CameraLost(
                f"{self._name} has stopped.", expected=f"a frame within {_SILENCE_MS / 1e3:g} s", got="none"
            )
        self._number += 1
        return Capture(image=check_image(image), number=self._number - 1, timestamp_ns=time.time_ns())

    def trigger(self) -> None:
        """Never called: a stream has no trigger."""

    def restart(self) -> None:
        """Never called: a stream has no trigger."""

    def close(self) -> None:
        """Leave the stream; a second call does nothing."""
        self._capture.release()
