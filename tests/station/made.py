"""Verdicts made up for tests, small disks, and waiting for what other threads do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_ad.inspection import Region
from edge_ad.station.verdict import ANOMALOUS, FAULT, GOOD, ServedModel, Verdict, VerdictName

EPOCH_NS = 1_790_000_000_000_000_000  # 2026-09-21
SECOND_NS = 1_000_000_000

MODEL = ServedModel(
    bundle="flange",
    bundle_sha256="a" * 64,
    model_sha256="b" * 64,
    precision="int8",
    backend="onnxruntime-cpu",
    threshold=0.75,
    threshold_version=2,
)


def verdict_of(number: int, name: VerdictName = GOOD, *, run: int = 1, **changes: Any) -> Verdict:
    """Trigger `number`, one second after the one before; an anomalous one has a region, a fault no score."""
    fields: dict[str, Any] = {
        "run": run,
        "number": number,
        "time_ns": EPOCH_NS + number * SECOND_NS,
        "camera": "top",
        "recipe": "flange",
        "verdict": name,
        "part_id": f"part-{number}",
        "sequence": number + 100,
        "captured_ns": EPOCH_NS + number * SECOND_NS + 2_000_000,
        "capture_ms": 2.125,
        "wait_ms": 0.5,
        "inspect_ms": 12.25,
    }
    if name == FAULT:
        fields.update(reason="no frame came", sequence=None, captured_ns=None, capture_ms=None, wait_ms=None)
        fields.update(inspect_ms=None)
    else:
        fields.update(model=MODEL, score=0.25)
    if name == ANOMALOUS:
        fields.update(score=0.875, regions=(Region(x=1, y=2, width=3, height=4, score=0.875),))
    return Verdict(**{**fields, **changes})


def until(holds: Callable[[], object], what: str = "it", timeout_s: float = 20.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
        time.sleep(0.005)


@contextmanager
def mounted(place: Path, *, kilobytes: int) -> Iterator[Path]:
    """A real file system of that size, for tests that run as root."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
