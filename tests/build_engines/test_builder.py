"""The real TensorRT-RTX parser and compiler on small graphs; no GPU is needed."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from build_engines import BuildOptions, build
from build_engines import builder as builder_module
from build_engines import config as config_module
from build_engines import engine as engine_module
from build_engines import targets as targets_module
from build_engines.config import config_from_entry
from build_engines.engine import network_from_onnx
from edge_ad.backends.flavours import Flavour, load_flavour
from edge_ad.bundle import Bundle, sha256
from edge_ad.errors import BundleError, BundleMismatch, EngineBuildFailed, NoGpu
from edge_ad.manifest import EngineEntry, EngineSettings
from tests.tiny_bundle import FILES, HEIGHT, WIDTH, needs_rtx, replace_graph, tiny_bundle, tiny_graph

pytestmark = needs_rtx

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121", "portable")
SM89 = BuildOptions(targets=("sm89",), flavour="rtx")


@pytest.fixture(scope="module")
def rtx() -> Flavour:
    return load_flavour("rtx")


@pytest.mark.parametrize("precision", FILES)
@pytest.mark.parametrize("target", TARGETS)
def test_every_precision_compiles_for_every_target(tmp_path: Path, precision: str, target: str, rtx: Flavour) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", precision)

    (built,) = build(bundle, BuildOptions(targets=(target,), flavour="rtx"))

    reread = Bundle(bundle.path)
    expected = EngineEntry(
        file=f"engines/{precision}-rtx-{rtx.version}-{target}.engine",
        flavour="rtx",
        version=rtx.version,
        target=target,
        precision=precision,
        graph_sha256=sha256(tiny_graph(precision)),
        max_batch=1,
    )
    assert reread.manifest.engines == (expected,) == (built.entry,)
    assert len(reread.read(expected.file)) == built.size_bytes > 10_000
    assert not built.cached


def test_all_precisions_and_each_target_once(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")

    built = build(bundle, BuildOptions(targets=("sm120", "sm86", "sm120"), flavour="rtx"))

    assert [(engine.entry.precision, engine.entry.target) for engine in built] == [
        (precision, target) for precision in ("fp32", "fp16", "int8") for target in ("sm120", "sm86")
    ]
    assert list(Bundle(bundle.path).manifest.engines) == [engine.entry for engine in built]
    bundle.verify()


@pytest.mark.parametrize(("precision", "count"), [("fp32", 0), ("int8", 6)])
def test_quantize_nodes_of_the_graph_reach_tensorrt(precision: str, count: int, rtx: Flavour) -> None:
    """Two convolutions, each with Q and DQ on its input and DQ on its weights."""
    definition = network_from_onnx(tiny_graph(precision), source="model.onnx", flavour=rtx).definition
    kinds = [definition.get_layer(index).type for index in range(definition.num_layers)]
    assert sum(kind in (rtx.trt.LayerType.QUANTIZE, rtx.trt.LayerType.DEQUANTIZE) for kind in kinds) == count


def test_second_run_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    first = build(bundle, SM89)
    before = _contents(bundle.path)
    monkeypatch.setattr(builder_module, "engine_from_onnx", _never)

    second = build(Bundle(bundle.path), SM89)

    assert second == [dataclasses.replace(engine, seconds=0.0, cached=True, notes=()) for engine in first]
    assert _contents(bundle.path) == before


def _never(*args: object, **kwargs: object) -> bytes:
    raise AssertionError("nothing should be compiled")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"force": True}, id="force"),
        pytest.param({"max_batch": 4}, id="larger-batch"),
        pytest.param({"targets": ("sm86",)}, id="other-target"),
        pytest.param({"settings": EngineSettings(workspace_mib=256)}, id="other-settings"),
    ],
)
def test_changed_options_build_again(tmp_path: Path, change: dict[str, Any]) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    build(bundle, SM89)

    (again,) = build(bundle, dataclasses.replace(SM89, **change))

    assert not again.cached
    assert again.entry.max_batch == change.get("max_batch", 1)
    files = [engine.file for engine in bundle.manifest.engines]
    assert len(files) == len(set(files)) == (2 if "targets" in change else 1)


def test_changed_graph_drops_the_engine_and_builds_again(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32", "int8")
    stale, kept = build(bundle, SM89)

    replace_graph(bundle, "fp32", tiny_graph("fp32", seed=7))

    assert bundle.manifest.engines == (kept.entry,)
    assert not (bundle.path / stale.entry.file).exists()
    fresh, cached = build(bundle, SM89)
    assert (fresh.cached, cached.cached) == (False, True)
    assert fresh.entry.graph_sha256 == sha256(tiny_graph("fp32", seed=7)) != stale.entry.graph_sha256


def test_another_version_builds_beside_the_old(tmp_path: Path, rtx: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    (old,) = build(bundle, SM89)
    newer = dataclasses.replace(rtx, version="1.8.0.1")
    monkeypatch.setattr(builder_module, "load_flavour", lambda name: newer)

    (new,) = build(bundle, SM89)

    assert not new.cached
    assert [engine.version for engine in bundle.manifest.engines] == [old.entry.version, "1.8.0.1"]


def test_damaged_engine_is_built_again(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    (built,) = build(bundle, SM89)
    file = bundle.path / built.entry.file
    file.write_bytes(file.read_bytes()[:100])

    (again,) = build(bundle, SM89)

    assert not again.cached
    Bundle(bundle.path).verify()


def test_parser_error_names_the_unknown_node(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    unknown = helper.make_node("FancyPool", ["pixels"], ["pooled"], "my_pool")
    replace_graph(bundle, "fp32", tiny_graph(extra=unknown))

    with pytest.raises(EngineBuildFailed) as caught:
        build(bundle, SM89)

    assert "model.onnx" in caught.value.what
    assert "node 1, FancyPool 'my_pool'" in caught.value.what
    assert "Plugin not found" in str(caught.value.got)
    assert bundle.manifest.engines == ()


def test_parser_error_of_a_uint8_transpose_says_why(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    too_early = helper.make_node("Transpose", ["image"], ["flipped"], "early", perm=[0, 3, 1, 2])
    replace_graph(bundle, "fp32", tiny_graph(extra=too_early))

    with pytest.raises(EngineBuildFailed, match=r"Transpose 'early'") as caught:
        build(bundle, SM89)

    assert "has type UInt8 but must have type" in str(caught.value.got)
    assert "catchCudaError" not in str(caught.value)
    assert "uint8 may enter a Cast only" in str(caught.value.fix)


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(b"", id="empty"),
        pytest.param(tiny_graph()[:-50], id="truncated"),
        pytest.param(b"hello", id="not-onnx"),
        pytest.param(tiny_graph(map_name="heat"), id="another-output"),
    ],
)
def test_what_is_no_bundle_graph_is_refused(graph: bytes, rtx: Flavour) -> None:
    with pytest.raises(EngineBuildFailed, match=r"model\.onnx.*(cannot parse the file|inputs and outputs)"):
        network_from_onnx(graph, source="model.onnx", flavour=rtx)


def test_builder_error_carries_tensorrts_log(rtx: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch profile that asks for less than its least makes the builder, not the parser, fail."""
    monkeypatch.setattr(
        config_module, "_batch_profile", lambda network, entry: network.builder.create_optimization_profile()
    )

    with pytest.raises(EngineBuildFailed, match=r"model\.onnx.*cannot build it for sm89") as caught:
        engine_module.engine_from_onnx(tiny_graph(), _entry(), source="model.onnx", flavour=rtx)

    assert "profile" in str(caught.value.got)


