"""`edge-ad verify`: every precision and every engine is proven, refuted or said not to have run, and why."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_ad import verify as verify_module
from edge_ad.backends.engine_choice import Machine
from edge_ad.bundle import Bundle
from edge_ad.cli import main
from edge_ad.errors import BundleCorrupt, EngineError
from edge_ad.golden import GOLDEN_FILE, TOLERANCE, Answer, Golden, read_golden
from edge_ad.manifest import EngineEntry
from edge_ad.verify import verify
from tests.golden_bundle import golden_bundle

HERE = Machine(versions={"rtx": "1.7.1"}, capability=(8, 9))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return golden_bundle(tmp_path / "tiny.bundle", "fp32", "int8")


def add_engine(bundle: Bundle, target: str = "sm89", version: str = "1.7.1") -> str:
    """Bytes in place of an engine of float32; returns the file's name."""
    file = f"engines/{version}-{target}.engine"
    entry = EngineEntry(
        file=file,
        flavour="rtx",
        version=version,
        target=target,
        precision="fp32",
        graph_sha256=bundle.manifest.files["model.onnx"],
        max_batch=1,
    )
    with bundle.edit() as edit:
        edit.write(file, b"an engine")
        edit.manifest = dataclasses.replace(edit.manifest, engines=(*edit.manifest.engines, entry))
    return file


def spoil_golden(bundle: Bundle, precision: str, output: int, frame: int, by_spreads: float) -> None:
    """Make the bundle promise another answer: the last map pixel of a frame, or its score."""
    golden = read_golden(bundle)
    answers = {name: (maps.copy(), scores.copy()) for name, (maps, scores) in golden.answers.items()}
    spread = bundle.precision(precision).score_spread
    answers[precision][output][frame : frame + 1].reshape(-1)[-1:] += np.float32(by_spreads * spread)
    with bundle.edit() as edit:
        edit.write(GOLDEN_FILE, Golden(image=golden.image, answers=answers).to_bytes())


class Answering:
    """A backend that answers as promised, with the map of one frame off by some spreads."""

    name = "tensorrt-rtx"

    def __init__(self, bundle: Bundle, precision: str, off_by: float = 0.0) -> None:
        self._golden, self._spread = read_golden(bundle), bundle.precision(precision).score_spread
        self._precision, self._off_by, self.closed = precision, off_by, False

    def run(self, images: npt.NDArray[np.uint8]) -> Answer:
        (index,) = [i for i, image in enumerate(self._golden.image) if np.array_equal(image, images[0])]
        maps, scores = (answer[index : index + 1].copy() for answer in self._golden.answers[self._precision])
        maps[0, 1, 2] += np.float32(self._off_by * self._spread)
        return maps, scores

    def close(self) -> None:
        self.closed = True


def test_every_precision_is_proven_on_the_cpu_and_a_missing_engine_is_said(bundle: Bundle) -> None:
    rows = [(row.precision, row.backend, row.engine, row.ok, row.reason) for row in verify(bundle.path)]
    assert rows == [
        ("fp32", "tensorrt", None, None, "The bundle has no fp32 engine."),
        ("fp32", "openvino", None, True, ""),
        ("fp32", "onnxruntime", None, True, ""),
        ("int8", "tensorrt", None, None, "The bundle has no int8 engine."),
        ("int8", "openvino", None, True, ""),
        ("int8", "onnxruntime", None, True, ""),
    ]


@pytest.mark.parametrize(
    ("output", "by", "reason"),
    [
        (0, 1.0, "anomaly_map of golden frame 1 differs by 1 spreads of normal scores at (16, 23)."),
        (1, -3.0, "score of golden frame 1 differs by 3 spreads of normal scores."),
    ],
)
def test_a_mismatch_says_which_output_where_and_by_how_much(
    bundle: Bundle, output: int, by: float, reason: str
) -> None:
    spoil_golden(bundle, "int8", output, frame=1, by_spreads=by)
    fp32, int8 = (row for row in verify(bundle.path) if row.backend == "onnxruntime")
    assert (fp32.ok, int8.ok) == (True, False)
    assert (int8.max_map_error, int8.max_score_error)[output] == pytest.approx(abs(by), rel=1e-3)
    assert (int8.max_map_error, int8.max_score_error)[1 - output] == 0.0
    assert int8.max_error == pytest.approx(abs(by), rel=1e-3)
    assert int8.map_tolerance == int8.score_tolerance == TOLERANCE["int8"]
    assert reason in int8.reason


