"""`python -m build_engines` as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from build_engines import main, trtexec_lines
from build_engines.settings import batch_from_text
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleMismatch
from edge_ad.manifest import EngineSettings
from tests.tiny_bundle import HEIGHT, WIDTH, needs_rtx, replace_graph, tiny_bundle, tiny_graph


@needs_rtx
def test_builds_prints_a_table_and_keeps_what_is_current(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_bundle(tmp_path / "tiny", "fp32", "int8").path
    arguments = [str(path), "--flavour", "rtx", "--target", "sm89"]

    assert main([*arguments, "--precision", "int8"]) == 0
    assert main([*arguments, "--target", "sm120"]) == 0

    lines = capsys.readouterr().out.splitlines()
    second = max(index for index, line in enumerate(lines) if line.startswith("precision "))
    cells = [line.split() for line in lines[second + 1 :] if not line.startswith("note:")]
    assert [(row[0], row[1], row[4]) for row in cells] == [
        ("fp32", "sm89", "built"),
        ("fp32", "sm120", "built"),
        ("int8", "sm89", "cached"),
        ("int8", "sm120", "built"),
    ]
    sizes = {engine.file: (path / engine.file).stat().st_size for engine in Bundle(path).manifest.engines}
    assert {row[-1]: int(row[2].replace(",", "")) for row in cells} == sizes


@needs_rtx
def test_json_is_only_json_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_bundle(tmp_path / "tiny", "fp16").path

    assert main([str(path), "--flavour", "rtx", "--target", "sm86", "--batch", "1:2:4", "--json"]) == 0

    out, err = capsys.readouterr()
    (engine,) = json.loads(out)
    assert (engine["entry"]["target"], engine["entry"]["max_batch"], engine["cached"]) == ("sm86", 4, False)
    assert (engine["entry"]["settings"]["min_batch"], engine["entry"]["settings"]["opt_batch"]) == (1, 2)
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
        pytest.param(["b", "--precision", "fp4"], id="precision"),
        pytest.param(["b", "--flavour", "lean"], id="flavour"),
        pytest.param(["b", "--batch", "0"], id="no-batch"),
        pytest.param(["b", "--batch", "4097"], id="huge-batch"),
        pytest.param(["b", "--batch", "1:4"], id="two-batches"),
        pytest.param(["b", "--batch", "4:2:8"], id="batches-out-of-order"),
        pytest.param(["b", "--batch", "-1"], id="negative-batch"),
        pytest.param(["b", "--optimization-level", "6"], id="level"),
        pytest.param(["b", "--workspace", "0"], id="no-workspace"),
        pytest.param(["b", "--dla", "2"], id="dla"),
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


@pytest.mark.parametrize(
    ("text", "batch"), [("1", (1, 1, 1)), ("8", (8, 8, 8)), ("1:4:16", (1, 4, 16)), ("2:2:4096", (2, 2, 4096))]
)
def test_a_batch_is_one_number_or_a_range(text: str, batch: tuple[int, int, int]) -> None:
    found = batch_from_text(text)
    assert (found.least, found.best, found.most) == batch


# --- trtexec -----------------------------------------------------------------------------------------------------


def commands(bundle: Bundle, *precisions: str, **settings: object) -> dict[str, str]:
    """By TensorRT, of the one precision."""
    lines = trtexec_lines(bundle, precisions, 4, EngineSettings(**settings))  # type: ignore[arg-type]
    return {line.tensorrt: line.command or line.missing for line in lines}


def test_trtexec_prints_a_command_per_precision_and_tensorrt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_bundle(tmp_path / "my tiny", "fp32", "int8").path

    assert main([str(path), "--trtexec", "--batch", "1:2:4"]) == 0

    lines = capsys.readouterr().out.splitlines()
    shapes = " ".join(
        f"--{name}Shapes=image:{count}x{HEIGHT}x{WIDTH}x3" for name, count in {"min": 1, "opt": 2, "max": 4}.items()
    )
    same = f"{shapes} --noTF32 --profilingVerbosity=detailed"
    int8 = f"trtexec --onnx=model.int8.trt8.onnx --saveEngine=int8.engine {same} --int8"
    assert lines[6:] == [
        "# int8, TensorRT 8.5 (JetPack 5)",
        f"{int8} --buildOnly",
        "# int8, TensorRT 8.6 (JetPack 6.0)",
        f"{int8} --skipInference",
        "# int8, TensorRT 10 (JetPack 6.1 and later, 11 too)",
        f"trtexec --onnx=model.int8.onnx --saveEngine=int8.engine {same} --stronglyTyped --skipInference",
    ]
    assert not (path / "engines").exists()


def test_trtexec_of_a_weakly_typed_tensorrt_is_told_each_layers_type(tmp_path: Path) -> None:
    found = commands(tiny_bundle(tmp_path / "tiny"), "fp16")
    half = ",".join(f"{name}:fp16" for name in ("to_float", "to_nchw", "conv_features", "relu", "conv_distance"))
    types = f"{half},to_float32:fp32,squeeze:fp32,max:fp32"
    for version in ("8.5", "8.6"):
        flags = f" --fp16 --precisionConstraints=obey --layerPrecisions={types} --layerOutputTypes={types} "
        assert flags in found[version]
    assert "--layerPrecisions" not in found["10"]
    assert "fp16" not in commands(tiny_bundle(tmp_path / "again"), "fp32")["8.5"]


def test_trtexec_follows_the_settings(tmp_path: Path) -> None:
    settings = {
        "min_batch": 2,
        "optimization_level": 4,
        "workspace_mib": 512,
        "sparsity": True,
        "hardware_compatible": True,
        "dla_core": 1,
    }
    found = commands(tiny_bundle(tmp_path / "tiny"), "int8", **settings)
    assert found["8.5"] == "TensorRT 8.5 has no --optimization-level and no --hardware-compatible"
    for version in ("8.6", "10"):
        assert "--minShapes=image:2x" in found[version]
        assert (
            " --builderOptimizationLevel=4 --memPoolSize=workspace:512 --sparsity=enable"
            " --hardwareCompatibilityLevel=ampere+ --useDLACore=1 --allowGPUFallback "
        ) in found[version]


def test_trtexec_writes_a_folder_for_the_station(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its scripts run; a stand-in for trtexec, which no machine of ours has, reads the graph it is given."""
    bundle = tiny_bundle(tmp_path / "tiny", "fp16", "int8")
    folder, tools = tmp_path / "to the station", tmp_path / "bin"
    assert main([str(bundle.path), "--trtexec", str(folder), "--json"]) == 0
    assert [line["graph"] for line in json.loads(capsys.readouterr().out)][-1] == "model.int8.onnx"
    tools.mkdir()
    (tools / "trtexec").write_text('#!/bin/sh\ncat "${1#--onnx=}" > "${2#--saveEngine=}"\n')
    (tools / "trtexec").chmod(0o755)

    for script, graph in {"tensorrt-10.sh": "model.int8.onnx", "tensorrt-8.5.sh": "model.int8.trt8.onnx"}.items():
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        subprocess.run(["sh", str(folder / script)], env=environment, cwd="/", check=True)
        assert (folder / "int8.engine").read_bytes() == (folder / graph).read_bytes()
    assert (folder / "model.fp16.onnx").read_bytes() == bundle.read("model.fp16.onnx")


def test_trtexec_says_what_tensorrt_8_cannot_take(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    replace_graph(bundle, "fp32", tiny_graph(extra=onnx.helper.make_node("Mish", ["pixels"], ["smooth"], "mish")))
    found = commands(bundle, "fp32")
    assert "cannot be made a graph for TensorRT 8" in found["8.5"]
    assert found["10"].startswith("trtexec --onnx=model.onnx")


def test_trtexec_of_a_missing_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleMismatch, match="has no int8 graph"):
        trtexec_lines(tiny_bundle(tmp_path / "tiny", "fp32"), ("int8",))
