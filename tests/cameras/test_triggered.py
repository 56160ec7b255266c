"""Triggered cameras: every trigger ends in exactly one frame or one fault, in order, and never in another's frame."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest

from edge_ad.cameras import Backoff, CameraOptions, FreeRun, HardwareTrigger, ImageChecks, SoftwareTrigger, open_camera
from edge_ad.cameras.driver import Capture
from edge_ad.errors import (
    CameraError,
    CameraLost,
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
from tests.cameras.scripted import Scripted, Simulated, capture, grey, level_of, opened, outcomes, wait_until

SOFTWARE = CameraOptions(trigger=SoftwareTrigger(), timeout_ms=60, checks=None)


def test_a_trigger_says_the_number_of_its_frame() -> None:
    with open_camera("synthetic://64x48", CameraOptions(trigger=SoftwareTrigger())) as camera:
        for expected in range(3):
            assert camera.trigger() == expected
            assert camera.read().sequence == expected
        assert [camera.trigger() for _ in range(3)] == [3, 4, 5]
        assert [camera.read().sequence for _ in range(3)] == [3, 4, 5]
        assert camera.statistics.triggers == camera.statistics.frames == 6


def test_without_a_trigger_there_is_no_frame() -> None:
    with open_camera("synthetic://64x48", SOFTWARE) as camera, pytest.raises(NoFrame):
        camera.read(50)


@pytest.mark.parametrize(
    ("fates", "overlap"),
    [
        (["answered"] * 12 + ["ignored", "unseen", "incomplete", "late"], False),
        (["answered"] * 6 + ["unseen", "incomplete", "late"], True),
    ],
)
def test_no_trigger_is_lost_or_given_anothers_frame(fates: list[str], overlap: bool) -> None:
    """Whatever the camera does: the image shows the trigger it was taken for."""
    driver = Simulated(fates, late_s=0.09, overlap=overlap)
    count = 90
    with opened(driver, SOFTWARE) as camera:

        def fire() -> None:
            for _ in range(count):
                camera.trigger()
                time.sleep(0.012)

        thread = threading.Thread(target=fire)
        thread.start()
        time.sleep(0.05)
        found = outcomes(camera, count)
        thread.join()
        statistics = camera.statistics
    assert [outcome.sequence for outcome in found] == list(range(count))
    sent = [item for item in found if isinstance(item, Frame) or "triggered before" not in item.what]
    sent = [item for item in sent if isinstance(item, Frame) or "could not be sent" not in item.what]
    wrong = [shown for shown, item in enumerate(sent) if isinstance(item, Frame) and level_of(item.image) != shown]
    assert wrong == []
    assert statistics.frames == sum(isinstance(outcome, Frame) for outcome in found) > 10
    assert statistics.frames + statistics.faults == statistics.triggers == count
    assert statistics.pending == 0
    kinds = {type(outcome) for outcome in found}
    assert {Frame, FrameIncomplete, FrameGap if overlap else FrameTimeout} <= kinds
    assert (FrameGap in kinds) == overlap  # else the next trigger comes after the timeout, and the count is new
    assert (FrameOverrun in kinds) == (not overlap)


def test_a_trigger_that_comes_too_early_is_a_fault_at_once() -> None:
    driver = Scripted()
    with opened(driver, SOFTWARE) as camera:
        camera.trigger()
        assert wait_until(lambda: driver.calls == ["trigger"])
        camera.trigger()
        assert wait_until(lambda: camera.statistics.overruns == 1)
        driver.script.put(capture(0))
        first, second = outcomes(camera, 2)
    assert isinstance(first, Frame)
    assert isinstance(second, FrameOverrun)
    assert driver.calls == ["trigger", "close"]


def test_a_first_frame_that_may_be_anyones_is_nobodys() -> None:
    """After a start the count is unknown: of two triggers, the first one's frame may be lost."""
    for number, expected in ((7, [FrameGap, FrameGap]), (0, [Frame, FrameTimeout])):
        driver = Scripted()
        driver.answers_every_trigger = True
        with opened(driver, SOFTWARE) as camera:
            camera.trigger()
            camera.trigger()
            assert wait_until(lambda calls=driver.calls: calls == ["trigger"] * 2)
            driver.script.put(capture(number))
            assert [type(outcome) for outcome in outcomes(camera, 2)] == expected
        assert driver.calls.count("restart") == 1


