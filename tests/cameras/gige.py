"""A GigE Vision camera on loopback, speaking the real protocol: edge_ad.cameras.fake_gige in a process of its own."""

from __future__ import annotations

import ctypes
import fcntl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["GigeCamera", "gige_camera"]


class GigeCamera:
    """The process; `kill` is what pulling the plug is to a camera.

    Args:
        arguments: For edge_ad.cameras.fake_gige.
    """

    serial = "GV01"
    uri = "genicam://127.0.0.1"

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.start()

    def start(self) -> None:
        """Switch it on, and wait until it answers."""
        command = [sys.executable, "-m", "edge_ad.cameras.fake_gige", "--serial", self.serial, *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """Switch it off, at once."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


@contextmanager
def gige_camera(*arguments: str) -> Iterator[GigeCamera]:
    """The camera, for one test at a time on this machine; skips where Aravis is not installed."""
    try:
        ctypes.CDLL("libaravis-0.8.so.0")
    except OSError:
        pytest.skip("the Debian package libaravis-0.8-0 is not installed")
    with (Path(tempfile.gettempdir()) / "edge-ad-fake-gige.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # there is one port for the control of cameras
        camera = GigeCamera(*arguments)
        try:
            yield camera
        finally:
            camera.kill()
