"""RTSP from a real server, that goes and comes back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_ad.cameras import Backoff, Camera, CameraOptions, open_camera
from edge_ad.errors import CameraLost
from edge_ad.frame import Frame
from tests.cameras.scripted import wait_until

SERVER = Path(__file__).with_name("rtsp_server.py")
DEBIAN = "/usr/bin/python3"
NEEDS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst; Gst.init(None)"
NEEDS += "; assert all(map(Gst.ElementFactory.find, ('jpegenc', 'rtpjpegpay', 'videotestsrc')))"


class Server:
    """The server's process."""

    def __init__(self) -> None:
        self.port = "0"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([DEBIAN, str(SERVER), self.port], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = self._process.stdout.readline().strip()
        assert self.port.isdecimal()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def server() -> Iterator[Server]:
    if subprocess.run([DEBIAN, "-c", NEEDS], capture_output=True, check=False).returncode != 0:
        pytest.skip("python3-gi, gir1.2-gst-rtsp-server-1.0 or gstreamer1.0-plugins-good is not installed")
    running = Server()
    yield running
    running.kill()


def centre_of_ball(frame: Frame) -> tuple[float, float]:
    """videotestsrc's white ball on black, which moves from frame to frame."""
    rows, columns = np.nonzero(frame.image[..., 1] > 128)
    return float(rows.mean()), float(columns.mean())


def read_through(camera: Camera, count: int) -> list[Frame]:
    """So many frames, waiting through losses."""
    frames: list[Frame] = []
    deadline_s = time.monotonic() + 20
    while len(frames) < count and time.monotonic() < deadline_s:
        try:
            frames.append(camera.read())
        except CameraLost:
            continue
    return frames


def test_a_stream_is_read_lost_and_found_again(server: Server) -> None:
    uri = f"rtsp://operator:secret@127.0.0.1:{server.port}/line"
    options = CameraOptions(checks=None, reconnect=Backoff(first_s=0.1, cap_s=0.5))
    with open_camera(uri, options) as camera:
        assert camera.description == f"rtsp://127.0.0.1:{server.port}/line, 320x240"
        frames = read_through(camera, 20)
        assert [frame.sequence for frame in frames] == sorted({frame.sequence for frame in frames})
        assert {frame.image.shape for frame in frames} == {(240, 320, 3)}
        assert len({centre_of_ball(frame) for frame in frames}) == 20
        time.sleep(0.4)
        latest = camera.read_latest()
        assert latest.sequence > frames[-1].sequence + 1
        assert camera.statistics.skipped >= 1
        server.kill()
        assert wait_until(lambda: not camera.state.connected, 8)
        assert "secret" not in camera.state.reason
        server.start()
        assert wait_until(lambda: camera.state.connected, 8)
        after = read_through(camera, 5)
        assert after[-1].sequence > latest.sequence
        assert (camera.statistics.losses, camera.statistics.reconnects) == (1, 1)


def test_nobody_at_the_address() -> None:
    with pytest.raises(CameraLost, match=r"rtsp://127.0.0.1:9/x does not answer") as caught:
        open_camera("rtsp://me:secret@127.0.0.1:9/x", CameraOptions(reconnect=None))
    assert "secret" not in str(caught.value)