def test_a_frame_that_nobody_asked_for_is_counted_and_dropped() -> None:
    driver = Scripted(capture(0))
    with opened(driver, SOFTWARE) as camera:
        assert wait_until(lambda: camera.statistics.late == 1)
        driver.trigger = lambda: driver.script.put(capture(1))  # type: ignore[method-assign]
        camera.trigger()
        assert level_of(camera.read().image) == 1


def test_a_camera_that_hangs_while_it_is_restarted_keeps_nobody_waiting() -> None:
    driver, hanging = Scripted(), threading.Event()
    driver.restart = lambda: hanging.wait(60) and None  # type: ignore[method-assign]
    with opened(driver, SOFTWARE) as camera:
        camera.trigger()
        assert isinstance(outcomes(camera, 1)[0], FrameTimeout)  # there was no frame, and so it is restarted
        for _ in range(5):
            camera.trigger()
        assert {type(outcome) for outcome in outcomes(camera, 5)} == {FrameTimeout}
        hanging.set()
        driver.trigger = lambda: driver.script.put(capture(0))  # type: ignore[method-assign]
        time.sleep(0.05)
        camera.trigger()
        assert isinstance(outcomes(camera, 1)[0], Frame)


def test_a_camera_that_is_lost_while_a_trigger_hangs_keeps_nobody_waiting() -> None:
    driver, began, hanging = Scripted(), threading.Event(), threading.Event()
    driver.trigger = lambda: began.set() or (hanging.wait(60) and None)  # type: ignore[method-assign,func-returns-value]
    with opened(driver, dataclasses.replace(SOFTWARE, timeout_ms=60_000)) as camera:
        camera.trigger()
        assert began.wait(5)
        for _ in range(5):
            camera.trigger()
        driver.script.put(CameraLost("It has gone."))
        assert [type(outcome) for outcome in outcomes(camera, 6)] == [FrameLost, *[FrameTimeout] * 5]
        hanging.set()


def test_a_camera_that_hangs_while_triggered_keeps_nobody_waiting() -> None:
    """The control channel of a dead camera blocks for seconds; the triggers behind end meanwhile."""
    driver = Scripted()
    hanging = threading.Event()
    driver.trigger = lambda: hanging.wait(60) and None  # type: ignore[method-assign]
    options = CameraOptions(trigger=SoftwareTrigger(), timeout_ms=30, checks=None)
    with opened(driver, options) as camera:
        for _ in range(5):
            camera.trigger()
        assert {type(outcome) for outcome in outcomes(camera, 5)} == {FrameTimeout}
        hanging.set()
        driver.trigger = lambda: driver.script.put(capture(0))  # type: ignore[method-assign]
        time.sleep(0.05)
        camera.trigger()
        assert isinstance(outcomes(camera, 1)[0], Frame)


def test_hardware_triggers_end_in_a_frame_or_a_fault_each() -> None:
    incomplete = Capture(image=None, number=4, timestamp_ns=0)
    driver = Scripted(capture(0), capture(3), incomplete, capture(2), capture(5))
    options = CameraOptions(trigger=HardwareTrigger(line=0), checks=None)
    with opened(driver, options) as camera:
        found = outcomes(camera, 6)
        with pytest.raises(NoFrame):
            camera.read(20)
        assert camera.statistics.late == 1  # number 2 came after 3
    assert [type(item) for item in found] == [Frame, FrameGap, FrameGap, Frame, FrameIncomplete, Frame]
    assert [item.sequence for item in found] == list(range(6))
    with pytest.raises(CameraError, match="software triggers"):
        camera.trigger()


