"""A station triggered at a fixed rate while its camera is killed and restarted: every trigger accounted for.

The camera is edge_ad.cameras.fake_gige, which speaks the real GigE Vision protocol, in a process of its own that is
killed (SIGKILL) at equal intervals. Without Aravis it is a drawn one that is lost as often. Latency is from the trigger
until the verdict is on the disk and may be published, exact, of every trigger that ended in a verdict; p99_ms_by_stage
is from the station's histograms, at most 12 % too high, of every frame that reached the stage.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.small_bundle import save_frames
from edge_ad.bundle import Bundle
from edge_ad.cameras import CameraOptions, open_camera
from edge_ad.errors import CameraError, TriggerRefused
from edge_ad.report.machine import describe_machine
from edge_ad.station.query import Query, Reader
from edge_ad.station.settings import read_settings
from edge_ad.station.station import Station
from edge_ad.station.verdict import FAULT

AWAY_S = 2.0  # from a kill to the restart
UNIT_NICENESS = -5  # as edge-ad-station.service has it; the camera shares it, for a real one has a processor of its own
GIGE, DRAWN = "genicam://127.0.0.1", "synthetic://512x512"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hz", type=float, default=50.0, help="triggers a second (default: 50)")
    parser.add_argument("--minutes", type=float, default=2.0, help="(default: 2)")
    parser.add_argument("--kills", type=int, default=3, help="of the camera during the run (default: 3)")
    parser.add_argument("--bundle", type=Path, help="for frames of 512x512 (default: a small INT8 one is made)")
    parser.add_argument("--precision", default="auto", help="(default: auto)")


class GigeCamera:
    """The fake camera's process."""

    def start(self) -> None:
        command = [sys.executable, "-m", "edge_ad.cameras.fake_gige"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None or self._process.stdout.readline() != "ready\n":
            raise CameraError("The fake camera does not start.", fix="end what else listens on UDP port 3956")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    triggers = round(arguments.hz * arguments.minutes * 60)
    with suppress(PermissionError):
        os.nice(UNIT_NICENESS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if not _has_aravis():
            lost_after = triggers // (arguments.kills + 1)
            bundle = arguments.bundle or _small_bundle(DRAWN, folder)
            station = _station(folder, bundle, f"{DRAWN}?lost_after={lost_after}", arguments)
            return _run(station, arguments, triggers, None)
        camera = GigeCamera()
        camera.start()
        try:
            bundle = arguments.bundle or _small_bundle(GIGE, folder)
            return _run(_station(folder, bundle, GIGE, arguments), arguments, triggers, camera)
        finally:
            camera.kill()


def _has_aravis() -> bool:
    with suppress(OSError):
        return bool(ctypes.CDLL("libaravis-0.8.so.0"))
    return False


def _small_bundle(uri: str, folder: Path) -> Path:
    with open_camera(uri, CameraOptions(checks=None)) as camera:
        save_frames(camera, folder / "frames")
    command = [sys.executable, "-m", "benchmarks.small_bundle", str(folder / "frames"), str(folder / "small.bundle")]
    subprocess.run(command, check=True)
    return folder / "small.bundle"


def _station(folder: Path, bundle: Path, uri: str, arguments: argparse.Namespace) -> Station:
    (folder / "station.toml").write_text(
        f"""
        [cameras.line]
        uri = "{uri}"
        trigger = "software"
        latest_ms = 200
        timeout_ms = 300
        checks = {{ frozen_after = 0, black_level = 0, overexposed_level = 0 }}
        [recipes.small]
        bundle = "{bundle.absolute()}"
        precision = "{arguments.precision}"
        [http]
        enabled = false
        """
    )
    return Station(read_settings(folder / "station.toml"))


def _run(station: Station, arguments: argparse.Namespace, triggers: int, camera: GigeCamera | None) -> dict[str, Any]:
    total_ms: list[float] = []

    def listen(verdict: Any, ticket: Any, inspection: Any) -> None:
        if verdict.verdict != FAULT:
            total_ms.append((time.perf_counter() - ticket.start_s) * 1e3)

    station.ledger.listeners.append(listen)
    load, processor_s = os.getloadavg()[0], time.process_time()
    with station:
        refused, wall_s = _trigger(station, arguments, triggers, camera)
    processor_s = time.process_time() - processor_s
    with Reader(station.settings.record.folder) as reader:
        verdicts = list(reader.verdicts(Query()))
    state = station.state()
    counts, seen = state["counts"], Counter(verdict.number for verdict in verdicts)
    stages = state["latency"]["line"]
    del stages["total"]  # which counts faults, and with them the timeouts of a camera that is away
    bundle = Bundle(station.settings.recipes["small"].bundles["line"])
    return {
        "machine": describe_machine(),
        "load_before": round(load, 2),
        "niceness": os.nice(0),
        "camera": "fake GigE Vision camera (Aravis)" if camera else "drawn (Aravis is not installed)",
        "frame": f"{bundle.manifest.input.height}x{bundle.manifest.input.width}",
        "bundle": f"{bundle.manifest.name}: {bundle.manifest.method}",
        "precision": verdicts[-1].model.precision if verdicts and verdicts[-1].model else None,
        "hz": arguments.hz,
        "minutes": arguments.minutes,
        "triggers": counts["triggers"],
        "verdicts": counts["good"] + counts["anomalous"],
        "faults": counts["fault"],
        "fault_reasons": Counter(re.sub(r"\d+", "N", v.reason) for v in verdicts if v.verdict == FAULT),
        "refused": refused,
        "silent_drops": counts["triggers"] - len(seen),
        "recorded_twice": sum(count - 1 for count in seen.values()),
        "p50_ms": _quantile(total_ms, 0.5),
        "p99_ms": _quantile(total_ms, 0.99),
        "p999_ms": _quantile(total_ms, 0.999),
        "most_ms": _quantile(total_ms, 1),
        "p99_ms_by_stage": {stage: figures["p99_ms"] for stage, figures in stages.items()},
        "camera_lost": state["cameras"][0]["losses"],
        "reconnects": state["cameras"][0]["reconnects"],
        "processor_share": round(processor_s / wall_s, 3),
    }


def _trigger(
    station: Station, arguments: argparse.Namespace, triggers: int, camera: GigeCamera | None
) -> tuple[int, float]:
    """Trigger at the rate; triggers that were refused, and the seconds it took."""
    start_s = time.perf_counter()
    part_s = triggers / arguments.hz / (arguments.kills + 1)
    kills = [(number + 1) * part_s for number in range(arguments.kills)] if camera else []
    plan = sorted([(at_s, "kill") for at_s in kills] + [(at_s + AWAY_S, "start") for at_s in kills])
    refused = 0
    for number in range(triggers):
        due_s = start_s + number / arguments.hz
        while plan and plan[0][0] <= number / arguments.hz:
            getattr(camera, plan.pop(0)[1])()
        time.sleep(max(0.0, due_s - time.perf_counter()))
        try:
            station.trigger(f"part-{number}")
        except TriggerRefused:
            refused += 1
    return refused, time.perf_counter() - start_s


def _quantile(values: list[float], share: float) -> float | None:
    return round(float(np.quantile(values, share)), 2) if values else None


def as_text(result: dict[str, Any]) -> str:
    return (
        f"{result['triggers']} triggers at {result['hz']:g} Hz, {result['frame']} frames, {result['camera']}: "
        f"{result['verdicts']} verdicts, {result['faults']} faults, {result['silent_drops']} silent drops, "
        f"{result['reconnects']} reconnects; trigger to verdict on the disk {result['p50_ms']} ms (median), "
        f"{result['p99_ms']} ms (99 %), {result['p999_ms']} ms (99.9 %)"
    )
