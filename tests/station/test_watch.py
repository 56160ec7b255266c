"""The watchdog tells systemd that all is well while it is, and no longer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_ad.station.stage import Stage
from edge_ad.station.systemd import notify
from edge_ad.station.watch import Watch
from tests.station.made import until


@pytest.fixture
def service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_a_stage_that_shows_no_life_ends_the_watchdog_s_word_and_one_that_revives_brings_it_back(
    service_manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_ad.station.watch.INTERVAL_S", 0.02)
    may_go_on, is_over, done = threading.Event(), threading.Event(), []

    def work(stage: Stage) -> None:
        may_go_on.wait(20)
        while not is_over.wait(0.01):
            stage.beat()

    stage = Stage("sleeper", work)
    stage.start()
    watch = Watch(lambda: [stage], 0.2, lambda: done.append(1), lambda: "fine")
    watch.stage.start()
    assert service_manager.recv(100) == b"STATUS=fine\nWATCHDOG=1"
    until(lambda: service_manager.recv(100) == b"STATUS=fine")
    assert watch.problems() == ["sleeper is stuck, for more than 0.2 s"]
    may_go_on.set()
    until(lambda: b"WATCHDOG=1" in service_manager.recv(100))
    is_over.set()
    assert stage.join(10) and watch.problems() == []  # one that has ended as planned is not missed
    watch.stop()
    assert done


def test_a_stage_that_ends_by_an_error_is_named(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage("reader", lambda stage: 1 / 0)  # type: ignore[arg-type,return-value]
    stage.start()
    assert stage.join(10)
    watch = Watch(lambda: [stage], 5, lambda: None, lambda: "")
    assert watch.problems() == ["reader has ended: ZeroDivisionError: division by zero"]
    assert "reader has ended" in caplog.text


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0edge-ad-test")
        listening.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", "@edge-ad-test")
        notify("READY=1", "STATUS=up")
        assert listening.recv(100) == b"READY=1\nSTATUS=up"
