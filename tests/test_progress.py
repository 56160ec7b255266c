"""Progress where nobody watches: plain lines, not too many, and a last one."""

from __future__ import annotations

import pytest

from edge_ad import progress
from edge_ad.progress import Progress


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 7))  # seconds: every third step is more than LOG_INTERVAL_S after the last line
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with Progress("training", 10, done=2) as shown:
        for step in range(8):
            shown.step(loss=step)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 5
    assert lines[0].startswith("training: ")
    assert "loss=" in lines[0]
    assert lines[-1].startswith("training: 10/10 ")


def test_a_failure_gets_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), Progress("training", 10) as shown:
        shown.step()
        raise ZeroDivisionError
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("int8 ranges", 4, done=1) as shown:
        shown.step(3, error=0.5)
    bar = capsys.readouterr().err
    assert "int8 ranges" in bar
    assert "4/4" in bar
    assert "error=0.5" in bar