def test_a_reader_that_is_too_slow_costs_faults_and_not_memory() -> None:
    options = CameraOptions(trigger=HardwareTrigger(line=0), checks=None, backlog=3)
    with opened(Scripted(*map(capture, range(5))), options) as camera:
        assert wait_until(lambda: camera.statistics.overruns == 2)
        assert [type(item) for item in outcomes(camera, 5)] == [Frame, Frame, Frame, FrameOverrun, FrameOverrun]


def test_a_loss_ends_what_is_pending_and_what_comes_meanwhile() -> None:
    drivers: list[Scripted] = []

    def make() -> Scripted:
        drivers.append(Scripted())
        return drivers[-1]

    options = CameraOptions(
        trigger=SoftwareTrigger(), timeout_ms=5000, checks=None, reconnect=Backoff(first_s=0.2, cap_s=0.2)
    )
    with opened(make, options) as camera:
        camera.trigger()
        assert wait_until(lambda: drivers[0].calls == ["trigger"])
        drivers[0].script.put(CameraLost("pulled"))
        assert wait_until(lambda: not camera.state.connected)
        assert (camera.state.reason, camera.description) == ("pulled", "not connected")
        camera.trigger()
        lost = outcomes(camera, 2)
        assert [type(fault) for fault in lost] == [FrameLost, FrameLost]
        assert wait_until(lambda: camera.state.connected)
        drivers[1].trigger = lambda: drivers[1].script.put(capture(0))  # type: ignore[method-assign]
        assert camera.trigger() == 2
        assert camera.read().sequence == 2
        statistics = camera.statistics
    assert (statistics.lost, statistics.losses, statistics.reconnects) == (2, 1, 1)
    assert drivers[0].calls == ["trigger", "close"]


def test_a_loss_that_a_trigger_finds() -> None:
    driver = Scripted()

    def lose() -> None:
        raise CameraLost("no answer")

    driver.trigger = lose  # type: ignore[method-assign]
    with opened(driver, SOFTWARE) as camera:
        camera.trigger()
        assert isinstance(outcomes(camera, 1)[0], FrameLost)
        assert wait_until(lambda: camera.statistics.losses == 1)


def test_faults_of_the_drawn_camera_are_accounted_for() -> None:
    uri = "synthetic://64x48?gaps=0.1&incomplete=0.1&silent=0.05&lost_after=60"
    options = CameraOptions(trigger=SoftwareTrigger(), timeout_ms=20, reconnect=Backoff(first_s=0.02))
    kinds = set()
    with open_camera(uri, options) as camera:
        for expected in range(150):
            assert camera.trigger() == expected
            [outcome] = outcomes(camera, 1)
            assert outcome.sequence == expected
            kinds.add(type(outcome))
        statistics = camera.statistics
    assert statistics.triggers == 150 == statistics.frames + statistics.faults
    assert {Frame, FrameTimeout, FrameIncomplete, FrameLost} <= kinds


def test_an_unfit_image_is_the_outcome_of_its_trigger() -> None:
    black = grey(0) // 40
    driver = Scripted()
    options = CameraOptions(trigger=SoftwareTrigger(), checks=ImageChecks())
    driver.trigger = lambda: driver.script.put(Capture(image=black, number=0, timestamp_ns=5))  # type: ignore[method-assign]
    with opened(driver, options) as camera:
        number = camera.trigger()
        with pytest.raises(ImageFault, match="black") as caught:
            camera.read()
        assert camera.statistics.unfit == 1
    assert isinstance(caught.value, FrameFault)
    assert (caught.value.sequence, caught.value.timestamp_ns, caught.value.camera) == (number, 5, "test://")
    assert caught.value.frame.image is black


def test_no_frame_may_be_passed_over() -> None:
    with open_camera("synthetic://64x48", SOFTWARE) as camera, pytest.raises(CameraError, match="passed over"):
        camera.read_latest()
    free = CameraOptions(trigger=FreeRun())
    with open_camera("synthetic://64x48", free) as camera, pytest.raises(CameraError, match="software triggers"):
        camera.trigger()
