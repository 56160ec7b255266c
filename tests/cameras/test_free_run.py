"""Free-running cameras: order, gaps, the newest frame; and what every camera does when it is lost or closed."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from edge_ad.cameras import Backoff, CameraOptions, SoftwareTrigger, open_camera
from edge_ad.cameras.driver import Capture
from edge_ad.errors import CameraError, CameraLost, FrameIncomplete, NoFrame, OptionRefused
from tests.cameras.scripted import Scripted, capture, opened, wait_until

SOON = Backoff(first_s=0.01, cap_s=0.02)


def test_frames_in_order_with_gaps_in_their_numbers() -> None:
    with opened(Scripted(capture(0), capture(1), capture(4), capture(3), capture(5))) as camera:
        assert [camera.read().sequence for _ in range(4)] == [0, 1, 4, 5]
        assert (camera.statistics.gaps, camera.statistics.late, camera.statistics.frames) == (2, 1, 4)


def test_an_incomplete_frame_is_a_fault() -> None:
    with opened(Scripted(Capture(image=None, number=0, timestamp_ns=0), capture(1))) as camera:
        with pytest.raises(FrameIncomplete) as caught:
            camera.read()
        assert caught.value.sequence == 0
        assert camera.read().sequence == 1


def test_the_newest_frame_and_no_other() -> None:
    with opened(Scripted(*map(capture, range(20)))) as camera:
        assert wait_until(lambda: camera.statistics.frames == 20)
        assert camera.read_latest().sequence == 19
        assert camera.statistics.skipped == 19
        with pytest.raises(NoFrame):
            camera.read_latest(20)


def test_the_backlog_is_bounded_and_what_falls_out_is_a_gap() -> None:
    options = CameraOptions(checks=None, backlog=3)
    with opened(Scripted(*map(capture, range(20))), options) as camera:
        assert wait_until(lambda: camera.statistics.frames == 20)
        assert [camera.read().sequence for _ in range(3)] == [17, 18, 19]
        assert camera.statistics.skipped == 17


def test_a_slow_reader_lags_no_more_than_a_frame_or_two() -> None:
    """At 100 frames a second, read every 50 ms: what is read was taken just before."""
    with open_camera("synthetic://64x48?fps=100") as camera:
        camera.read_latest()
        before = camera.statistics.frames
        for _ in range(8):
            time.sleep(0.05)
            taken = camera.statistics.frames
            frame = camera.read_latest()
            assert frame.sequence >= taken - 1
        assert camera.statistics.frames - before > 8
        assert camera.statistics.skipped > 0


def test_images_stay_as_they_are() -> None:
    with open_camera("synthetic://64x48?fps=100") as camera:
        frames = [camera.read() for _ in range(4)]
        assert len({frame.image.tobytes() for frame in frames}) == 4
        with pytest.raises(ValueError, match="read-only"):
            frames[0].image[0] = 0
        assert frames[0].copy().image.flags.writeable


def test_a_lost_camera_is_tried_again_with_pauses_until_it_is_there() -> None:
    tried_s: list[float] = []
    first, last = Scripted(capture(0), CameraLost("pulled")), Scripted(capture(40), capture(41))

    def make() -> Scripted:
        tried_s.append(time.monotonic())
        if len(tried_s) == 1:
            return first
        if len(tried_s) < 6:
            raise CameraLost("still gone")
        return last

    options = CameraOptions(checks=None, timeout_ms=5000, reconnect=Backoff(first_s=0.02, cap_s=0.1))
    with opened(make, options) as camera:
        assert camera.read().sequence == 0
        assert wait_until(lambda: camera.state.attempts >= 2)
        state = camera.state
        assert not state.connected
        assert state.reason == "still gone"
        assert state.lost_since_ns is not None
        with pytest.raises(CameraLost, match="is not there"):
            camera.read(1)
        assert [camera.read().sequence for _ in range(2)] == [1, 2]  # numbers go on
        assert camera.state.connected
        assert (camera.statistics.losses, camera.statistics.reconnects) == (1, 1)
    pauses = [after - before for before, after in pairwise(tried_s[1:])]
    assert all(pause >= least for pause, least in zip(pauses, (0.04, 0.08, 0.1, 0.1), strict=True))
    assert first.calls == ["close"]


def test_pauses_double_up_to_their_cap() -> None:
    backoff = Backoff(first_s=0.5, cap_s=3)
    assert [backoff.delay_s(attempt) for attempt in (0, 1, 2, 3, 1000)] == [0.5, 1, 2, 3, 3]


def test_a_camera_that_is_not_there_yet() -> None:
    tries: list[int] = []

    def make() -> Scripted:
        tries.append(1)
        if len(tries) < 3:
            raise CameraLost("not there")
        return Scripted(capture(0))

    with opened(make, CameraOptions(checks=None, timeout_ms=5000, reconnect=SOON)) as camera:
        assert camera.read().sequence == 0
    with pytest.raises(CameraLost, match="not there"):
        opened(_refusing(CameraLost("not there")), CameraOptions(reconnect=None))
    with pytest.raises(OptionRefused):
        opened(_refusing(OptionRefused("cannot")), CameraOptions(reconnect=SOON))


def _refusing(error: CameraError):  # type: ignore[no-untyped-def]
    def make() -> Scripted:
        raise error

    return make


def test_without_reconnecting_a_loss_is_the_end() -> None:
    driver = Scripted(capture(0), CameraLost("pulled"))
    with opened(driver, CameraOptions(checks=None, reconnect=None)) as camera:
        assert camera.read().sequence == 0
        for _ in range(2):
            with pytest.raises(CameraLost, match="pulled"):
                camera.read()
    assert driver.calls == ["close"]


def test_a_defect_of_a_driver_is_a_loss_and_said() -> None:
    drivers = iter([Scripted(ZeroDivisionError("oops")), Scripted(capture(0))])
    with opened(lambda: next(drivers), CameraOptions(checks=None, timeout_ms=5000, reconnect=Backoff())) as camera:
        assert wait_until(lambda: not camera.state.connected)
        assert "ZeroDivisionError: oops" in camera.state.reason
        assert camera.read().sequence == 0


def test_others_go_on_while_one_is_lost() -> None:
    gone = threading.Event()

    def hang() -> Scripted:
        if gone.is_set():
            time.sleep(0.3)  # opening takes its time, and fails
            raise CameraLost("gone")
        gone.set()
        return Scripted(CameraLost("pulled"))

    options = CameraOptions(trigger=SoftwareTrigger(), reconnect=SOON)
    with (
        opened(hang, CameraOptions(checks=None, reconnect=SOON)) as lost,
        open_camera("synthetic://64x48", options) as other,
    ):
        assert wait_until(lambda: not lost.state.connected)
        for _ in range(30):
            other.trigger()
            other.read()
        assert not lost.state.connected
        assert (other.statistics.frames, other.statistics.faults) == (30, 0)


def test_closing(tmp_path: Path) -> None:
    driver = Scripted(capture(0))
    camera = opened(driver)
    assert wait_until(lambda: camera.statistics.frames == 1)
    waiting: list[CameraError] = []

    def read_on() -> None:
        try:
            while True:
                camera.read(5000)
        except CameraError as error:
            waiting.append(error)

    thread = threading.Thread(target=read_on)
    thread.start()
    time.sleep(0.02)
    camera.close()
    thread.join(2)
    assert "is closed" in waiting[0].what
    camera.close()
    assert driver.calls == ["close"]
    for call in (camera.read, camera.read_latest):
        with pytest.raises(CameraError, match="closed"):
            call()
    triggered = opened(Scripted(), CameraOptions(trigger=SoftwareTrigger()))
    triggered.trigger()
    triggered.close()
    with pytest.raises(CameraError, match="closed"):
        triggered.trigger()
    with pytest.raises(CameraError, match="closed"):
        triggered.read()
