"""kill -9 of a real station at random moments: does its record equal what a subscriber saw?

A station in a process of its own is triggered by its clock and POSTs its verdicts to this process. It is killed
(SIGKILL) at random moments, every other time from the start of its process on and every other time once it has told
verdicts, and started again on the same record. The last start is left to deliver what is due. A verdict that was seen
and is not in the record, or is recorded and was never seen, is lost; one trigger with two verdicts, or one id with two
contents, is duplicated. That a verdict whose acknowledgement was killed comes again, with the same id and content, is
what the station promises, and counted as redelivered.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.small_bundle import save_frames
from edge_ad.bundle import Bundle
from edge_ad.cameras import open_camera
from edge_ad.errors import StationError
from edge_ad.progress import Progress
from edge_ad.report.machine import describe_machine
from edge_ad.station.query import Reader
from edge_ad.station.schema import connect
from edge_ad.station.verdict import Verdict

DRAWN = "synthetic://128x96"
LATEST_KILL_S = 3.0
TELLS_S = 60.0  # a start takes no longer, on the slowest machine
DELIVERED_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=50, help="kills (default: 50)")
    parser.add_argument("--hz", type=float, default=100.0, help="triggers a second (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--bundle", type=Path, help="any (default: a small INT8 one is made)")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = arguments.bundle or _small_bundle(folder)
        found = kill_station(folder, bundle, arguments.times, hz=arguments.hz, seed=arguments.seed)
    return {"machine": describe_machine(), "times": arguments.times, "hz": arguments.hz, **found}


def _small_bundle(folder: Path) -> Path:
    with open_camera(f"{DRAWN}?fps=1000") as camera:
        save_frames(camera, folder / "frames")
    command = [sys.executable, "-m", "benchmarks.small_bundle", str(folder / "frames"), str(folder / "small.bundle")]
    subprocess.run(command, check=True)
    return folder / "small.bundle"


class Receiver:
    """An HTTP server that keeps what it is sent, in order, and takes everything."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if len(content) == int(self.headers["Content-Length"]):  # else the station was killed in the middle
                    seen.append(json.loads(content))
                    self.send_response(200)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # likewise
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def kill_station(
    folder: Path, bundle: Path, times: int, *, hz: float = 100.0, seed: int = 0, latest_s: float | None = None
) -> dict[str, Any]:
    """Kill a station so often, and compare.

    Args:
        folder: For its settings and its record.
        bundle: Any; the camera is drawn at its size.
        latest_s: Of a kill, in seconds after the start of the process, and after the first verdict it tells.
    """
    receiver = Receiver()
    random_ = random.Random(seed)
    try:
        settings = _settings(folder, bundle, hz, receiver.port)
        with Progress("kills", times) as progress:
            for number in range(times):
                process, before = _start(settings), len(receiver.seen)
                if number % 2:
                    _wait(lambda before=before: len(receiver.seen) > before, time.monotonic() + TELLS_S)  # type: ignore[misc]
                time.sleep(random_.uniform(0, LATEST_KILL_S if latest_s is None else latest_s))
                process.kill()
                process.wait()
                progress.step()
        _deliver_the_rest(settings, folder / "record", receiver)
    finally:
        receiver.close()
    return compare(folder / "record", receiver.seen)


def _settings(folder: Path, bundle: Path, hz: float, port: int) -> Path:
    size = Bundle(bundle).manifest.input
    path = folder / "station.toml"
    path.write_text(
        f"""
        [cameras.line]
        uri = "synthetic://{size.width}x{size.height}"
        trigger = "software-overlap"
        interval_ms = {1000 / hz}
        checks = {{ frozen_after = 0, black_level = 0, overexposed_level = 0 }}
        [recipes.small]
        bundle = "{bundle.absolute()}"
        backend = "onnxruntime"
        [http]
        enabled = false
        [[publish]]
        kind = "webhook"
        url = "http://127.0.0.1:{port}/"
        """
    )
    return path


def _start(settings: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edge_ad.cli", "station", str(settings)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _deliver_the_rest(settings: Path, record: Path, receiver: Receiver) -> None:
    """Start it once more, stop it as planned, and again until all that is recorded was delivered."""
    give_up_s = time.monotonic() + DELIVERED_S
    first = len(receiver.seen)
    while time.monotonic() < give_up_s:
        process = _start(settings)
        _wait(lambda: len(receiver.seen) > first, give_up_s)
        process.send_signal(signal.SIGTERM)
        process.wait(DELIVERED_S)
        with Reader(record) as reader:
            last = receiver.seen[-1]["id"] if receiver.seen else 0
            if not reader.after(last, 1):
                return
    raise StationError("The station does not deliver what it has recorded.", expected=f"within {DELIVERED_S:g} s")


def _wait(holds: Callable[[], bool], give_up_s: float) -> None:
    while not holds() and time.monotonic() < give_up_s:
        time.sleep(0.05)


def compare(record: Path, seen: list[dict[str, Any]]) -> dict[str, Any]:
    """The record against what was seen."""
    with closing(connect(record, read_only=True)) as connection:
        integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
        runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    with Reader(record) as reader:
        recorded = {verdict.id: verdict for verdict in _all(reader)}
        uid = reader.uid
    messages = {message["id"]: message for message in seen}
    firsts = list(dict.fromkeys(message["id"] for message in seen))
    different = [message for message in seen if message != messages[message["id"]]]
    unlike = [
        verdict_id
        for verdict_id, verdict in recorded.items()
        if verdict_id in messages and messages[verdict_id] != {"station": "station", "record": uid, **verdict.to_json()}
    ]
    triggers = Counter(verdict.trigger_id for verdict in recorded.values())
    return {
        "runs": runs,
        "recorded": len(recorded),
        "seen": len(messages),
        "lost": len(messages.keys() - recorded.keys()) + len(recorded.keys() - messages.keys()),
        "duplicated": len(different) + sum(count - 1 for count in triggers.values()),
        "unlike": len(unlike),
        "out_of_order": sum(one > two for one, two in pairwise(firsts)),
        "gaps": 0 if not recorded else max(recorded) - len(recorded),
        "redelivered": len(seen) - len(messages),
        "integrity": integrity,
    }


def _all(reader: Reader) -> list[Verdict]:
    found: list[Verdict] = []
    while page := reader.after(found[-1].id if found else 0, 1000):
        found += page
    return found


def as_text(result: dict[str, Any]) -> str:
    return (
        f"killed {result['times']} times at random moments, {result['runs']} of its runs reached the record: "
        f"{result['recorded']} verdicts recorded, {result['seen']} seen, {result['lost']} lost, "
        f"{result['duplicated']} duplicated, {result['out_of_order']} out of order, {result['gaps']} gaps in the ids, "
        f"{result['redelivered']} sent again with the same id; integrity check: {result['integrity']}"
    )
