"""`edge-ad station` and `edge-ad history` as processes: signals, systemd, kill -9, questions, exports, replays."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.kill import kill_station
from edge_ad.backends.runtime_cache import ENVIRONMENT
from edge_ad.cli import main
from edge_ad.station.export import COLUMNS, export_verdicts
from edge_ad.station.images import image_path
from edge_ad.station.query import Query, Reader
from edge_ad.station.record import Record
from edge_ad.station.settings import EXAMPLE
from edge_ad.station.verdict import ANOMALOUS, FAULT, GOOD
from tests.golden_bundle import brightness_bundle, spoil_manifest
from tests.station.conftest import CAMERA
from tests.station.made import EPOCH_NS, until, verdict_of

COMMAND = [sys.executable, "-m", "edge_ad.cli"]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


EdgeAd = Callable[..., Done]


@pytest.fixture
def edge_ad(capsys: pytest.CaptureFixture[str]) -> EdgeAd:
    """The command in this process: starting Python takes longer than what it does."""

    def run(*arguments: object) -> Done:
        try:
            status = main([*map(str, arguments)])
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    brightness_bundle(tmp_path / "bright.bundle")
    clock = CAMERA.replace("latest_ms", "interval_ms = 10\nlatest_ms")
    path = tmp_path / "station.toml"
    path.write_text(
        '[recipes.bright]\nbundle = "bright.bundle"\nbackend = "onnxruntime"\n' + clock + "[http]\nport = 0\n"
    )
    return path


@contextmanager
def running(settings_file: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, "station", str(settings_file)]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# --- edge-ad station ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=["SIGTERM", "SIGINT"]
)
def test_systemd_is_told_and_a_signal_stops_it_as_planned(
    settings_file: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
        address = str(tmp_path / "notify")
        service_manager.bind(address)
        service_manager.settimeout(30)
        with running(settings_file, NOTIFY_SOCKET=address) as process:
            assert service_manager.recv(4096) == b"READY=1"
            status, watchdog = service_manager.recv(4096).decode().split("\n")
            assert status.startswith("STATUS=running: ") and watchdog == "WATCHDOG=1"
            process.send_signal(number)
            while (told := service_manager.recv(4096)) != b"STOPPING=1":
                assert b"WATCHDOG=1" in told
            assert process.wait(30) == 0
    record = Record(tmp_path / "record")
    assert not record.was_interrupted and record.newest_id > 0
    record.close()


def test_kills_at_random_moments_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    brightness_bundle(tmp_path / "bright.bundle")
    found = kill_station(tmp_path, tmp_path / "bright.bundle", 3, seed=3, latest_s=2.0)
    assert found["recorded"] == found["seen"] > 0 and found["runs"] >= 2
    assert [found[name] for name in ("lost", "duplicated", "unlike", "out_of_order", "gaps")] == [0] * 5
    assert found["integrity"] == "ok"


@pytest.mark.slow
def test_many_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    brightness_bundle(tmp_path / "bright.bundle")
    found = kill_station(tmp_path, tmp_path / "bright.bundle", 60, seed=1)
    assert [found[name] for name in ("lost", "duplicated", "unlike", "out_of_order", "gaps")] == [0] * 5
    assert found["runs"] > 20 and found["integrity"] == "ok"


def test_a_station_that_cannot_run_says_why(edge_ad: EdgeAd, settings_file: Path, tmp_path: Path) -> None:
    assert edge_ad("station").returncode == 1
    missing = edge_ad("station", tmp_path / "no-such.toml")
    assert missing.returncode == 1 and "SettingsError" in missing.stderr and "cannot be read" in missing.stderr
    (tmp_path / "bright.bundle" / "model.onnx").write_bytes(b"damaged")
    for option in ([], ["--check"]):
        damaged = edge_ad("station", settings_file, *option)
        assert damaged.returncode == 1 and "not the file the manifest describes" in damaged.stderr
    assert "Traceback" not in damaged.stderr


def test_check_example_and_unit_are_printed(edge_ad: EdgeAd, settings_file: Path) -> None:
    checked = edge_ad("station", settings_file, "--check")
    assert checked.returncode == 0 and "recipe bright (at first)" in checked.stdout
    assert "for 16x24 frames" in checked.stdout
    settings_file.write_text(
        settings_file.read_text() + '[cameras.gate]\nuri = "rtsp://me:secret@10.0.0.9/x"\ntrigger = "free-run"\n'
    )
    checked = edge_ad("station", settings_file, "--check")
    assert "camera gate: rtsp://10.0.0.9/x, FreeRun()" in checked.stdout and "secret" not in checked.stdout
    assert edge_ad("station", "--example").stdout == EXAMPLE.read_text()
    unit = edge_ad("station", "--systemd").stdout
    assert "Type=notify" in unit and "WatchdogSec=" in unit and "Restart=always" in unit


def test_the_unit_may_write_where_its_caches_are(edge_ad: EdgeAd) -> None:
    settings = [line.partition("=") for line in edge_ad("station", "--systemd").stdout.splitlines()]
    (folder,) = (value for name, _, value in settings if name == "CacheDirectory")
    (environment,) = (
        dict(pair.split("=") for pair in value.split()) for name, _, value in settings if name == "Environment"
    )
    assert {ENVIRONMENT, "XDG_CACHE_HOME"} <= set(environment)
    assert all(Path(path).is_relative_to(f"/var/cache/{folder}") for path in environment.values())


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed (Debian: apt install systemd)"
)
def test_systemd_understands_the_unit(edge_ad: EdgeAd, tmp_path: Path) -> None:
    unit = tmp_path / "edge-ad-station.service"
    unit.write_text(edge_ad("station", "--systemd").stdout.replace("/opt/edge-ad/bin/edge-ad", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr
    unit.write_text(unit.read_text() + "ProtectKernelTunable=yes\n")
    spoilt = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert unit.name in spoilt.stderr, "it would say so"


# --- edge-ad history ---------------------------------------------------------------------------------------------


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A record of three parts whose images were kept: grey levels 80, 160 and 240, judged by a threshold of 100."""
    record = Record(tmp_path / "record")
    added = record.add(
        [verdict_of(1, GOOD, score=80.0), verdict_of(2, ANOMALOUS, score=160.0), verdict_of(3, ANOMALOUS, score=240.0)]
    )
    record.add([verdict_of(4, FAULT)])
    for verdict, level in zip(added, (80, 160, 240), strict=True):
        path = image_path(record.folder, record.uid, verdict)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((16, 24, 3), level, np.uint8))
    record.close()
    return record.folder


