"""The whole comparison on drawn parts: one method that is trained in a moment, one that cannot be."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_ad.bundle import Bundle
from edge_ad.cli import main
from edge_ad.compare.contenders import Contender
from edge_ad.compare.deploy import deploy, finished_run
from edge_ad.compare.figures import FIGURES
from edge_ad.compare.judge import Judged, latencies_ms
from edge_ad.compare.run import compare
from edge_ad.demo.parts import write_dataset
from edge_ad.errors import DatasetLayoutError, TrainingError
from edge_ad.frame import read_image
from edge_ad.inspector import Inspector
from edge_ad.training.dataset import open_dataset
from edge_ad.training.evaluate import evaluate
from tests.html_page import Page
from tests.trained import CAMERA

SETTINGS = ("steps=4", "batch_patches=128", "image_size=128", "hidden=32")
PRECISIONS = ("fp32", "fp16", "int8")
FAILING = "efficientad-s.teacher=nowhere/teacher.safetensors"


@dataclass(frozen=True)
class Done:
    """A comparison that ran from the command line."""

    code: int
    out: str
    err: str
    page: Path
    runs: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        return json.loads(self.out)["rows"]


def run_command(dataset: Path, folder: Path, *more: str) -> Done:
    words = ["compare", str(dataset), "-o", str(folder / "page.html"), "--json", "--methods", *more]
    for setting in SETTINGS:
        words += ["--set", f"simplenet.{setting}"]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return Done(code, out.getvalue(), err.getvalue(), folder / "page.html", folder / "page_runs")


@pytest.fixture(scope="module", autouse=True)
def _few_frames() -> Iterator[None]:
    """See tests/trained.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.flow.RANGE_IMAGES", 4)
        patch.setattr("calibration.flow.COST_IMAGES", 1)
        yield


