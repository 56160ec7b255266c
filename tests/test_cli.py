"""The edge-ad command as its users type it: the whole way, and what it says when something is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad import Bundle, Inspector
from edge_ad.cli import main
from edge_ad.frame import read_image
from tests.trained import CAMERA


@pytest.fixture
def bundle(calibrated: Callable[[str], Bundle], tmp_path: Path) -> Path:
    """A copy of a calibrated SimpleNet bundle that a test may change."""
    return Path(shutil.copytree(calibrated("simplenet").path, tmp_path / "parts.bundle"))


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What is said on standard error by a command that fails as it should."""
    code, _, said = answer(capsys, *words)
    assert code == 1
    assert "Traceback" not in said
    return said


def test_train_export_build_inspect_evaluate_verify(
    parts_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, place = tmp_path / "run", tmp_path / "parts.bundle"
    assert answer(capsys, "train", "simplenet", parts_dataset, "-o", run, "--steps", 2)[0] == 0
    code, out, _ = answer(capsys, "export", run, "-o", place, "--json")
    assert code == 0
    assert json.loads(out)["input"] == {"height": CAMERA[0], "width": CAMERA[1]}
    code, out, _ = answer(capsys, "build", place, "--target", "sm89", "--json")
    assert code == 0
    assert [row["entry"]["target"] for row in json.loads(out)] == ["sm89"]
    code, out, _ = answer(capsys, "inspect", place, parts_dataset / "test" / "good", "--json")
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert [row["frame"] for row in verdicts] == ["000.png", "001.png", "002.png"]
    assert all(row["is_anomalous"] == (row["score"] > row["threshold"]) for row in verdicts)
    code, out, _ = answer(capsys, "evaluate", place, parts_dataset, "--json")
    figures = json.loads(out)
    assert {"image_auroc", "image_f1max", "pixel_auroc", "aupro", "latency_p50_ms"} <= set(figures)
    assert figures["images"] == 7
    code, out, _ = answer(capsys, "verify", place, "--json")
    assert {(row["backend"], row["ok"]) for row in json.loads(out) if row["backend"] == "onnxruntime"} == {
        ("onnxruntime", True)
    }


def test_inspect_gives_what_the_inspector_gives(
    bundle: Path, parts_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = parts_dataset / "test" / "dent" / "000.png"
    _, out, _ = answer(capsys, "inspect", bundle, image, "--precision", "fp32", "--json")
    with Inspector(bundle, precision="fp32") as inspector:
        expected = inspector.inspect(read_image(image))
    assert json.loads(out)["score"] == expected.score


def test_overlays_are_saved_for_every_frame(
    bundle: Path, parts_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "inspect", bundle, parts_dataset / "test" / "good", "--save", tmp_path / "overlays")
    saved = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert saved == ["000_000000.jpg", "001_000001.jpg", "002_000002.jpg"]
    assert read_image(tmp_path / "overlays" / saved[0]).shape[1] >= CAMERA[1]


def test_calibrate_prints_what_each_precision_costs(
    bundle: Path, parts_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = answer(capsys, "calibrate", bundle, "--images", parts_dataset, "--precision", "fp16")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["precision", "fp32", "fp16"]
    assert "10 normal images, none of them trained on" in out


def test_calibrate_judges_labelled_images(
    bundle: Path, parts_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("calibrate", bundle, "--images", parts_dataset, "--test", parts_dataset, "--precision", "fp16", "--json")
    report = json.loads(answer(capsys, *words)[1])
    options = ("--precision", "fp16", "--backend", "onnxruntime", "--json")
    _, out, _ = answer(capsys, "evaluate", bundle, parts_dataset, *options)
    figures = json.loads(out)
    for key in ("image_auroc", "image_f1max", "pixel_auroc", "aupro"):
        assert report["fp16"][key] == figures[key]
        assert report["fp16"]["intervals"][key] == figures["intervals"][key]
    assert report["fp16"]["false_rejects"] == f"{figures['false_rejects']} of 3"
    assert report["fp16"]["missed_defects"] == f"{figures['missed_defects']} of 4"


def test_doctor_names_a_fix_for_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(capsys, "doctor", "--json")
    findings = json.loads(out)
    assert code == 0
    assert all(finding["works"] or finding["fix"] for finding in findings)


def test_an_empty_folder(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(capsys, "train", "simplenet", tmp_path / "empty", "-o", tmp_path / "run")
    assert "empty" in refused(capsys, "inspect", bundle, tmp_path / "empty")
    assert "empty" in refused(capsys, "calibrate", bundle, "--images", tmp_path / "empty")
    assert not (tmp_path / "run").exists()


def test_an_unreadable_image(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "part.png").write_bytes(b"not an image")
    assert "part.png" in refused(capsys, "inspect", bundle, tmp_path / "part.png")


def test_a_frame_of_another_size(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "part.png"), np.zeros((50, 60, 3), np.uint8))
    said = refused(capsys, "inspect", bundle, tmp_path / "part.png")
    assert f"({CAMERA[0]}, {CAMERA[1]}, 3)" in said
    assert "(50, 60, 3)" in said
    assert "--camera 50x60" in said


def test_a_truncated_graph(bundle: Path, parts_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = bundle / "model.int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    said = refused(capsys, "inspect", bundle, parts_dataset / "test" / "good")
    assert "model.int8.onnx" in said
    assert "sha256" in said
    assert "model.int8.onnx" in refused(capsys, "verify", bundle)


def test_no_gpu(bundle: Path, parts_dataset: Path, no_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "build", bundle, "--target", "portable", "--precision", "fp32")
    said = refused(capsys, "inspect", bundle, parts_dataset / "test" / "good", "--backend", "tensorrt")
    assert said.startswith("NoGpu")
    assert "fix:" in said


def test_not_a_run_and_not_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "edge-ad train" in refused(capsys, "export", tmp_path, "-o", tmp_path / "b")
    assert "edge-ad export" in refused(capsys, "verify", tmp_path)


def test_a_run_with_other_options(
    trained_run: Callable[[str], Path], parts_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained_run("simplenet")
    said = refused(capsys, "train", "simplenet", parts_dataset, "-o", run, "--steps", 999)
    assert "steps" in said


def test_one_class_of_several_is_learnt_and_judged(
    bundle: Path, parts_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, classes in (("train", {"flange": "good"}), ("test", {"flange": "good", "other": "dent"})):
        (tmp_path / "classes" / part).mkdir(parents=True)
        for name, folder in classes.items():
            (tmp_path / "classes" / part / name).symlink_to(parts_dataset / part / folder)
    words = ("train", "simplenet", tmp_path / "classes", "-o", tmp_path / "run", "--steps", 1, "--json")
    assert "--normal-class: flange" in refused(capsys, *words)
    assert len(json.loads(answer(capsys, *words, "--normal-class", "flange")[1])["validation"]) == 1
    _, out, _ = answer(capsys, "evaluate", bundle, tmp_path / "classes", "--normal-class", "flange")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["images"].split() == ["images", "4"]
    assert lines["image_auroc"].count("[") == 1
    assert lines["pixel_auroc"].endswith("not defined on this data set")
    assert lines["other:"].startswith("  other: images 1, image_auroc ")


def test_the_demo_deletes_nothing_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert "not from a demo" in refused(capsys, "demo", "-o", tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("words", [["export", "run", "-o", "b", "--camera", "big"], ["train", "magic", "d", "-o", "r"]])
def test_wrong_usage_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
