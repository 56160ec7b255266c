"""Hardware triggers: every edge is a trigger, announced or not, and no part is given another one's frame."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edge_ad.cameras import Camera
from edge_ad.cameras.driver import Capture
from edge_ad.errors import CameraLost
from edge_ad.station.station import Station
from edge_ad.station.ticket import Ticket
from edge_ad.station.verdict import FAULT, Verdict
from tests.station.conftest import CAMERA, MakeStation
from tests.station.made import until
from tests.station.test_station import ends, recorded

LINE = CAMERA.replace('"software-overlap"', '"line0-rising"').replace("latest_ms = 5000\n", "")


class Belt:
    """A driver whose camera is triggered by an edge that the test makes."""

    is_live, may_repeat, answers_every_trigger, total = True, True, False, None
    description = "a camera on a line"

    def __init__(self) -> None:
        self._captures: queue.SimpleQueue[Capture | None] = queue.SimpleQueue()
        self._number = 0

    def edge(self, *, arrives: bool = True) -> None:
        """A part passes; `arrives` says whether its frame comes through."""
        if arrives:
            image = np.full((16, 24, 3), 50 + self._number, np.uint8)
            self._captures.put(Capture(image=image, number=self._number, timestamp_ns=time.time_ns()))
        self._number += 1

    def unplug(self) -> None:
        self._captures.put(None)

    def grab(self, timeout_ms: float) -> Capture | None:
        try:
            capture = self._captures.get(timeout=timeout_ms / 1e3)
        except queue.Empty:
            return None
        if capture is None:
            raise CameraLost("unplugged")
        return capture

    def trigger(self) -> None:
        raise AssertionError("nobody triggers it by software")

    def restart(self) -> None:
        self._number = 0

    def close(self) -> None:
        pass


@pytest.fixture
def belt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Belt]:
    made = Belt()
    monkeypatch.setattr("edge_ad.station.feed.open_camera", lambda uri, options: Camera("line", lambda: made, options))
    yield made


def after(station: Station, count: int) -> list[Verdict]:
    """The record once it has so many."""
    until(lambda: len(recorded(station)) >= count)
    return sorted(recorded(station), key=lambda verdict: verdict.number)


def test_an_edge_that_nobody_announced_has_a_verdict_too(station: MakeStation, belt: Belt) -> None:
    running = station(LINE)
    for _ in range(3):
        belt.edge()
    assert [(v.part_id, v.score) for v in after(running, 3)] == [(None, 50), (None, 51), (None, 52)]


def test_announced_parts_meet_their_frames_though_one_gets_lost_on_the_way(station: MakeStation, belt: Belt) -> None:
    running = station(LINE)
    tickets: list[Ticket] = []
    for part_id, arrives in (("a", True), ("b", False), ("c", True), ("d", True)):
        tickets += running.trigger(part_id)
        belt.edge(arrives=arrives)
    verdicts = ends(tickets)
    assert [(v.part_id, v.score) for v in verdicts] == [("a", 50), ("b", None), ("c", 52), ("d", 53)]
    assert verdicts[1].verdict == FAULT and "never arrived" in verdicts[1].reason


def test_a_part_without_an_edge_ends_in_a_fault_and_its_name_is_not_given_to_the_next(
    station: MakeStation, belt: Belt
) -> None:
    running = station(LINE.replace("timeout_ms = 5000", "timeout_ms = 300"))
    verdicts = ends(running.trigger("a"))
    assert verdicts[0].verdict == FAULT and "gave no frame for a part that was announced" in verdicts[0].reason
    belt.edge()
    assert after(running, 2)[1].part_id is None


def test_parts_that_were_announced_before_the_camera_went_end_in_faults(station: MakeStation, belt: Belt) -> None:
    running = station(LINE.replace("timeout_ms = 5000", "timeout_ms = 400"))
    (ticket,) = running.trigger("a")
    belt.unplug()
    assert ends([ticket])[0].verdict == FAULT
    until(lambda: running.feeds["top"].is_connected)
    tickets = running.trigger("b")
    belt.edge()
    assert [(v.part_id, v.verdict == FAULT) for v in ends(tickets)] == [("b", False)]
