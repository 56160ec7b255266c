"""`edge-ad station` and `edge-ad history`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from edge_ad.backends import BACKENDS
from edge_ad.errors import SettingsError
from edge_ad.manifest import PRECISIONS

__all__ = ["add_history_arguments", "add_station_arguments", "run_history", "run_station"]


def add_station_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `run_station` reads."""
    parser.add_argument("settings", type=Path, nargs="?", metavar="STATION_TOML", help="the station's settings")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--check", action="store_true", help="check the settings and the bundles, run nothing")
    instead.add_argument("--example", action="store_true", help="print settings with everything explained")
    instead.add_argument("--systemd", action="store_true", help="print a systemd unit")


def run_station(arguments: argparse.Namespace) -> int:
    """Run a station until SIGTERM or SIGINT; returns 1 if it did not end as planned."""
    from edge_ad.station.settings import EXAMPLE, read_settings
    from edge_ad.station.systemd import SERVICE

    if arguments.example or arguments.systemd:
        print((EXAMPLE if arguments.example else SERVICE).read_text(encoding="utf-8"), end="")
        return 0
    if arguments.settings is None:
        raise SettingsError(
            "No settings were given.",
            expected="edge-ad station STATION_TOML",
            fix="edge-ad station --example > station.toml",
        )
    settings = read_settings(arguments.settings)
    if arguments.check:
        from edge_ad.station.check import check_bundles

        print("\n".join(check_bundles(settings)))
        return 0
    return _serve(arguments.settings)


def _serve(path: Path) -> int:
    from edge_ad.station.settings import read_settings
    from edge_ad.station.station import Station
    from edge_ad.station.systemd import notify

    in_journal = "JOURNAL_STREAM" in os.environ  # which puts the time before each line itself
    logging.basicConfig(
        level=logging.INFO, format=f"{'' if in_journal else '%(asctime)s '}%(levelname)s %(name)s: %(message)s"
    )
    stopping = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopping.set()
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    station = Station(read_settings(path))
    station.start()
    notify("READY=1")
    if station.http is not None and station.settings.http is not None:
        print(f"http://{station.settings.http.host}:{station.http.port}", flush=True)
    while not stopping.wait(0.5) and not station.has_failed():
        pass
    has_failed = station.has_failed()
    notify("STOPPING=1")
    if station.stop() and not has_failed:
        return 0
    logging.shutdown()
    sys.stdout.flush()
    os._exit(1)  # a stage that is stuck would hold up the interpreter's own end


def add_history_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `run_history` reads."""
    parser.add_argument("folder", type=Path, help="folder of the record, as [record] in station.toml names it")
    parser.add_argument("--since", type=_time, metavar="TIME", help="from then on: 2026-11-21T08:30, or 8h ago")
    parser.add_argument("--until", type=_time, metavar="TIME", help="before then")
    parser.add_argument("--camera", metavar="NAME")
    parser.add_argument("--part", metavar="ID", help="part id, as the line gave it")
    parser.add_argument("--recipe", metavar="NAME")
    parser.add_argument("--verdict", action="append", choices=("good", "anomalous", "fault"), help="repeatable")
    parser.add_argument("--limit", type=_count, metavar="N", help="the newest N (default: 20; all with -o or --replay)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write a .csv or .parquet file instead")
    parser.add_argument("--force", action="store_true", help="replace a file that is already there")
    parser.add_argument(
        "--replay", type=Path, metavar="BUNDLE", help="judge the kept images again, and show what changes"
    )
    parser.add_argument("--precision", default="auto", choices=("auto", *PRECISIONS), help="of the replay")
    parser.add_argument("--backend", default="auto", choices=("auto", *BACKENDS), help="of the replay")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def _time(text: str) -> int:
    from edge_ad.station.query import parse_time

    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def run_history(arguments: argparse.Namespace) -> int:
    """Ask a record."""
    from edge_ad.station.history import export, replay_record, show
    from edge_ad.station.query import Query, Reader

    is_whole = arguments.output or arguments.replay
    query = Query(
        since_ns=arguments.since,
        until_ns=arguments.until,
        camera=arguments.camera,
        part_id=arguments.part,
        recipe=arguments.recipe,
        verdicts=tuple(arguments.verdict) if arguments.verdict else None,
        limit=arguments.limit or (None if is_whole else 20),
    )
    with Reader(arguments.folder) as reader:
        if arguments.replay:
            bundle = (arguments.replay, arguments.precision, arguments.backend)
            print(replay_record(reader, query, *bundle, as_json=arguments.json))
        elif arguments.output:
            print(export(reader, query, arguments.output, force=arguments.force))
        else:
            for line in show(reader, query, as_json=arguments.json):
                print(line)
    return 0