@pytest.fixture(scope="module")
def done(parts_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return run_command(
        parts_dataset, tmp_path_factory.mktemp("compare"), "simplenet", "efficientad-s", "--fp16", "--set", FAILING
    )


def hashes(folder: Path) -> dict[str, tuple[str, int]]:
    """sha256 and time of writing of every file."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {
        str(file.relative_to(folder)): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in files
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_row_is_what_evaluate_says_of_the_same_bundle(done, parts_dataset, precision):
    row = next(row for row in done.rows if row["precision"] == precision)
    dataset, bundle = open_dataset(parts_dataset), Bundle(done.runs / "simplenet.bundle")
    with Inspector(bundle, precision=precision) as inspector:
        evaluation = evaluate(inspector.answer, dataset, inspector.size, "again")
    for key in ("images", "image_auroc", "image_average_precision", "image_f1max", "pixel_auroc", "aupro", "spro"):
        assert row[key] == getattr(evaluation, key)
    assert {name: tuple(ends) for name, ends in row["intervals"].items()} == evaluation.intervals
    assert row["per_defect"] == {name: vars(metrics) for name, metrics in evaluation.per_defect.items()}
    entry = bundle.precision(precision)
    verdicts = [
        (item.is_defective, score > entry.threshold)
        for item, score in zip(dataset.test, evaluation.scores, strict=True)
    ]
    assert row["false_rejects"] == verdicts.count((False, True))
    assert row["missed_defects"] == verdicts.count((True, False))
    assert (row["good_images"], row["defective_images"]) == (3, 4)
    assert row["threshold"] == entry.threshold
    assert row["graph_bytes"] == (bundle.path / entry.graph).stat().st_size


def test_a_row_says_how_it_came_about(done):
    fp32, fp16, int8 = done.rows
    assert tuple(row["precision"] for row in done.rows) == PRECISIONS
    assert fp32["changed_options"] == {"steps": 4, "batch_patches": 128, "image_size": 128, "hidden": 32}
    assert fp32["training_images"] == 12 and fp32["training_seconds"] >= 0
    report = json.loads((done.runs / "simplenet.bundle" / "report.json").read_text())["int8"]
    assert (int8["float_layers"], int8["convolutions"]) == (len(report["float_layers"]), len(report["work_share"]))
    assert int8["within_limits"] is report["within_limits"]
    assert fp32["float_layers"] is fp16["within_limits"] is None
    low, high = int8["latency_quartiles_ms"]
    assert 0 < low <= int8["latency_p50_ms"] <= high


def test_parameters_are_the_numbers_of_the_networks_file(done):
    from safetensors.numpy import load_file

    tensors = load_file(done.runs / "simplenet" / "model.safetensors")
    assert done.rows[0]["parameters"] == sum(tensor.size for tensor in tensors.values())


def test_a_method_that_fails_is_reported_and_the_others_remain(done):
    assert done.code == 1
    assert [row["method"] for row in done.rows] == ["simplenet"] * 3
    failures = json.loads(done.out)["failures"]
    assert [failure["method"] for failure in failures] == ["efficientad-s"]
    assert (
        failures[0]["error"].startswith("WeightsNotFound: ") and "nowhere/teacher.safetensors" in failures[0]["error"]
    )
    assert "Method Why efficientad-s WeightsNotFound: " in Page(done.page.read_text()).text


def test_progress_goes_to_standard_error(done):
    assert "1 of 2 methods: simplenet" in done.err
    assert "2 of 2 methods: efficientad-s" in done.err


def test_the_page_shows_the_figures_of_the_json(done):
    lines = [cells for cells in Page(done.page.read_text(encoding="utf-8")).rows if "False rejects" in cells]
    assert len(lines) == len(done.rows) == 3
    for cells, row in zip(lines, done.rows, strict=True):
        for figure in FIGURES[:-1]:
            assert figure.text(row[figure.key]) in cells[figure.title]
            ends = row["latency_quartiles_ms"] if figure.key == "latency_p50_ms" else row["intervals"].get(figure.key)
            assert ends is None or "\N{EN DASH}".join(map(figure.bounds, ends)) in cells[figure.title]


def test_nothing_is_done_twice(done, parts_dataset, monkeypatch):
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("this was done already")

    for place in ("deploy.train", "deploy.export", "deploy.calibrate", "judge.evaluate"):
        monkeypatch.setattr(f"edge_ad.compare.{place}", forbidden)
    before = hashes(done.runs)
    again = run_command(parts_dataset, done.page.parent, "simplenet", "--fp16")
    assert again.code == 0
    assert hashes(done.runs) == before
    timed = ("latency_p50_ms", "latency_quartiles_ms")
    kept = [
        [{key: value for key, value in row.items() if key not in timed} for row in one.rows] for one in (done, again)
    ]
    assert kept[0] == kept[1]


def contender(folder: Path, **settings: Any) -> Contender:
    return Contender(method="simplenet", run=folder / "simplenet", settings=settings)


@pytest.mark.parametrize("harm", ["altered", "gone", "replaced", "lacks a precision"])
def test_a_bundle_that_is_not_what_was_made_is_made_again(done, parts_dataset, tmp_path, monkeypatch, harm):
    exported: list[Path] = []

    def export_again(run: Path, output: Path, *, region: Path | None, force: bool) -> Bundle:
        assert force and region is None
        exported.append(run)
        shutil.rmtree(output, ignore_errors=True)
        return Bundle(shutil.copytree(done.runs / "simplenet.bundle", output))

    monkeypatch.setattr("edge_ad.compare.deploy.export", export_again)
    monkeypatch.setattr("edge_ad.compare.deploy.calibrate", lambda bundle, options: None)
    runs = Path(shutil.copytree(done.runs, tmp_path / "runs"))
    place, memory = runs / "simplenet.bundle", runs / "simplenet.bundle.json"
    made_from = json.loads(memory.read_text())["made_from"]
    if harm == "altered":
        (place / "model.onnx").write_bytes((place / "model.onnx").read_bytes()[:-1])
    elif harm == "gone":
        shutil.rmtree(place)
    elif harm == "lacks a precision":
        kept = json.loads(memory.read_text())
        memory.write_text(json.dumps(kept | {"outcome": {"fp32": kept["outcome"]["fp32"]}}))
    else:
        with Bundle(place).edit() as edit:
            edit.write("model.int8.onnx", b"another graph")
    bundle = deploy(contender(runs), open_dataset(parts_dataset), made_from["data"], ("int8",))
    bundle.verify()
    assert exported == [runs / "simplenet"]
    assert memory.read_text() == (done.runs / "simplenet.bundle.json").read_text()


def test_a_finished_run_is_taken_as_it_is_unless_other_options_are_asked_for(done, parts_dataset):
    dataset = open_dataset(parts_dataset)
    before = hashes(done.runs / "simplenet")
    assert finished_run(contender(done.runs), dataset) == done.runs / "simplenet"
    finished_run(contender(done.runs, steps=4, layers=(2, 3)), dataset)
    with pytest.raises(TrainingError, match="has other options") as refused:
        finished_run(contender(done.runs, steps=5, hidden=32), dataset)
    assert (refused.value.expected, refused.value.got) == ({"steps": 5}, {"steps": 4})
    assert hashes(done.runs / "simplenet") == before


def test_a_run_of_other_images_or_another_method_is_refused(done, tmp_path):
    other = write_dataset(
        tmp_path / "other", train=10, validation=0, test_good=1, test_per_defect=1, size=CAMERA, seed=9
    )
    with pytest.raises(TrainingError, match="was trained on other images") as refused:
        finished_run(contender(done.runs), open_dataset(other))
    assert refused.value.got == "12 of 12 images are not among them"
    with pytest.raises(TrainingError, match="is of another method"):
        finished_run(Contender(method="cutpaste", run=done.runs / "simplenet"), open_dataset(other))


def test_a_crash_in_one_method_is_reported_too(parts_dataset, tmp_path, monkeypatch, capsys):
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("edge_ad.compare.run.deploy", crash)
    found = compare(parts_dataset, [contender(tmp_path)])
    assert found.rows == () and found.examples == ()
    assert [failure.error for failure in found.failures] == ["RuntimeError: out of memory"]
    assert "Traceback" in capsys.readouterr().err


def test_a_data_set_without_defects_is_refused_before_anything_is_trained(parts_dataset, tmp_path):
    plain = shutil.copytree(parts_dataset / "train" / "good", tmp_path / "plain")
    with pytest.raises(DatasetLayoutError, match="0 good, 0 defective"):
        compare(Path(plain), [contender(tmp_path / "runs")])
    assert not (tmp_path / "runs").exists()


class Stopwatch:
    """In place of an inspector: writes down who was asked about which image."""

    asked: list[tuple[str, int]]

    def __init__(self, bundle: Any, *, precision: str) -> None:
        self.name = precision

    def answer(self, images: np.ndarray) -> None:
        Stopwatch.asked.append((self.name, int(images.sum())))

    def close(self) -> None:
        Stopwatch.asked.append((self.name, -1))


def test_every_contender_answers_an_image_before_the_next_image(parts_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_ad.compare.judge.Inspector", Stopwatch)
    Stopwatch.asked = []
    names = ["a", "b", "c"]
    judged: Any = [
        Judged(contender=contender(tmp_path), bundle=None, precision=name, backend="", evaluation=None)  # type: ignore[arg-type]
        for name in names
    ]
    dataset = open_dataset(parts_dataset)
    times = latencies_ms(judged, dataset)
    assert [len(ms) for ms in times] == [7, 7, 7] and all((ms > 0).all() for ms in times)
    turns = [Stopwatch.asked[start : start + 3] for start in range(0, 21, 3)]
    for turn, item in zip(turns, dataset.test, strict=True):
        assert sorted(turn) == [(name, int(read_image(item.path).sum())) for name in names]
    assert len({tuple(name for name, _ in turn) for turn in turns}) > 1  # the order is not always the same
    assert sorted(Stopwatch.asked[21:]) == [(name, -1) for name in names]