def test_history_answers_as_a_table_and_as_json(edge_ad: EdgeAd, history: Path) -> None:
    shown = edge_ad("history", history).stdout.splitlines()
    assert [line.split()[0] for line in shown[1:5]] == ["1", "2", "3", "4"]
    assert shown[-1] == "in all: 2 anomalous, 1 fault, 1 good"
    assert "no frame came" in shown[4] and "image" not in shown[4] and shown[3].endswith(", image")
    rejects = edge_ad("history", history, "--verdict", "anomalous", "--json").stdout.splitlines()
    assert [json.loads(line)["part_id"] for line in rejects] == ["part-2", "part-3"]
    one = edge_ad("history", history, "--part", "part-3", "--json", "--since", "2026-09-01", "--until", "2026-10-01")
    assert [json.loads(line)["score"] for line in one.stdout.splitlines()] == [240.0]
    assert edge_ad("history", history, "--since", "yesterday").returncode == 2
    nothing = edge_ad("history", history.parent)
    assert nothing.returncode == 1 and "holds no record" in nothing.stderr


def test_history_is_exported_and_an_export_is_not_overwritten(edge_ad: EdgeAd, history: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    assert edge_ad("history", history, "-o", target).returncode == 0
    with open(target, newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["id"], row["part_id"], row["verdict"], row["score"]) for row in rows] == [
        ("1", "part-1", "good", "80.0"),
        ("2", "part-2", "anomalous", "160.0"),
        ("3", "part-3", "anomalous", "240.0"),
        ("4", "part-4", "fault", ""),
    ]
    again = edge_ad("history", history, "-o", target)
    assert again.returncode == 1 and "already exists" in again.stderr
    assert edge_ad("history", history, "-o", target, "--force").returncode == 0
    other = edge_ad("history", history, "-o", tmp_path / "out.xlsx")
    assert other.returncode == 1 and ".csv or .parquet" in other.stderr
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.csv"]


