"""How a station ends, and what a failing neighbour does not end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from edge_ad.errors import SettingsError, TriggerRefused
from edge_ad.station.feed import CameraFeed
from edge_ad.station.publishing import Control, OpenPublisher, message
from edge_ad.station.publishing.callback import callback
from edge_ad.station.query import Query, Reader
from edge_ad.station.station import Station
from edge_ad.station.verdict import FAULT, Verdict
from tests.station.conftest import CAMERA, MakeSettings, MakeStation
from tests.station.made import until
from tests.station.test_station import ends, slow_inspection


def test_a_stop_finishes_what_was_triggered_and_takes_no_more(station: MakeStation) -> None:
    told: list[dict[str, Any]] = []
    running = station(publishers=[callback(told.append)])
    slow_inspection(running, 0.005)
    tickets = [running.trigger()[0] for _ in range(60)]
    assert running.stop()
    verdicts = [ticket.verdict for ticket in tickets]
    assert all(verdict is not None and verdict.verdict != FAULT for verdict in verdicts)
    assert [told_["id"] for told_ in told] == list(range(1, 61))
    with pytest.raises(TriggerRefused, match="does not take triggers now"):
        running.trigger()
    with Reader(running.settings.record.folder) as reader:
        assert len(list(reader.verdicts(Query()))) == 60


def test_cameras_are_released_together(station: MakeStation, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes seconds to let go does not hold up the others: each waits until all of them are at it."""
    running = station("".join(CAMERA.replace("cameras.top", f"cameras.{name}") for name in ("left", "right", "top")))
    all_at_it, close = threading.Barrier(3, timeout=10), CameraFeed.close

    def close_with_the_others(feed: CameraFeed) -> None:
        all_at_it.wait()
        close(feed)

    monkeypatch.setattr(CameraFeed, "close", close_with_the_others)
    before = {thread.name for thread in threading.enumerate() if thread.name.endswith(" frames")}
    assert len(before) >= 1
    assert running.stop()
    assert not all_at_it.broken
    assert not before & {thread.name for thread in threading.enumerate()}


def test_who_triggers_while_it_stops_has_a_verdict_or_is_refused(station: MakeStation) -> None:
    running, tickets, refused = station(), [], threading.Event()

    def line() -> None:
        while not refused.is_set():
            try:
                tickets.extend(running.trigger())
            except TriggerRefused:
                refused.set()
            time.sleep(0)

    lines = [threading.Thread(target=line) for _ in range(4)]
    for thread in lines:
        thread.start()
    until(lambda: len(tickets) > 50)
    assert running.stop()
    for thread in lines:
        thread.join()
    assert all(ticket.verdict for ticket in tickets)
    with Reader(running.settings.record.folder) as reader:
        assert sorted(v.number for v in reader.verdicts(Query())) == list(range(1, len(tickets) + 1))


def test_what_a_stop_cannot_finish_in_time_ends_in_faults(station: MakeStation) -> None:
    running = station(CAMERA.replace("24x16", "24x16?latency_ms=100") + "[station]\nstop_s = 0.5\n")
    tickets = [running.trigger()[0] for _ in range(30)]
    assert running.stop()
    verdicts = [ticket.verdict for ticket in tickets]
    assert all(verdicts)
    reasons = Counter(verdict.reason for verdict in verdicts if verdict)
    assert reasons[""] >= 1 and reasons["the station was stopped"] >= 1


def test_a_listener_that_fails_stops_nothing(station: MakeStation, settings: MakeSettings) -> None:
    running = Station(settings(CAMERA))
    running.ledger.listeners.insert(0, lambda *_: 1 / 0)  # type: ignore[arg-type,return-value]
    with running:
        assert ends(running.trigger() + running.trigger())


def test_a_function_that_fails_is_called_again_with_the_same_verdict(station: MakeStation) -> None:
    called: list[int] = []

    def refuse_the_second_twice(message: dict[str, Any]) -> None:
        called.append(message["id"])
        if called.count(2) in (1, 2) and message["id"] == 2:
            raise RuntimeError("not now")

    running = station(publishers=[callback(refuse_the_second_twice)])
    ends([*running.trigger(), *running.trigger(), *running.trigger()])
    until(lambda: called[-1:] == [3])
    assert called == [1, 2, 2, 2, 3]


def test_one_more_way_out_is_a_class_of_three_methods(station: MakeStation) -> None:
    told: list[object] = []

    class Lamp:
        def __init__(self, control: Control) -> None:
            self.control = control

        def deliver(self, verdicts: Sequence[Verdict]) -> int:
            told.append(message(self.control, verdicts[0])["id"])
            return 1  # one of them at a time

        def tell(self, state: Mapping[str, Any]) -> None:
            told.append(state["state"])

        def close(self) -> None:
            told.append("closed")

    running = station(publishers=[OpenPublisher("lamp", "lamp", Lamp)])
    until(lambda: told)
    ends([*running.trigger(), *running.trigger(), *running.trigger()])
    until(lambda: 3 in told)
    running.stop()
    assert told == ["running", 1, 2, 3, "stopping", "closed"]


def test_an_interrupted_run_is_told_by_the_next(station: MakeStation, settings: MakeSettings) -> None:
    running = station()
    running._record._connection.execute("INSERT INTO runs (started_ns, version) VALUES (1, 'before')")
    running.stop()
    assert "interrupted" in station().warnings()[0]


def test_two_publishers_of_one_name_are_refused(settings: MakeSettings) -> None:
    one = '[[publish]]\nkind = "webhook"\nurl = "http://localhost/"\n'
    with pytest.raises(SettingsError, match=r"publish\[1\]\.name"):
        settings(CAMERA + one + one)
