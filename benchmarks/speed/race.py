"""Contenders take turns, A B A B, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.contenders import Contender, installed_mb
from edge_ad.errors import InspectionFault
from edge_ad.progress import Progress

__all__ = ["Rules", "race"]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0
WARM_UP = 3  # verdicts at the beginning of each turn that do not count
PAUSE_S = 0.2  # before each turn


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Attributes:
    rounds: Turns of each contender.
    verdicts: That count in each turn.
    cold_starts: Processes from whose start the first verdict is timed.
    """

    rounds: int = 7
    verdicts: int = 20
    cold_starts: int = 3


@dataclass
class _Racer:
    contender: Contender
    process: _Process | None = None
    milliseconds: list[list[float]] = field(default_factory=list)
    cold_s: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    failure: str | None = None


class _Process:
    """A worker; it sleeps while it is not its turn."""

    def __init__(self, contender: Contender, size: tuple[int, int]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # until the process ends
        start = time.perf_counter()
        self._process = subprocess.Popen(
            contender.command(size),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | contender_environment(),
        )
        try:
            self._answer()
        except BaseException:
            self.kill()
            raise
        self.cold_s = time.perf_counter() - start
        self.sleep()

    def sleep(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def turn(self, count: int) -> list[float]:
        self._process.send_signal(signal.SIGCONT)
        self._say(f"{count}\n")
        milliseconds = self._answer()
        self.sleep()
        return list(milliseconds)

    def finish(self) -> float:
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.close()
        peak_mb = float(self._answer()["peak_mb"])
        self._process.wait()
        self._close()
        return peak_mb

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self._errors.seek(0)
            reason = self._errors.read().decode(errors="replace").strip()[-1500:]
            raise InspectionFault("A contender gave no answer.", got=reason or f"silence for {PATIENCE_S:g} s")
        return json.loads(line)


def contender_environment() -> dict[str, str]:
    """What every worker gets: no network, no telemetry, and Pickles of our own making may be loaded."""
    return {"HF_HUB_OFFLINE": "1", "TRUST_REMOTE_CODE": "1", "CI": "1"}


def race(contenders: Sequence[Contender], size: tuple[int, int], rules: Rules) -> list[dict[str, Any]]:
    """A row per contender; one that fails says why and does not stop the others.

    Args:
        size: (height, width) of the frames.
    """
    racers = [_Racer(contender) for contender in contenders]
    turns = len(racers) * (rules.cold_starts + rules.rounds)
    with Progress("contenders", turns) as progress:
        try:
            for _ in range(rules.cold_starts):
                for racer in racers:
                    _cold_start(racer, size)
                    progress.step(contender=racer.contender.name)
            for _ in range(rules.rounds):
                for racer in racers:
                    _turn(racer, rules.verdicts)
                    progress.step(contender=racer.contender.name)
        finally:
            for racer in racers:
                _finish(racer)
    return [_row(racer) for racer in racers]


def _cold_start(racer: _Racer, size: tuple[int, int]) -> None:
    if racer.failure:
        return
    _finish(racer)
    try:
        racer.process = _Process(racer.contender, size)
        racer.cold_s.append(racer.process.cold_s)
    except InspectionFault as fault:
        racer.failure = str(fault.got)


def _turn(racer: _Racer, verdicts: int) -> None:
    if racer.process is None:
        return
    time.sleep(PAUSE_S)
    try:
        racer.milliseconds.append(racer.process.turn(WARM_UP + verdicts)[WARM_UP:])
    except (InspectionFault, BrokenPipeError) as fault:
        racer.failure = str(fault)
        racer.process.kill()
        racer.process = None


def _finish(racer: _Racer) -> None:
    if racer.process is not None:
        try:
            racer.peak_mb = racer.process.finish()
        except (InspectionFault, BrokenPipeError) as fault:
            racer.failure = str(fault)
            racer.process.kill()
        racer.process = None


def _row(racer: _Racer) -> dict[str, Any]:
    row: dict[str, Any] = {key: asdict(racer.contender)[key] for key in ("name", "family")}
    if racer.failure:
        return row | {"failure": racer.failure}
    every = np.concatenate(racer.milliseconds)
    p50, p99 = np.percentile(every, [50, 99])
    return row | {
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "quietest_p50_ms": round(min(map(statistics.median, racer.milliseconds)), 2),
        "rounds_p50_ms": [round(statistics.median(turn), 2) for turn in racer.milliseconds],
        "peak_mb": racer.peak_mb,
        "cold_start_s": round(statistics.median(racer.cold_s), 3),
        "installed_mb": installed_mb(racer.contender.python, racer.contender.packages),
    }
