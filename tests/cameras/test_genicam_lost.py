"""A GigE Vision camera that loses packets, is switched off and comes back. It is its own: a machine has one port."""

from __future__ import annotations

import pytest

from edge_ad.cameras import Backoff, CameraOptions, SoftwareTrigger, open_camera
from edge_ad.errors import FrameFault, FrameIncomplete, FrameLost, FrameTimeout
from edge_ad.frame import Frame
from tests.cameras.gige import gige_camera
from tests.cameras.scripted import outcomes, wait_until


def test_lost_packets_are_faults_and_recovery_is_complete() -> None:
    """A camera that loses packets, is switched off in the middle, and comes back."""
    options = CameraOptions(trigger=SoftwareTrigger(), timeout_ms=800, reconnect=Backoff(first_s=0.1, cap_s=0.5))
    with gige_camera("--lost-packets", "0.001") as camera, open_camera(camera.uri, options) as opened:
        found: list[Frame | FrameFault] = []

        def trigger(count: int) -> set[type]:
            for _ in range(count):
                opened.trigger()
                found.extend(outcomes(opened, 1))
            return {type(item) for item in found[-count:]}

        assert {Frame, FrameIncomplete} <= trigger(60)
        camera.kill()
        opened.trigger()
        with pytest.raises(FrameTimeout) as caught:
            opened.read(2500)  # although the control channel blocks for longer
        found.append(caught.value)
        assert wait_until(lambda: not opened.state.connected, 10)
        assert trigger(3) == {FrameLost}
        camera.start()
        assert wait_until(lambda: opened.state.connected, 10)
        assert Frame in trigger(5)
        assert [item.sequence for item in found] == list(range(len(found)))
        statistics = opened.statistics
        assert statistics.frames + statistics.faults == statistics.triggers == len(found)
        assert (statistics.losses, statistics.reconnects, statistics.pending) == (1, 1, 0)


@pytest.mark.slow
def test_a_camera_that_goes_while_nothing_is_asked_of_it_is_missed_and_found() -> None:
    options = CameraOptions(trigger=SoftwareTrigger(), timeout_ms=300, reconnect=Backoff(first_s=0.1, cap_s=0.5))
    with gige_camera() as camera, open_camera(camera.uri, options) as opened:
        for expected in (1, 2):
            camera.kill()
            if expected == 2:
                assert wait_until(lambda: not opened.state.connected, 30)
            camera.start()
            assert wait_until(lambda losses=expected: opened.statistics.losses == losses, 30)  # type: ignore[misc]
            assert wait_until(lambda: opened.state.connected, 30)
            opened.trigger()
            assert isinstance(outcomes(opened, 1)[0], Frame)
