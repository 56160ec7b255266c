"""A fleet's engines: the file is read strictly, the matrix is built by processes, and no failure stops the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from build_engines import fleet as fleet_module
from build_engines import main
from build_engines.fleet import FleetEngine, build_fleet
from build_engines.fleet_file import EXAMPLE, read_fleet
from edge_ad.bundle import Bundle
from edge_ad.errors import TargetsInvalid
from edge_ad.manifest import EngineEntry, EngineSettings
from tests.tiny_bundle import needs_rtx, replace_graph, tiny_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two bundles, in a folder with targets.toml's place."""
    for name in ("bottle", "nut"):
        tiny_bundle(tmp_path / "bundles" / f"{name}.bundle", "fp32", "int8")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    file = folder / "targets.toml"
    file.write_text(text)
    return file


# --- the file ----------------------------------------------------------------------------------------------------


def test_the_example_of_the_help_is_read(folder: Path) -> None:
    three, four, seven = read_fleet(written(folder, EXAMPLE))
    assert [target.name for target in (three, four, seven)] == ["line-3", "line-4", "cell-7"]
    assert [path.name for path in three.bundles] == ["bottle.bundle", "nut.bundle"]
    assert (three.options.targets, three.options.precisions) == (("sm89",), ("fp16", "int8"))
    assert [path.name for path in four.bundles] == ["bottle.bundle"]
    assert (four.options.precisions, four.options.max_batch) == (("int8",), 16)
    assert four.options.settings == EngineSettings(min_batch=1, opt_batch=4)
    assert seven.options.flavour == "trt"
    assert seven.options.settings == EngineSettings(optimization_level=5, workspace_mib=2048)


def test_every_setting_of_the_command_line_may_stand_in_the_file(folder: Path) -> None:
    text = """
        bundles = ["bundles/nut.bundle"]
        [targets.a]
        batch = "8"
        optimization-level = 0
        workspace = 1
        timing-cache = "of-this-gpu.cache"
        sparsity = true
        version-compatible = true
        hardware-compatible = true
        dla = 1
    """
    (target,) = read_fleet(written(folder, text))
    assert target.options.settings == EngineSettings(
        min_batch=8,
        optimization_level=0,
        workspace_mib=1,
        sparsity=True,
        version_compatible=True,
        hardware_compatible=True,
        dla_core=1,
    )
    assert (target.options.max_batch, target.options.timing_cache) == (8, folder / "of-this-gpu.cache")


