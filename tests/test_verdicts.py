"""`edge-ad inspect` on folders: every image its line, in order, in bounded memory, whatever is wrong with some."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge_ad import Bundle, Frame, Inspection, Inspector
from edge_ad.cameras import ImageFiles
from edge_ad.cli import main
from tests.golden_bundle import CAMERA, bundle_of
from tests.habits.repository import ROOT
from tests.tile_graphs import edges_graph

Image = npt.NDArray[np.uint8]


def grey(level: int, height: int = CAMERA.height, width: int = CAMERA.width) -> Image:
    return np.full((height, width, 3), level, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty images, each of a brightness of its own; tall names sort wrongly unless sorted as people count."""
    (tmp_path / "parts").mkdir()
    for number in range(30):
        cv2.imwrite(str(tmp_path / "parts" / f"part{number}.png"), grey(number + 1))
    return tmp_path / "parts"


def inspect(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str], str]:
    code = main(["inspect", *map(str, words), "--backend", "onnxruntime"])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


def test_every_image_has_its_verdict_in_order(
    bright_bundle: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, _ = inspect(capsys, bright_bundle.path, folder, "--json")
    rows = [json.loads(line) for line in lines]
    assert code == 0
    assert [(row["frame"], row["sequence"]) for row in rows] == [(f"part{n}.png", n) for n in range(30)]
    assert [row["score"] for row in rows] == [n + 1 for n in range(30)]


def test_images_without_a_verdict_do_not_end_the_run_and_the_exit_code_tells(
    bright_bundle: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "part3.png").write_bytes(b"not an image")
    cv2.imwrite(str(folder / "part7.png"), grey(9, height=20))
    code, lines, said = inspect(capsys, bright_bundle.path, folder, "--json")
    rows = [json.loads(line) for line in lines]
    assert code == 1
    assert len(rows) == 30
    assert {row["frame"]: row["fault"] for row in rows if "fault" in row} == {
        "part3.png": "UnreadableImage",
        "part7.png": "FrameError",
    }
    assert all("score" in row for row in rows if "fault" not in row)
    assert "2 of 30 images got no verdict, part3.png the first" in said
    assert "fix:" in said
    code, lines, _ = inspect(capsys, bright_bundle.path, folder)
    assert code == 1
    assert lines[3].startswith("part3.png #3: fault ")
    assert lines[-1].startswith("28 good, 0 anomalous, 2 faults; fp32 on ")


def test_another_image_is_read_while_one_is_inspected(
    bright_bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first inspection waits for a second image: were they read in turn, it would wait in vain."""
    is_read: list[int] = []
    second_is_read = threading.Event()
    read, inspected = ImageFiles.read, Inspector.inspect

    def read_and_tell(self: ImageFiles, sequence: int) -> Frame:
        frame = read(self, sequence)
        is_read.append(sequence)
        if len(is_read) > 1:
            second_is_read.set()
        return frame

    def inspect_when_read(self: Inspector, frame: Frame) -> Inspection:
        assert second_is_read.wait(20)
        return inspected(self, frame)

    monkeypatch.setattr(ImageFiles, "read", read_and_tell)
    monkeypatch.setattr(Inspector, "inspect", inspect_when_read)
    code, lines, _ = inspect(capsys, bright_bundle.path, folder, "--json")
    assert (code, len(lines)) == (0, 30)


def test_many_files_are_divided_among_inspectors(
    bright_bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first inspection waits until another inspector has begun one; none ever has two frames at a time."""
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    code, alone, _ = inspect(capsys, bright_bundle.path, folder, "--json")
    monkeypatch.setattr("edge_ad.verdicts.MANY", 10)
    busy: list[Inspector] = []
    seen: set[int] = set()
    twice: list[Inspector] = []
    several = threading.Event()
    inspected = Inspector.inspect

    def inspect_with_others(self: Inspector, frame: Frame) -> Inspection:
        twice.extend([self] if self in busy else [])
        busy.append(self)
        seen.add(id(self))
        if len(seen) > 1:
            several.set()
        assert several.wait(20)
        inspection = inspected(self, frame)
        busy.remove(self)
        return inspection

    monkeypatch.setattr(Inspector, "inspect", inspect_with_others)
    code, lines, _ = inspect(capsys, bright_bundle.path, folder, "--json")
    assert code == 0 and not twice and 2 <= len(seen) <= 3
    assert [(row["frame"], row["score"]) for row in map(json.loads, lines)] == [
        (row["frame"], row["score"]) for row in map(json.loads, alone)
    ]


def test_a_file_that_goes_away_is_a_fault(
    bright_bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Listed, and gone when its turn comes."""
    (folder / "part29.png").unlink()
    (folder / "part29.png").symlink_to(folder / "part28.png")
    inspected = Inspector.inspect

    def inspect_and_remove(self: Inspector, frame: object) -> object:
        (folder / "part28.png").unlink(missing_ok=True)
        return inspected(self, frame)  # type: ignore[arg-type]

    monkeypatch.setattr(Inspector, "inspect", inspect_and_remove)
    code, lines, said = inspect(capsys, bright_bundle.path, folder)
    assert code == 1
    assert [line.split()[2] for line in lines[28:30]] == ["fault", "fault"]
    assert "2 of 30 images" in said


def test_progress_is_told_with_its_rate(
    bright_bundle: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, said = inspect(capsys, bright_bundle.path, folder)
    last = said.splitlines()[-1]
    assert last.startswith("inspecting: 30/30 ")
    assert last.endswith("/s")


def test_larger_frames_are_cut_into_tiles_when_asked(
    bright_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = grey(50, 40, 60)
    image[38:, 58:] = 255
    cv2.imwrite(str(tmp_path / "large.png"), image)
    code, _, said = inspect(capsys, bright_bundle.path, tmp_path / "large.png", "--json")
    assert code == 1
    assert "(16, 24, 3)" in said
    code, [line], _ = inspect(
        capsys, bright_bundle.path, tmp_path / "large.png", "--json", "--tiled", "--save", tmp_path / "overlays"
    )
    row = json.loads(line)
    assert code == 0
    assert (row["score"], row["tiles"]) == (255.0, 9)
    assert row["worst_tile"] == {"x": 36, "y": 24, "width": 24, "height": 16, "score": 255.0}
    assert [path.name for path in (tmp_path / "overlays").iterdir()] == ["large_000000.jpg"]


def test_overlays_are_saved_for_all_that_were_inspected(
    bright_bundle: Bundle, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "part3.png").write_bytes(b"not an image")
    inspect(capsys, bright_bundle.path, folder, "--save", tmp_path / "overlays")
    expected = {f"part{number}_{number:06d}.jpg" for number in range(30)} - {"part3_000003.jpg"}
    assert {path.name for path in (tmp_path / "overlays").iterdir()} == expected


def test_overlays_that_cannot_be_written_end_the_run(
    bright_bundle: Bundle, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    code, _, said = inspect(capsys, bright_bundle.path, folder, "--save", tmp_path / "taken")
    assert code == 1
    assert said.startswith("DataError: ")


def test_many_images_take_no_more_memory_than_a_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = (480, 640)
    bundle = bundle_of(tmp_path / "edges.bundle", {"fp32": edges_graph(*size)})
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for name, count in (("few", 8), ("many", 64)):
        (tmp_path / name).mkdir()
        for number in range(count):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), grey(number, *size))
    peaks = {}
    for name in ("few", "many"):
        tracemalloc.start()
        code, _, _ = inspect(capsys, bundle.path, tmp_path / name, "--json")
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert code == 0
    image = size[0] * size[1] * 3
    assert peaks["many"] < peaks["few"] + 2 * image, "of the 59 MB that 64 images are"


def test_ctrl_c_ends_it_between_two_lines(bright_bundle: Bundle, tmp_path: Path) -> None:
    """One link a number, so that there are enough to be interrupted in."""
    (tmp_path / "parts").mkdir()
    cv2.imwrite(str(tmp_path / "one.png"), grey(50))
    for number in range(20_000):
        os.link(tmp_path / "one.png", tmp_path / "parts" / f"{number}.png")
    command = [sys.executable, "-m", "edge_ad.cli", "inspect", str(bright_bundle.path), str(tmp_path / "parts")]
    with subprocess.Popen(
        [*command, "--json", "--backend", "onnxruntime"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    rows = [json.loads(line) for line in (*first, *rest.splitlines())]
    assert [row["sequence"] for row in rows] == list(range(len(rows)))
    assert 20 <= len(rows) < 20_000
    assert (process.returncode, said.strip()) == (1, "interrupted")
