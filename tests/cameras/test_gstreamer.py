"""GStreamer pipelines that really play, and the texts of those for hardware that is not here."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad.cameras import Backoff, CameraOptions, open_camera
from edge_ad.cameras.csi import pipeline_for as csi_pipeline
from edge_ad.cameras.v4l2 import V4l2Driver, find_video_devices
from edge_ad.cameras.v4l2 import pipeline_for as v4l2_pipeline
from edge_ad.errors import CameraError, CameraLost, MissingDependency, OptionRefused
from tests.cameras.scripted import wait_until

ONCE = CameraOptions(checks=None, reconnect=None)


@pytest.fixture(autouse=True)
def gstreamer() -> None:
    try:
        open_camera("gst:videotestsrc num-buffers=1", ONCE).close()
    except MissingDependency as exc:
        pytest.skip(exc.what)


@pytest.mark.parametrize(("sent", "tolerance"), [("BGR", 0), ("BGRx", 0), ("RGB", 0), ("I420", 4), ("GRAY8", 0)])
@pytest.mark.parametrize("width", [64, 67])  # GStreamer pads rows to four bytes
def test_pixels_come_through_as_they_were(tmp_path: Path, sent: str, tolerance: int, width: int) -> None:
    """A PNG, played by GStreamer in the camera's format. To YUV and back, its converter rounds down both times."""
    smooth = np.add.outer(np.arange(48), np.arange(width))
    picture = np.stack([smooth % 97 + 60, smooth * 2 % 83 + 60, 200 - smooth % 89], axis=2).astype(np.uint8)
    if sent in ("GRAY8", "I420"):
        picture[:] = picture[..., :1]  # grey, for chroma is shared by neighbours
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    pipeline = f"filesrc location={tmp_path}/picture.png ! pngdec ! imagefreeze is-live=true ! videoconvert"
    with open_camera(f"gst:{pipeline} ! video/x-raw,format={sent}", ONCE) as camera:
        assert camera.description == f"gst:, {width}x48"
        frame = camera.read()
    assert np.abs(frame.image.astype(int) - picture).max() <= tolerance


def test_numbers_and_times_are_the_sources() -> None:
    source = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=64,height=48,framerate=100/1"
    with open_camera(f"gst:{source}", CameraOptions(checks=None, backlog=100)) as camera:
        frames = [camera.read() for _ in range(30)]
        latest = camera.read_latest()
        assert 0 <= time.time_ns() - latest.timestamp_ns < 10e9
    assert [frame.sequence for frame in frames] == sorted({frame.sequence for frame in frames})
    elapsed_s = (frames[-1].timestamp_ns - frames[0].timestamp_ns) / 1e9
    assert elapsed_s == pytest.approx((frames[-1].sequence - frames[0].sequence) / 100, abs=0.1)


def test_frames_that_the_source_dropped_are_gaps() -> None:
    """A camera's driver counts on while it drops; so does this source, of which every other frame is thrown away."""
    source = (
        "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=100/1 ! identity drop-probability=0.5"
    )
    with open_camera(f"gst:{source}", CameraOptions(checks=None, backlog=100)) as camera:
        frames = [camera.read() for _ in range(20)]
        gaps = camera.statistics.gaps
    assert frames[-1].sequence - frames[0].sequence > 25
    assert gaps > 5


def test_a_pipeline_that_stops_is_a_loss_and_starts_again() -> None:
    options = CameraOptions(checks=None, timeout_ms=5000, reconnect=Backoff(first_s=0.05))
    source = "videotestsrc num-buffers=5 is-live=true ! video/x-raw,width=64,height=48,framerate=100/1"
    with open_camera(f"gst:{source}", options) as camera:
        assert wait_until(lambda: camera.statistics.reconnects >= 2, 10)
        assert camera.statistics.losses >= 2
        assert camera.statistics.frames >= 5


@pytest.mark.parametrize(
    ("pipeline", "error", "told"),
    [
        ("no_such_element", MissingDependency, 'no element "no_such_element"'),
        ("videotestsrc no-such-property=1", CameraError, "no-such-property"),
        ("videotestsrc ! appsink", CameraError, "without a sink"),
        ("filesrc location=/no/such/file ! pngdec", CameraLost, "/no/such/file"),
        ("videotestsrc num-buffers=0", CameraLost, "its end"),
    ],
)
def test_pipelines_that_cannot_play_say_why(pipeline: str, error: type[CameraError], told: str) -> None:
    with pytest.raises(error) as caught:
        open_camera(f"gst:{pipeline}", ONCE)
    assert told in str(caught.value)


def test_a_jetsons_pipeline() -> None:
    assert csi_pipeline(1, CameraOptions(), 1280, 720, 60) == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=60/1,format=NV12"
        " ! nvvidconv ! video/x-raw,format=BGRx"
    )
    fixed = csi_pipeline(0, CameraOptions(exposure_us=2500, gain_db=6.0206), 1280, 720, 60)
    assert 'exposuretimerange="2500000 2500000" gainrange="2 2" ispdigitalgainrange="1 1" ! ' in fixed
    with pytest.raises(MissingDependency, match="csi://0"):
        open_camera("csi://0", ONCE)


def test_a_video_devices_pipeline(tmp_path: Path) -> None:
    device = Path("/dev/video2")
    plain = v4l2_pipeline(device, None, 640, 480, 30)
    size = "width=640,height=480,framerate=30/1"
    assert plain == f'v4l2src device=/dev/video2 ! capsfilter caps="video/x-raw,{size};image/jpeg,{size}" ! decodebin'
    assert 'caps="video/x-raw,format=GRAY8"' in v4l2_pipeline(device, "Mono8", None, None, None)
    with pytest.raises(OptionRefused, match="pixel_format"):
        v4l2_pipeline(device, "BayerRG8", None, None, None)
    no_device = tmp_path / "video0"
    no_device.touch()
    with pytest.raises(OptionRefused, match="exposure_us"):
        V4l2Driver(no_device, CameraOptions(exposure_us=100))
    with pytest.raises(CameraLost):
        V4l2Driver(no_device, CameraOptions())


def test_a_real_video_device() -> None:
    devices = find_video_devices()
    if not devices or not os.access(devices[0][0], os.R_OK | os.W_OK):
        pytest.skip("there is no video device; v4l2loopback or vivid would do")
    with open_camera(f"v4l2://{devices[0][0]}", ONCE) as camera:
        assert camera.read(5000).image.ndim == 3