WRONG = {
    "not TOML": ("bundles = [", "is not TOML"),
    "no targets": ('bundles = ["bundles/*"]', "targets is wrong"),
    "targets a list": ('targets = ["sm89"]', "targets is wrong"),
    "unknown at the top": ('bundle = ["bundles/*"]\n[targets.a]', "bundle is wrong"),
    "unknown in a target": ("[targets.a]\nlevel = 5", "targets.a.level is wrong"),
    "no bundles": ('[targets.a]\ntarget = "sm89"', "targets.a.bundles is wrong"),
    "a pattern of nothing": ('bundles = ["*.bundle"]\n[targets.a]', "targets.a.bundles is wrong"),
    "bundles a string": ('bundles = "bundles/*"\n[targets.a]', "bundles is wrong"),
    "precision unknown": (
        'bundles = ["bundles/*"]\n[targets.a]\nprecisions = ["fp4"]',
        "targets.a.precisions is wrong",
    ),
    "target unknown": ('bundles = ["bundles/*"]\n[targets.a]\ntarget = "ada"', "targets.a.target is wrong"),
    "flavour unknown": ('bundles = ["bundles/*"]\n[targets.a]\nflavour = "lean"', "targets.a.flavour is wrong"),
    "batch a number": ('bundles = ["bundles/*"]\n[targets.a]\nbatch = 4', "targets.a.batch is wrong"),
    "batch out of order": ('bundles = ["bundles/*"]\n[targets.a]\nbatch = "4:2:8"', "targets.a.batch is wrong"),
    "level six": (
        'bundles = ["bundles/*"]\n[targets.a]\noptimization-level = 6',
        "targets.a.optimization-level is wrong",
    ),
    "level true": ('bundles = ["bundles/*"]\n[targets.a]\noptimization-level = true', "optimization-level is wrong"),
    "sparsity a number": ('bundles = ["bundles/*"]\n[targets.a]\nsparsity = 1', "targets.a.sparsity is wrong"),
    "a name with a slash": ('bundles = ["bundles/*"]\n[targets."../a"]', "targets.../a is wrong"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_by_the_name_of_the_key(folder: Path, case: str) -> None:
    text, complaint = WRONG[case]
    with pytest.raises(TargetsInvalid) as caught:
        read_fleet(written(folder, text))
    assert complaint in caught.value.what
    assert str(folder / "targets.toml") in caught.value.what


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--fleet", str(tmp_path / "none.toml")]) == 1
    assert "none.toml cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["a.bundle", "--fleet", "f"],
        ["--fleet", "f", "--target", "sm89"],
        ["--fleet", "f", "--batch", "2"],
        ["--fleet", "f", "--sparsity"],
        ["--fleet", "f", "--trtexec"],
        ["a.bundle", "--jobs", "2"],
        ["--fleet", "f", "--jobs", "0"],
    ],
    ids=" ".join,
)
def test_what_belongs_into_the_file_is_not_given_beside_it(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


# --- the matrix --------------------------------------------------------------------------------------------------

MATRIX = """
    bundles = ["bundles/*"]
    [targets.line-3]
    target = "sm89"
    [targets.line-4]
    target = "sm120"
    precisions = ["int8"]
    [targets.spare]
    target = "sm89"
    bundles = ["bundles/bottle.bundle"]
    [targets.fast]
    target = "sm89"
    precisions = ["fp32"]
    batch = "4"
    [targets.cell]
    flavour = "trt"
    target = "sm87"
"""


@needs_rtx
def test_the_whole_matrix_is_built_once_and_a_failure_stops_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_graph(Bundle(folder / "bundles/nut.bundle"), "int8", b"hello")
    words = ["--fleet", str(written(folder, MATRIX)), "--jobs", "2", "--json"]

    assert main(words) == 1
    rows = [_short(row) for row in json.loads(capsys.readouterr().out)]
    assert main([*words, "--trtexec", str(folder / "scripts")]) == 1
    again = [_short(row) for row in json.loads(capsys.readouterr().out)]

    expected = [
        ("line-3", "bottle", "fp32", "built"),
        ("line-3", "bottle", "int8", "built"),
        ("line-3", "nut", "fp32", "built"),
        ("line-3", "nut", "int8", "failed"),
        ("line-4", "bottle", "int8", "built"),
        ("line-4", "nut", "int8", "failed"),
        ("spare", "bottle", "fp32", "cached"),  # what line-3 built
        ("spare", "bottle", "int8", "cached"),
        ("fast", "bottle", "fp32", "failed"),  # line-3 asks for it with other settings
        ("fast", "nut", "fp32", "failed"),
        ("cell", "bottle", "", "failed"),  # no TensorRT here
        ("cell", "nut", "", "failed"),
    ]
    assert rows == expected
    assert again[:10] == [(*row[:3], "cached" if row[3] == "built" else row[3]) for row in expected[:10]]
    assert again[10:] == [("cell", "bottle", "", "trtexec"), ("cell", "nut", "", "trtexec")]
    assert (folder / "scripts/cell/bottle.bundle/tensorrt-10.sh").exists()
    engines = {engine.file: engine for engine in Bundle(folder / "bundles/bottle.bundle").manifest.engines}
    assert len(engines) == 3
    assert all(engine.max_batch == 1 for engine in engines.values())
    Bundle(folder / "bundles/bottle.bundle").verify()


def _short(row: dict[str, Any]) -> tuple[str, str, str, str]:
    assert (row["bytes"] > 10_000) == (row["state"] in ("built", "cached"))
    assert (row["seconds"] > 0) == (row["state"] == "built")
    assert row["reason"] or row["state"] in ("cached", "trtexec")
    return row["target"], Path(row["bundle"]).stem, row["precision"], row["state"]


@needs_rtx
def test_the_table_counts_and_tells_the_reasons(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace_graph(Bundle(folder / "bundles/nut.bundle"), "int8", b"hello")
    text = 'bundles = ["bundles/*"]\nprecisions = ["int8"]\n[targets.line-3]\ntarget = "sm89"'
    assert main(["--fleet", str(written(folder, text)), "--jobs", "1"]) == 1
    head, built, failed, *notes, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["target", "bundle", "precision", "for", "bytes", "seconds"]
    assert built.split()[-1] == "built"
    assert "FAILED" in failed
    assert "model.int8.onnx does not have a bundle's inputs and outputs. got: no inputs" in failed
    assert all(note.startswith("note: ") for note in notes)
    assert total.startswith("1 built, 1 failed; ")


def crash(path: Path, entry: EngineEntry, timing_cache: Path | None) -> Any:
    """In place of the compiler: of int8 it dies."""
    if entry.precision == "int8":
        os._exit(1)
    return fleet_module._Answer(reason=f"compiled in process {os.getpid()}")


@needs_rtx
def test_a_compiler_that_crashes_takes_its_own_engine_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "_compile", crash)
    text = 'bundles = ["bundles/*"]\n[targets.line-3]\ntarget = "sm89"'
    rows = build_fleet(read_fleet(written(folder, text)), jobs=1)
    assert [(row.precision, "crashed" in row.reason) for row in rows] == [
        ("fp32", False),
        ("int8", True),
        ("fp32", False),
        ("int8", True),
    ]


def test_engines_that_are_measured_on_the_gpu_are_built_one_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two builds at once would spoil each other's measurements."""
    started: list[tuple[str, int, int]] = []

    def count(jobs: Sequence[fleet_module._Job], processes: int) -> Any:
        started.extend([(jobs[0].entry.flavour, len(jobs), processes)] if jobs else [])
        return iter((job, fleet_module._Answer(reason="not built")) for job in jobs)

    def entries(bundle: Bundle, options: Any, flavour: str) -> list[EngineEntry]:
        return [
            EngineEntry(
                file=f"engines/{precision}-{flavour}.engine",
                flavour=flavour,
                version="1",
                target="sm87",
                precision=precision,
                graph_sha256="0" * 64,
                max_batch=1,
            )
            for precision in bundle.manifest.precisions
        ]

    monkeypatch.setattr(fleet_module, "_in_processes", count)
    monkeypatch.setattr(fleet_module, "load_flavour", lambda name: name)
    monkeypatch.setattr(fleet_module, "engine_entries", entries)
    text = 'bundles = ["bundles/*"]\n[targets.a]\nflavour = "rtx"\n[targets.b]\nflavour = "trt"'
    rows = build_fleet(read_fleet(written(folder, text)), jobs=3)
    assert started == [("rtx", 4, 3), ("trt", 4, 1)]
    assert {row.state for row in rows} == {"failed"}
    assert all(isinstance(row, FleetEngine) for row in rows)
