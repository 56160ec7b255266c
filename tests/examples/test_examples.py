"""The examples, as their readers run them: compiled and started against a real station."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad.station.station import Station
from tests.golden_bundle import CAMERA, brightness_bundle
from tests.habits.repository import ROOT
from tests.station.conftest import MakeStation, settings, station
from tests.station.made import until
from tests.station.taught import judge, set_threshold, show_greys

__all__ = ["settings", "station"]  # fixtures

EXAMPLES = ROOT / "examples"
STRICT = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_ten_lines_of_python_judge_images(tmp_path: Path) -> None:
    brightness_bundle(tmp_path / "bright.bundle")
    set_threshold(tmp_path / "bright.bundle")
    for grey in (120, 160):
        image = np.full((CAMERA.height, CAMERA.width, 3), grey, np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{grey}.png"), image)
    paths = [str(tmp_path / f"{grey}.png") for grey in (120, 160)]
    done = python("inspect_parts.py", str(tmp_path / "bright.bundle"), *paths)
    assert done.stdout.splitlines() == [f"{paths[0]} good 120", f"{paths[1]} reject 160"], done.stderr


@pytest.fixture
def line(station: MakeStation, tmp_path: Path) -> Station:
    """It will see a grey of 100, 110, 120, 130, then 150; what is above 140 is rejected."""
    set_threshold(tmp_path / "bright.bundle")
    (tmp_path / "token").write_text("a-long-secret\n")
    text = show_greys(tmp_path / "greys").replace("port = 0", 'port = 0\ntoken_file = "token"')
    return station(text)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The client in C, compiled with no warning let pass, and with checks of every access where it can have them."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (Debian: apt install gcc)")
    program = tmp_path_factory.mktemp("client") / "client"
    for checks in (["-fsanitize=address,undefined", "-g"], []):
        command = [compiler, *STRICT, *checks, "-o", str(program), str(EXAMPLES / "client.c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr

    def run(*arguments: str | int, token: str = "a-long-secret") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "EDGE_AD_TOKEN": token}
        command = [str(program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    return run


def test_the_client_in_c_lets_good_parts_pass_and_nothing_else(line: Station, client: Run) -> None:
    assert line.http is not None
    address = ("127.0.0.1", line.http.port)
    for number, grey in enumerate((100, 110, 120, 130)):
        done = client(*address, f"part-{number}")
        assert (done.returncode, done.stdout) == (0, f"top good score {grey}.0 threshold 140.0\n"), done.stderr
    done = client(*address, '","verdict":"good', "top")  # 150: a part id is no verdict
    assert (done.returncode, done.stdout) == (1, "top anomalous score 150.0 threshold 140.0\n"), done.stderr
    done = client(*address, "part-5", "side")
    assert done.returncode == 2 and "There is no camera 'side'" in done.stderr
    assert client(*address, "part-5", token="a-guess").returncode == 2
    assert client(*address, "x" * 5000).returncode == 2
    line.stop()
    done = client(*address, "part-6")
    assert done.returncode == 2 and "cannot be reached" in done.stderr


GOOD = b'{"triggers": [{"trigger_id": "1-1", "camera": "top", "verdict": {"verdict": "good", "score": 1.0}}]}'


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        ("200 OK", GOOD, 0),
        ("202 Accepted", GOOD, 1),
        ("200 OK", GOOD.replace(b'"good"', b"null"), 1),
        ("200 OK", GOOD.replace(b'"verdict": "good"', b'"reason": "\\"verdict\\": \\"good\\""'), 1),
        ("200 OK", GOOD.replace(b'"verdict": "good"', b'"regions": [{"verdict": "good"}], "verdict": "fault"'), 1),
        ("200 OK", b'{"triggers": [{"camera": "top", "verdict": null}]}', 1),
        ("200 OK", b'{"triggers": []}', 2),
        ("200 OK", GOOD[:-1], 2),
        ("200 OK", b'{"triggers": "' + b"\\" * 9, 2),
        ("200 OK", b"[" * 100_000, 2),
        ("200 OK", b"", 2),
        ("503 Service Unavailable", GOOD, 2),
    ],
)
def test_the_client_in_c_takes_nothing_but_a_whole_answer_for_good(
    client: Run, status: str, body: bytes, expected: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            link, _ = server.accept()
            with link:
                link.recv(65536)
                link.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

        thread = threading.Thread(target=answer)
        thread.start()
        done = client("127.0.0.1", server.getsockname()[1], "part")
        thread.join()
    assert done.returncode == expected, done


def test_the_opc_ua_client_lets_good_parts_pass_and_nothing_else(station: MakeStation, tmp_path: Path) -> None:
    pytest.importorskip("asyncua", reason="asyncua is not installed: pip install 'edge-ad[station]'")
    set_threshold(tmp_path / "bright.bundle")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_port = taken.getsockname()[1]
    endpoint = f"opc.tcp://127.0.0.1:{taken_port}/edge-ad"
    text = f'[[publish]]\nkind = "opcua"\nendpoint = "{endpoint}"\n'
    made = station(show_greys(tmp_path / "greys") + text)
    until(lambda: is_listening(taken_port), "the OPC UA server", 120)
    done = python("opcua_client.py", endpoint, "part-0")
    assert (done.returncode, done.stdout) == (0, "top good score 100 threshold 140\n"), done.stderr
    judge(made, 3)
    done = python("opcua_client.py", endpoint, "part-4")
    assert (done.returncode, done.stdout) == (1, "top anomalous score 150 threshold 140\n"), done.stderr


def is_listening(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0
