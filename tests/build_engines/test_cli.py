"""`python -m build_engines` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from build_engines import main, trtexec_lines
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleMismatch
from tests.tiny_bundle import HEIGHT, WIDTH, needs_rtx, replace_graph, tiny_bundle


@needs_rtx
def test_builds_prints_a_table_and_keeps_what_is_current(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_bundle(tmp_path / "tiny", "fp32", "int8").path
    arguments = [str(path), "--flavour", "rtx", "--target", "sm89"]

    assert main([*arguments, "--precision", "int8"]) == 0
    assert main([*arguments, "--target", "sm120"]) == 0

    _, *rows = capsys.readouterr().out.splitlines()[2:]  # the first table is a header and one row
    cells = [row.split() for row in rows]
    assert [(row[0], row[1], row[4]) for row in cells] == [
        ("fp32", "sm89", "built"),
        ("fp32", "sm120", "built"),
        ("int8", "sm89", "cached"),
        ("int8", "sm120", "built"),
    ]
    sizes = {engine.file: (path / engine.file).stat().st_size for engine in Bundle(path).manifest.engines}
    assert {row[5]: int(row[2].replace(",", "")) for row in cells} == sizes


@needs_rtx
def test_json_is_only_json_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_bundle(tmp_path / "tiny", "fp16").path

    assert main([str(path), "--flavour", "rtx", "--target", "sm86", "--max-batch", "4", "--json"]) == 0

    out, err = capsys.readouterr()
    (engine,) = json.loads(out)
    assert (engine["entry"]["target"], engine["entry"]["max_batch"], engine["cached"]) == ("sm86", 4, False)
    assert engine["size_bytes"] == (path / engine["entry"]["file"]).stat().st_size
    assert "fp16 engine for sm86: 100/100" in err


@needs_rtx
def test_failure_is_told_on_standard_error_with_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    replace_graph(bundle, "fp32", b"hello")

    assert main([str(bundle.path), "--flavour", "rtx", "--target", "sm89"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("EngineBuildFailed: ")
    assert "fix:      export the bundle again" in err


def test_folder_that_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "is not a bundle" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no-bundle"),
        pytest.param(["b", "--target", "ada"], id="target"),
        pytest.param(["b", "--precision", "fp8"], id="precision"),
        pytest.param(["b", "--flavour", "lean"], id="flavour"),
        pytest.param(["b", "--max-batch", "0"], id="no-batch"),
        pytest.param(["b", "--max-batch", "4097"], id="huge-batch"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, build_engines\n"
        "try: build_engines.main(['--help'])\n"
        "except SystemExit as exit: code = exit.code\n"
        "print(code, *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    code_and_modules = answer.splitlines()[-1].split()
    heavy = {"tensorrt", "tensorrt_rtx", "torch", "onnx", "onnxruntime", "cuda", "pycuda", "polygraphy"}
    assert code_and_modules[0] == "0"
    assert heavy.isdisjoint(code_and_modules)
    assert "--target" in answer


def test_module_runs() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "build_engines", "nowhere"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("BundleCorrupt: nowhere is not a bundle.")


def test_trtexec_prints_commands_and_builds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_bundle(tmp_path / "my tiny", "fp16", "int8").path

    assert main([str(path), "--trtexec", "--max-batch", "4"]) == 0

    lines = capsys.readouterr().out.splitlines()
    shapes = (
        f"--minShapes=image:1x{HEIGHT}x{WIDTH}x3 --optShapes=image:4x{HEIGHT}x{WIDTH}x3"
        f" --maxShapes=image:4x{HEIGHT}x{WIDTH}x3 --noTF32"
    )
    assert lines == [
        "# fp16, TensorRT 8.5 (JetPack 5)",
        f"trtexec '--onnx={path}/model.fp16.onnx' --saveEngine=fp16.engine {shapes} --fp16 --buildOnly",
        "# fp16, TensorRT 10 (JetPack 6 and later)",
        f"trtexec '--onnx={path}/model.fp16.onnx' --saveEngine=fp16.engine {shapes} --stronglyTyped --skipInference",
        "# int8, TensorRT 8.5 (JetPack 5)",
        f"trtexec '--onnx={path}/model.int8.onnx' --saveEngine=int8.engine {shapes} --int8 --buildOnly",
        "# int8, TensorRT 10 (JetPack 6 and later)",
        f"trtexec '--onnx={path}/model.int8.onnx' --saveEngine=int8.engine {shapes} --stronglyTyped --skipInference",
    ]
    assert not (path / "engines").exists()


def test_trtexec_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_bundle(tmp_path / "tiny", "fp32").path

    assert main([str(path), "--trtexec", "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert [(line["precision"], line["tensorrt"]) for line in answer] == [("fp32", "8.5"), ("fp32", "10")]
    assert not any(flag in line["command"] for line in answer for flag in ("--fp16", "--int8"))


def test_trtexec_of_a_missing_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleMismatch, match="has no int8 graph"):
        trtexec_lines(tiny_bundle(tmp_path / "tiny", "fp32"), ("int8",))