def test_a_part_id_that_a_spreadsheet_would_run_is_told_apart(tmp_path: Path) -> None:
    evil = '=HYPERLINK("http://evil.example","4711")'
    export_verdicts([verdict_of(1, part_id=evil)], tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        assert next(csv.DictReader(file))["part_id"] == f"'{evil}"


def test_parquet_holds_the_same_with_its_types(history: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with Reader(history) as reader:
        assert export_verdicts(reader.verdicts(Query(oldest_first=True)), tmp_path / "out.parquet") == 4
    table = parquet.read_table(tmp_path / "out.parquet")
    assert tuple(table.column_names) == COLUMNS
    assert table["id"].to_pylist() == [1, 2, 3, 4] and table["score"].to_pylist() == [80.0, 160.0, 240.0, None]
    times = [EPOCH_NS / 1e9 + number for number in (1, 2, 3, 4)]
    assert [time.timestamp() for time in table["time"].to_pylist()] == times
    assert table["captured"].to_pylist()[3] is None
    assert json.loads(table["regions"].to_pylist()[1])[0]["width"] == 3


def test_replay_shows_what_another_bundle_would_have_judged(edge_ad: EdgeAd, history: Path, tmp_path: Path) -> None:
    other = brightness_bundle(tmp_path / "other.bundle")
    spoil_manifest(other.path, lambda tree: tree["precisions"]["fp32"].update(threshold=200.0))
    done = edge_ad("history", history, "--replay", other.path, "--backend", "onnxruntime", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["id"], row["now"]["score"], row["is_flip"]) for row in rows[:-1]] == [
        (3, 240.0, False),
        (2, 160.0, True),
        (1, 80.0, False),
    ]
    assert [row["difference"] for row in rows[:-1]] == [0.0, 0.0, 0.0]
    assert rows[-1]["summary"] == {"replayed": 3, "not_judged": 0, "good_to_anomalous": 0, "anomalous_to_good": 1}
    table = edge_ad("history", history, "--replay", other.path, "--backend", "onnxruntime", "--part", "part-2").stdout
    assert "<- turned" in table and "1 anomalous to good" in table
    none = edge_ad("history", history, "--replay", other.path, "--verdict", "fault")
    assert none.returncode == 1 and "None of these verdicts has its image" in none.stderr


def test_a_kept_image_that_is_damaged_is_told_and_the_others_are_judged(
    edge_ad: EdgeAd, history: Path, tmp_path: Path
) -> None:
    with Reader(history) as reader:
        damaged = reader.verdict(2)
        assert damaged is not None
        image_path(history, reader.uid, damaged).write_bytes(b"\x89PNG half of it")
    bundle = tmp_path / "b.bundle"
    brightness_bundle(bundle)
    done = edge_ad("history", history, "--replay", bundle, "--backend", "onnxruntime", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[-1]["summary"]["replayed"] == 2 and rows[-1]["summary"]["not_judged"] == 1
    assert rows[1]["now"]["verdict"] is None and rows[1]["reason"]


def test_a_running_station_s_record_can_be_asked(edge_ad: EdgeAd, settings_file: Path, tmp_path: Path) -> None:
    with running(settings_file) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("http://127.0.0.1:")
        ask = ("history", tmp_path / "record", "--limit", 2, "--json")
        until(lambda: len(edge_ad(*ask).stdout.splitlines()) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
