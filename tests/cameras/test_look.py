"""edge-ad cameras, edge-ad camera and edge-ad inspect on cameras."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad.bundle import Bundle
from edge_ad.cameras import aravis, native
from edge_ad.cli import main
from edge_ad.frame import read_image

EDGE_AD = [sys.executable, "-c", "import sys; from edge_ad.cli import main; sys.exit(main())"]


def test_a_look_says_what_came_and_saves_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save = tmp_path / "last.png"
    command = ["camera", "synthetic://96x64?fps=200&gaps=0.2&incomplete=0.1&seed=1", "-n", "40", "--save", str(save)]
    assert main([*command, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["width"], row["height"]) == (96, 64)
    assert row["fps"] > 0
    assert row["frames"] + row["incomplete"] >= 40  # one or two more may have come meanwhile
    assert row["fault_kinds"] == ["FrameIncomplete"] * len(row["fault_kinds"]) != []
    assert row["gaps"] > 2
    assert read_image(save).shape == (64, 96, 3)
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "FrameIncomplete" in out
    assert "description   synthetic, 96x64 BGR8" in out


def test_a_look_at_a_folder_ends_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8, 3), 90, np.uint8))
    assert main(["camera", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 1


def test_what_cannot_be_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["camera", "nothing://x"]) == 1
    assert "genicam://SERIAL" in capsys.readouterr().err
    assert main(["camera", "synthetic://64x48?silent=1", "-n", "2", "--trigger", "software", "--timeout-ms", "30"]) == 1
    assert "FrameTimeout" in capsys.readouterr().out
    assert main(["camera", "synthetic://64x48", "-n", "1", "--save", str(tmp_path / "no" / "x.png")]) == 1
    assert "could not be written" in capsys.readouterr().err
    for wrong in (["--region", "1,2,3"], ["--trigger", "sometimes"], ["--pixel-format", "Mono7"]):
        with pytest.raises(SystemExit) as stopped:
            main(["camera", "synthetic://64x48", *wrong])
        assert stopped.value.code == 2


def test_without_aravis_the_list_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: no such file")

    monkeypatch.setattr(native.ctypes, "CDLL", missing)
    aravis._aravis.cache_clear()
    try:
        assert main(["cameras"]) == 0
    finally:
        aravis._aravis.cache_clear()
    assert "apt install libaravis-0.8-0" in capsys.readouterr().out


def test_inspect_goes_on_after_a_fault_and_ends_cleanly_on_ctrl_c(bright_bundle: Bundle) -> None:
    """On a camera there is no end but Ctrl-C; what was counted is still told."""
    uri = "synthetic://24x16?fps=50&incomplete=0.3"
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell may have it ignored
    python, option, code = EDGE_AD
    command = [python, option, f"{heed}; {code}", "inspect", str(bright_bundle.path), uri]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(20)]
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    lines += out.splitlines()
    faults = [line for line in lines if ": fault " in line]
    assert faults
    assert "is incomplete" in faults[0]
    verdicts = [line for line in lines if "threshold" in line]
    assert verdicts
    counted = re.fullmatch(r"\d+ good, \d+ anomalous, (\d+) faults; fp32 on .*\n?", lines[-1])
    assert counted is not None
    assert len(faults) - 1 <= int(counted[1]) <= len(faults)  # Ctrl-C may come between a line and its count


def test_faults_as_json(bright_bundle: Bundle, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    size = bright_bundle.manifest.input
    for name, level in (("dark", 0), ("light", 100)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((size.height, size.width, 3), level, np.uint8))
    assert main(["inspect", str(bright_bundle.path), f"file://{tmp_path}", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {"frame": "dark.png", "sequence": 0, "fault": "ImageFault"}
    assert (rows[1]["frame"], rows[1]["sequence"], "score" in rows[1]) == ("light.png", 1, True)