def _entry(**changes: Any) -> EngineEntry:
    entry = EngineEntry(
        file="engines/x.engine",
        flavour="rtx",
        version="1.7.1",
        target="sm89",
        precision="fp32",
        graph_sha256="0" * 64,
        max_batch=1,
    )
    return dataclasses.replace(entry, **changes)


def test_config_is_the_graphs_precision_and_one_target(rtx: Flavour) -> None:
    network = network_from_onnx(tiny_graph(), source="model.onnx", flavour=rtx)

    config = config_from_entry(network, _entry(target="sm120", max_batch=8))

    assert not config.get_flag(rtx.trt.BuilderFlag.TF32)
    assert config.num_compute_capabilities == 1
    assert config.get_compute_capability(0) == rtx.trt.ComputeCapability.SM120
    assert network.definition.get_flag(rtx.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def test_batch_profile_runs_from_one_to_the_largest(rtx: Flavour) -> None:
    network = network_from_onnx(tiny_graph(), source="model.onnx", flavour=rtx)

    shapes = config_module._batch_profile(network, _entry(max_batch=8)).get_shape("image")

    assert [tuple(shape) for shape in shapes] == [(count, HEIGHT, WIDTH, 3) for count in (1, 8, 8)]


def test_unknown_target_lists_the_known(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")

    with pytest.raises(EngineBuildFailed, match="cannot compile for sm90") as caught:
        build(bundle, BuildOptions(targets=("sm89", "sm90"), flavour="rtx"))

    assert caught.value.expected == " or ".join(TARGETS)
    assert bundle.manifest.engines == ()


def test_precision_that_the_bundle_lacks_is_refused_before_any_build(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")

    with pytest.raises(BundleMismatch, match="has no int8 graph"):
        build(bundle, dataclasses.replace(SM89, precisions=("fp32", "int8")))

    assert bundle.manifest.engines == ()


def test_this_gpu_is_named_by_its_capability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets_module, "compute_capability", lambda: (12, 0))
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")

    (built,) = build(bundle, BuildOptions(targets=("this-gpu",), flavour="rtx"))

    assert built.entry.target == "sm120"


def test_portable_is_the_default_with_rtx(tmp_path: Path) -> None:
    (built,) = build(tiny_bundle(tmp_path / "tiny", "fp32"), BuildOptions(flavour="rtx"))
    assert built.entry.target == "portable"


@pytest.fixture
def plain(rtx: Flavour, monkeypatch: pytest.MonkeyPatch) -> Flavour:
    """What full TensorRT looks like to us: the same API without ComputeCapability, on a machine with an sm87 GPU."""
    api = {name: value for name, value in vars(rtx.trt).items() if name != "ComputeCapability"}
    flavour = Flavour(name="trt", version="10.16.0.1", trt=type("Api", (), api)())
    monkeypatch.setattr(builder_module, "load_flavour", lambda name: flavour)
    monkeypatch.setattr(targets_module, "compute_capability", lambda: (8, 7))
    return flavour


def test_plain_tensorrt_builds_for_this_gpu_by_the_same_code(tmp_path: Path, plain: Flavour) -> None:
    (built,) = build(tiny_bundle(tmp_path / "tiny", "fp16"))
    assert built.entry.file == "engines/fp16-trt-10.16.0.1-sm87.engine"
    assert built.size_bytes > 10_000


@pytest.mark.parametrize("target", ["sm89", "portable"])
def test_plain_tensorrt_builds_for_no_other_gpu(tmp_path: Path, plain: Flavour, target: str) -> None:
    with pytest.raises(EngineBuildFailed, match=f"TensorRT 10.16.0.1 cannot compile for {target} here") as caught:
        build(tiny_bundle(tmp_path / "tiny", "fp16"), BuildOptions(targets=(target,)))
    assert caught.value.expected == "sm87"
    assert "--flavour rtx" in str(caught.value.fix)


def test_plain_tensorrt_without_gpu_says_so(tmp_path: Path, plain: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> tuple[int, int]:
        raise NoGpu("No NVIDIA GPU can be used.")

    monkeypatch.setattr(targets_module, "compute_capability", none)
    with pytest.raises(NoGpu):
        build(tiny_bundle(tmp_path / "tiny", "fp16"))


def test_full_disk_leaves_the_bundle_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    build(bundle, SM89)
    before = _contents(bundle.path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("edge_ad.bundle.os.fsync", full)
    with pytest.raises(BundleError) as caught:
        build(bundle, dataclasses.replace(SM89, targets=("sm86",)))

    assert caught.value.got == "the disk is full"
    assert _contents(bundle.path) == before
    assert [engine.target for engine in bundle.manifest.engines] == ["sm89"]


def test_a_failure_keeps_the_engines_before_it(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp32", "int8")
    replace_graph(bundle, "int8", b"hello")

    with pytest.raises(EngineBuildFailed, match=r"model\.int8\.onnx"):
        build(bundle, SM89)

    assert [engine.precision for engine in Bundle(bundle.path).manifest.engines] == ["fp32"]


def _contents(path: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of every file."""
    return {
        str(file.relative_to(path)): (sha256(file.read_bytes()), file.stat().st_mtime_ns)
        for file in path.rglob("*")
        if file.is_file()
    }


ENDED_EARLY = """
import signal, sys
from build_engines.builder import BuildOptions, build
from edge_ad.bundle import Bundle
from edge_ad.progress import Progress

def interrupted(self, count=1, **shown):
    signal.raise_signal(signal.SIGINT)

def broken(self, count=1, **shown):
    raise BrokenPipeError("standard error is closed")

handler = signal.getsignal(signal.SIGINT)
Progress.step = {"Ctrl-C": interrupted, "no bar": broken}[sys.argv[2]]
try:
    build(Bundle(sys.argv[1]), BuildOptions(targets=("sm89",)))
except (KeyboardInterrupt, BrokenPipeError) as error:
    print(type(error).__name__, signal.getsignal(signal.SIGINT) is handler)
"""


@pytest.mark.parametrize(("how", "error"), [("Ctrl-C", "KeyboardInterrupt"), ("no bar", "BrokenPipeError")])
def test_what_ends_a_build_early_leaves_no_engine(tmp_path: Path, how: str, error: str) -> None:
    """Raised from inside TensorRT's callback, where an exception would end the process.

    In a process of its own: TensorRT-RTX 1.7.1 crashes when it ends a build in one that has used OpenVINO 2026.
    """
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    before = _contents(bundle.path)
    command = [sys.executable, "-c", ENDED_EARLY, str(bundle.path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, f"{error} True"), done.stderr
    assert _contents(bundle.path) == before
