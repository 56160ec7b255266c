"""The flow of calibration: what it writes, which images it trusts, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calibration.eight_bits import OF_WEIGHTS
from calibration.flow import CalibrationOptions, calibrate
from edge_ad import Inspector
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleError, FrameError, TooFewImages, UnreadableImage
from edge_ad.frame import read_image
from edge_ad.golden import read_golden
from edge_ad.manifest import EngineEntry
from edge_ad.training.run import image_hash
from tests.calibration.graphs import small_bundle, two_convolutions, write_images
from tests.golden_bundle import bundle_of, snapshot
from tests.test_bundle_interrupted import fill_at_write

FIELDS = {
    "score_offset",
    "score_shift",
    "score_noise",
    "rank_correlation",
    "map_error",
    "map_correlation",
    "latency_ms",
}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "small.bundle")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path / "images", 12)


def folder_of(images: list[Path]) -> CalibrationOptions:
    return CalibrationOptions(images=images[0].parent)


def scores(bundle: Bundle, precision: str, paths: list[Path]) -> list[float]:
    with Inspector(bundle, precision=precision, backend="onnxruntime") as inspector:
        return [inspector.inspect(read_image(path)).score for path in paths]


def test_every_precision_is_there_and_reproduces_its_golden_answers(bundle: Bundle, images: list[Path]) -> None:
    calibrate(bundle, folder_of(images))
    again = Bundle(bundle.path)
    again.verify()
    assert set(again.manifest.precisions) == {"fp32", "fp16", "int8"} == set(read_golden(again).answers)
    for precision in again.manifest.precisions:
        scores(again, precision, images[:1])  # the inspector refuses a bundle that does not reproduce them
    maps = [read_golden(again).answers[precision][0] for precision in ("fp32", "fp16", "int8")]
    assert not np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[0], maps[2]), "each has answers of its own"


def test_thresholds_are_refitted_from_each_precisions_own_scores(bundle: Bundle, images: list[Path]) -> None:
    """12 images do not reach a tail of 1 %: mean + 2.326 standard deviations, or the largest score if that is more."""
    before = bundle.precision("fp32")
    calibrate(bundle, folder_of(images))
    for precision, entry in bundle.manifest.precisions.items():
        normal = np.array(scores(bundle, precision, images), np.float64)
        tail = normal.mean() + 2.3263479 * normal.std(ddof=1)
        assert entry.threshold == pytest.approx(max(normal.max(), tail), rel=1e-5)
        assert entry.score_spread == pytest.approx(normal.std(ddof=1), rel=1e-4)
        assert entry.score_mean == pytest.approx(normal.mean(), rel=1e-5)
        assert entry.normal_images == 12
    assert bundle.precision("fp32").threshold != before.threshold
    assert {name: entry.threshold_version for name, entry in bundle.manifest.precisions.items()} == {
        "fp32": 2,
        "fp16": 1,
        "int8": 1,
    }
    calibrate(bundle, dataclasses.replace(folder_of(images), precisions=("int8",), false_reject_rate=0.2))
    versions = {name: entry.threshold_version for name, entry in bundle.manifest.precisions.items()}
    assert versions == {"fp32": 3, "fp16": 1, "int8": 2}
    assert bundle.precision("int8").false_reject_rate == 0.2


def trained_on(bundle: Bundle, paths: list[Path]) -> None:
    hashes = [image_hash(path) for path in paths]
    with bundle.edit() as edit:
        edit.manifest = dataclasses.replace(edit.manifest, provenance={"training_hashes": hashes})


@pytest.mark.parametrize(("seen", "used"), [(0, 12), (2, 10), (3, 12)])
def test_images_trained_on_are_left_out_where_ten_others_remain(
    bundle: Bundle, images: list[Path], seen: int, used: int
) -> None:
    trained_on(bundle, images[:seen])
    report = calibrate(bundle, dataclasses.replace(folder_of(images), precisions=("fp16",)))
    assert {entry.normal_images for entry in bundle.manifest.precisions.values()} == {used}
    normal = np.array(scores(bundle, "fp32", images[12 - used :]), np.float64)
    assert bundle.precision("fp32").score_spread == pytest.approx(normal.std(ddof=1), rel=1e-4)
    assert ("3 of them trained on" in report["threshold_images"]) == (seen == 3)


def test_the_report_says_what_each_precision_costs(bundle: Bundle, images: list[Path]) -> None:
    report = calibrate(bundle, folder_of(images))
    assert json.loads(bundle.read("report.json")) == json.loads(json.dumps(report))
    for precision in ("fp32", "fp16", "int8"):
        row = report[precision]
        assert set(row) >= FIELDS
        assert row["threshold"] == bundle.precision(precision).threshold
        assert row["bytes"] == len(bundle.read(bundle.precision(precision).graph))
        assert row["map_correlation"] > 0.9 and row["latency_ms"] > 0
    assert report["fp32"]["score_shift"] == report["fp32"]["map_error"] == 0
    assert 0 < report["fp16"]["score_shift"] < report["int8"]["score_shift"]
    assert {"float_layers", "sensitivity", "within_limits"} <= set(report["int8"])


@pytest.mark.parametrize(("budget", "of_weights"), [(1e6, 1), (1e-9, 4)])
def test_biases_of_the_weights_are_tried_with_the_best_and_while_none_keeps_the_budget(
    bundle: Bundle, images: list[Path], budget: float, of_weights: int
) -> None:
    options = dataclasses.replace(folder_of(images), precisions=("int8",), budget=budget)
    row = calibrate(bundle, options)["int8"]
    tried = row["ranges_tried"]
    measured = {name for name in tried if not name.endswith(OF_WEIGHTS)}
    assert len(measured) == 4 and len(tried) - len(measured) == of_weights
    assert {name.removesuffix(OF_WEIGHTS) for name in tried} == measured
    assert row["ranges"] in tried


def unchanged(bundle: Bundle, options: CalibrationOptions, error: type[Exception], match: str) -> None:
    before = snapshot(bundle.path)
    with pytest.raises(error, match=match):
        calibrate(bundle, options)
    assert snapshot(bundle.path) == before


def test_fewer_than_ten_images_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    few = write_images(tmp_path / "few", 9)
    unchanged(bundle, folder_of(few), TooFewImages, "too few normal images")
    calibrate(bundle, folder_of(write_images(tmp_path / "few", 10)))


def test_an_image_of_another_size_is_refused_by_name(bundle: Bundle, images: list[Path], tmp_path: Path) -> None:
    (other,) = write_images(tmp_path / "other", 1, size=(24, 16))
    images[7].write_bytes(other.read_bytes())
    unchanged(bundle, folder_of(images), FrameError, r"07\.png")


def test_an_unreadable_image_is_refused_by_name(bundle: Bundle, images: list[Path]) -> None:
    images[5].write_bytes(images[5].read_bytes()[:40])
    unchanged(bundle, folder_of(images), UnreadableImage, r"05\.png")


@pytest.mark.parametrize("write", [1, 2, 3, 4, 5])
def test_a_full_disk_leaves_the_bundle_byte_for_byte(
    bundle: Bundle, images: list[Path], write: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = fill_at_write(monkeypatch, write)
    unchanged(bundle, folder_of(images), BundleError, "could not be written|cannot be written")
    assert disk.countdown <= 0, "the disk did fill up"


def test_engines_of_graphs_that_changed_are_dropped(tmp_path: Path, images: list[Path]) -> None:
    bundle = bundle_of(tmp_path / "b.bundle", {"fp32": two_convolutions()})
    calibrate(bundle, folder_of(images))
    entries = [_engine(bundle, precision) for precision in ("fp32", "int8")]
    with bundle.edit() as edit:
        for entry in entries:
            edit.write(entry.file, b"engine")
        edit.manifest = dataclasses.replace(edit.manifest, engines=tuple(entries))
    calibrate(bundle, folder_of(write_images(tmp_path / "later", 12, seed=1)))
    assert [entry.precision for entry in bundle.manifest.engines] == ["fp32"]
    assert (bundle.path / entries[0].file).exists() and not (bundle.path / entries[1].file).exists()


def _engine(bundle: Bundle, precision: str) -> EngineEntry:
    return EngineEntry(
        file=f"engines/{precision}.engine",
        flavour="rtx",
        version="1.7",
        target="sm89",
        precision=precision,
        graph_sha256=bundle.manifest.files[bundle.precision(precision).graph],
        max_batch=1,
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, runpy; sys.argv = ['calibration', '--help']\n"
        "try: runpy.run_module('calibration', run_name='__main__')\n"
        "except SystemExit as exit: assert exit.code == 0\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--false-reject-rate" in done.stdout


def test_calibration_needs_no_torch() -> None:
    """The `build` extra does not bring it."""
    code = "import sys; import calibration.flow; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