def test_an_engine_is_listed_where_there_is_no_gpu(bundle: Bundle, no_gpu: None) -> None:
    file = add_engine(bundle)
    (row,) = [row for row in verify(bundle.path) if row.engine]
    assert (row.engine, row.ok, row.max_error) == (file, None, None)
    assert "GPU" in row.reason


@pytest.mark.parametrize("off_by", [0.5, 2.0, np.nan])
def test_each_engine_that_fits_this_gpu_is_run_and_judged(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, off_by: float
) -> None:
    file = add_engine(bundle)
    elsewhere = [add_engine(bundle, target="sm120"), add_engine(bundle, version="1.6.0")]
    opened = []

    def open_backend(alone: Bundle, precision: str, backend: str) -> Answering:
        files = [engine.file for engine in alone.manifest.engines]
        running = Answering(alone, precision, off_by * TOLERANCE[precision] if files == [file] else 0.0)
        opened.append((backend, running))
        assert backend != "tensorrt" or files == [file]
        return running

    monkeypatch.setattr(verify_module, "_this_machine", lambda: HERE)
    monkeypatch.setattr(verify_module, "open_backend", open_backend)

    rows = {row.engine: row for row in verify(bundle.path) if row.engine}

    good = off_by < 1
    assert rows[file].ok is good
    assert rows[file].max_map_error == (None if np.isnan(off_by) else pytest.approx(off_by * 0.01, rel=1e-3))
    assert good or "by tensorrt-rtx in fp32: anomaly_map of golden frame" in rows[file].reason
    for other, reason in zip(elsewhere, ["capability 12.0", "got: 1.6.0"], strict=True):
        assert rows[other].ok is None
        assert reason in rows[other].reason
    assert [backend for backend, _ in opened] == ["tensorrt", *2 * ["openvino", "onnxruntime"]]
    assert all(running.closed for _, running in opened)


def test_an_engine_that_should_run_here_and_is_refused_has_failed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = add_engine(bundle)

    def refuse(alone: Bundle, precision: str, backend: str) -> Answering:
        if backend == "tensorrt":
            raise EngineError("The engine cannot be loaded.")
        return Answering(alone, precision)

    monkeypatch.setattr(verify_module, "_this_machine", lambda: HERE)
    monkeypatch.setattr(verify_module, "open_backend", refuse)

    (row,) = [row for row in verify(bundle.path) if row.engine == file]

    assert (row.ok, row.reason) == (False, "The engine cannot be loaded.")


def test_a_damaged_file_stops_everything(bundle: Bundle) -> None:
    file = add_engine(bundle)
    (bundle.path / file).write_bytes(b"another engine")
    with pytest.raises(BundleCorrupt, match=file):
        verify(bundle.path)


def test_the_command_prints_rows_and_fails_where_one_does(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], no_gpu: None
) -> None:
    file = add_engine(bundle)
    assert main(["verify", str(bundle.path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["precision"], row["backend"], row["engine"], row["ok"]) for row in rows} == {
        ("fp32", "tensorrt", file, None),
        ("fp32", "openvino", None, True),
        ("fp32", "onnxruntime", None, True),
        ("int8", "tensorrt", None, None),
        ("int8", "openvino", None, True),
        ("int8", "onnxruntime", None, True),
    }
    assert all(0 <= row["max_score_error"] <= row["max_error"] for row in rows if row["ok"])

    spoil_golden(bundle, "fp32", 1, frame=0, by_spreads=np.nan)
    assert main(["verify", str(bundle.path), "--json"]) == 1
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["ok"] is False]
    assert (row["max_score_error"], row["max_map_error"]) == (None, 0.0)
    assert main(["verify", str(bundle.path)]) == 1
    assert "FAILED" in capsys.readouterr().out
