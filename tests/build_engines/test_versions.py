"""One builder for every TensorRT: each recorded version is asked only for what it has, and told what it must know.

The real TensorRT-RTX is in test_builder.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from build_engines import BuildOptions, build
from build_engines import builder as builder_module
from build_engines import confirm as confirm_module
from build_engines import targets as targets_module
from build_engines.engine import Compiled, engine_from_onnx
from build_engines.tensorrt8 import graph_for_tensorrt8
from edge_ad.backends.flavours import Flavour
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineBuildFailed, NoGpu
from edge_ad.manifest import EngineEntry, EngineSettings
from tests.build_engines.stand_in import VERSIONS, stand_in
from tests.tiny_bundle import FILES, HEIGHT, WIDTH, tiny_bundle, tiny_graph

WEAK, STRONG = ("8.5", "8.6"), ("10.3", "10.13", "11.4")
CONVOLUTIONS = ("conv_features", "conv_distance")
every_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(autouse=True)
def sm87(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (targets_module, confirm_module):
        monkeypatch.setattr(module, "compute_capability", lambda: (8, 7))


def compiled(trt: Any, precision: str = "fp32", cache: bytes | None = None, **settings: Any) -> Compiled:
    flavour = Flavour(name="trt", version=trt.__version__, trt=trt)
    asked = entry(precision, **settings)
    return engine_from_onnx(tiny_graph(precision), asked, source="m", flavour=flavour, timing_cache=cache)


def entry(precision: str = "fp32", max_batch: int = 1, **settings: Any) -> EngineEntry:
    return EngineEntry(
        file="engines/x.engine",
        flavour="trt",
        version="0",
        target="sm87",
        precision=precision,
        graph_sha256="0" * 64,
        max_batch=max_batch,
        settings=EngineSettings(**settings),
    )


def told(trt: Any, what: str) -> list[Any]:
    return [call[1] for call in trt.told if call[0] == what]


@every_version
@pytest.mark.parametrize("precision", FILES)
def test_every_version_builds_every_precision_and_confirms_it(version: str, precision: str) -> None:
    trt = stand_in(version)
    built = compiled(trt, precision)
    assert (built.confirmation.confirmed, built.remarks) == (True, ())
    assert told(trt, "clear") == ["TF32"]
    assert told(trt, "profiling_verbosity") == [trt.ProfilingVerbosity.DETAILED]


@pytest.mark.parametrize("version", STRONG)
@pytest.mark.parametrize("precision", FILES)
def test_where_types_are_strong_no_flag_of_precision_is_set(version: str, precision: str) -> None:
    trt = stand_in(version)
    compiled(trt, precision)
    assert told(trt, "set") == []
    assert trt.given[0].SerializeToString() == onnx.load_model_from_string(tiny_graph(precision)).SerializeToString()


@pytest.mark.parametrize("version", WEAK)
@pytest.mark.parametrize(
    ("precision", "flags"),
    [("fp32", []), ("fp16", ["FP16", "OBEY_PRECISION_CONSTRAINTS"]), ("int8", ["INT8"])],
)
def test_where_types_are_weak_the_builder_may_use_what_the_graph_has_and_no_more(
    version: str, precision: str, flags: list[str]
) -> None:
    trt = stand_in(version)
    compiled(trt, precision)
    assert told(trt, "set") == flags


@pytest.mark.parametrize("version", WEAK)
def test_where_types_are_weak_each_float_layer_is_bound_to_its_own(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = stand_in(version)
    networks = []
    make = trt.INetworkDefinition

    def create(flags: int) -> Any:
        networks.append(make(flags))
        return networks[-1]

    trt.INetworkDefinition = create
    compiled(trt, "fp16")

    (network,) = networks
    bound = {layer.name: layer.precision for layer in network._layers if "precision" in layer.__dict__}
    outputs = {layer.name: layer._pinned for layer in network._layers if layer._pinned}
    half, single = trt.float16, trt.float32
    assert bound == {
        "to_float": half,
        "to_nchw": half,
        "conv_features": half,
        "relu": half,
        "conv_distance": half,
        "to_float32": single,
        "squeeze": single,
        "max": single,
    }
    assert outputs == {name: {0: dtype} for name, dtype in bound.items()}
    int8 = stand_in(version)
    compiled(int8, "int8")
    assert told(int8, "set") == ["INT8"], "without FP16 there is nothing to bind"


@pytest.mark.parametrize("version", WEAK)
@pytest.mark.parametrize("precision", FILES)
def test_what_tensorrt_8_is_given_answers_as_the_graph_does(version: str, precision: str) -> None:
    """That it takes it is the stand-in's part: opset 17, axes as attributes, weights through Q and DQ."""
    trt = stand_in(version)
    compiled(trt, precision)
    given = trt.given[0].SerializeToString()
    frames = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    expected, got = (_answers(content, frames) for content in (tiny_graph(precision), given))
    for wanted, came in zip(expected, got, strict=True):
        np.testing.assert_array_equal(came, wanted)


def _answers(content: bytes, frames: Any) -> Any:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"image": frames})


def test_the_weights_that_tensorrt_8_is_given_quantise_to_the_graphs_own() -> None:
    graph = graph_for_tensorrt8(tiny_graph("int8"), "m").content
    (before, after) = (onnx.load_model_from_string(content).graph for content in (tiny_graph("int8"), graph))
    quantised = {
        t.name: onnx.numpy_helper.to_array(t) for t in before.initializer if t.data_type == onnx.TensorProto.INT8
    }
    floats = {t.name: onnx.numpy_helper.to_array(t) for t in after.initializer}
    for name in ("features_w_8", "distance_w_8"):
        scale = floats[name.replace("_8", "_scale")][:, None, None, None]
        np.testing.assert_array_equal(np.rint(floats[f"{name}_float"] / scale), quantised[name])
        assert name not in floats


def test_what_opset_17_has_not_is_refused() -> None:
    newer = onnx.helper.make_node("Mish", ["pixels"], ["smooth"], "mish")
    with pytest.raises(EngineBuildFailed, match="cannot be made a graph for TensorRT 8"):
        graph_for_tensorrt8(tiny_graph(extra=newer), "m")


@every_version
@pytest.mark.parametrize("precision", FILES)
def test_a_layer_in_another_precision_is_an_error_that_names_it(version: str, precision: str) -> None:
    trt = stand_in(version)
    other = "HALF" if precision == "fp32" else "FLOAT"
    trt.runs = {"conv_distance": other}
    with pytest.raises(EngineBuildFailed, match="1 of 2 convolutions") as caught:
        compiled(trt, precision)
    assert caught.value.got == f"conv_distance: {'fp16' if precision == 'fp32' else 'fp32'} instead of {precision}"


@every_version
def test_without_a_gpu_the_precision_is_not_confirmed_and_that_is_said(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> tuple[int, int]:
        raise NoGpu("No NVIDIA GPU can be used.")

    monkeypatch.setattr(confirm_module, "compute_capability", none)
    built = compiled(stand_in(version))
    assert (built.confirmation.confirmed, built.confirmation.reason) == (None, "No NVIDIA GPU can be used.")


# --- settings ----------------------------------------------------------------------------------------------------

SETTINGS: dict[str, tuple[dict[str, Any], Callable[[Any], list[tuple[Any, ...]]], tuple[str, ...]]] = {
    "--optimization-level": (
        {"optimization_level": 5},
        lambda trt: [("builder_optimization_level", 5)],
        VERSIONS[1:],
    ),
    "--workspace": ({"workspace_mib": 64}, lambda trt: [("WORKSPACE", 64 << 20)], VERSIONS),
    "--version-compatible": ({"version_compatible": True}, lambda trt: [("set", "VERSION_COMPATIBLE")], VERSIONS[1:]),
    "--hardware-compatible": (
        {"hardware_compatible": True},
        lambda trt: [("hardware_compatibility_level", trt.HardwareCompatibilityLevel.AMPERE_PLUS)],
        VERSIONS[1:],
    ),
}


@every_version
@pytest.mark.parametrize("option", SETTINGS)
def test_a_setting_reaches_every_version_that_has_it_and_is_refused_by_the_others(
    version: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, expected, having = SETTINGS[option]
    trt = stand_in(version)
    monkeypatch.setattr(
        builder_module, "load_flavour", lambda name: Flavour(name="trt", version=trt.__version__, trt=trt)
    )
    bundle = tiny_bundle(tmp_path / "tiny", "fp32")
    options = BuildOptions(settings=EngineSettings(**settings))
    if version not in having:
        with pytest.raises(EngineBuildFailed, match=f"TensorRT {trt.__version__} has no {option}"):
            build(bundle, options)
        assert trt.told == []
        return
    (built,) = build(bundle, options)
    assert [call for call in trt.told if call in expected(trt)] == expected(trt)
    assert built.entry.settings == EngineSettings(**settings)
    assert built.entry.precision_confirmed
    assert built.entry.target == ("portable" if option == "--hardware-compatible" else "sm87")
    assert build(Bundle(bundle.path), options)[0].cached
    assert not build(Bundle(bundle.path), BuildOptions())[0].cached


@every_version
def test_a_range_of_batches_reaches_the_profile(version: str) -> None:
    trt = stand_in(version)
    compiled(trt, "fp32", max_batch=16, min_batch=2, opt_batch=4)
    assert [call[1:] for call in trt.told if call[0] == "profile"] == [(2, 4, 16)]


@every_version
def test_measurements_are_kept_and_used_again(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = stand_in(version)
    monkeypatch.setattr(
        builder_module, "load_flavour", lambda name: Flavour(name="trt", version=trt.__version__, trt=trt)
    )
    bundle, cache = tiny_bundle(tmp_path / "tiny", "fp32"), tmp_path / "timing.cache"
    for count in (1, 2):
        build(bundle, BuildOptions(timing_cache=cache, force=True))
        assert cache.read_bytes() == b" measured" * count
    cache.write_bytes(b"of another GPU")
    with pytest.raises(EngineBuildFailed, match="timing cache does not fit"):
        build(bundle, BuildOptions(timing_cache=cache, force=True))
    assert cache.read_bytes() == b"of another GPU"


@every_version
@pytest.mark.parametrize("precision", FILES)
def test_a_dla_computes_what_it_can(
    version: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = stand_in(version)
    trt.cores = 2
    monkeypatch.setattr(
        builder_module, "load_flavour", lambda name: Flavour(name="trt", version=trt.__version__, trt=trt)
    )
    bundle = tiny_bundle(tmp_path / "tiny", precision)
    options = BuildOptions(settings=EngineSettings(dla_core=1))
    if precision == "fp32" or (precision == "int8" and version in WEAK):
        with pytest.raises(EngineBuildFailed, match=f"DLA does not compute {precision}"):
            build(bundle, options)
        return
    (built,) = build(bundle, options)
    assert built.entry.settings.dla_core == 1
    assert [call for call in trt.told if "DLA" in str(call) or call[-1] == "GPU_FALLBACK"] == [
        ("default_device_type", trt.DeviceType.DLA),
        ("DLA_core", 1),
        ("set", "GPU_FALLBACK"),
    ]
    with pytest.raises(EngineBuildFailed, match="batches of one size"):
        build(bundle, dataclasses.replace(options, max_batch=4))
    trt.cores = 0
    with pytest.raises(EngineBuildFailed, match="sees no DLA core 1 here"):
        build(bundle, dataclasses.replace(options, force=True))


# --- what goes wrong ---------------------------------------------------------------------------------------------


@every_version
def test_an_error_logged_in_mid_build_is_a_failure_even_where_an_engine_comes(version: str) -> None:
    trt = stand_in(version)
    trt.log = ["Error Code 2: Internal Error (Assertion cond failed.)"]
    with pytest.raises(EngineBuildFailed, match="logged errors, so it is not used") as caught:
        compiled(trt)
    assert caught.value.got == trt.log[0]
    trt.log = []
    assert compiled(trt).confirmation.confirmed, "and the next build is not troubled by it"


@every_version
def test_a_candidate_that_did_not_run_is_a_remark(version: str) -> None:
    """TensorRT logs as errors what it then does without (onnxruntime issue 22164, NVIDIA/TensorRT issue 2643)."""
    trt = stand_in(version)
    trt.log = ["Error Code 2: OutOfMemory (no further information)", "Skipping tactic 0x2 due to exception"]
    assert compiled(trt).remarks == tuple(trt.log)


@every_version
def test_out_of_device_memory_says_what_to_do(version: str) -> None:
    trt = stand_in(version)
    trt.makes, trt.log = False, ["Error Code 2: OutOfMemory (Requested size was 4294967296 bytes.)"]
    with pytest.raises(EngineBuildFailed, match="cannot build it for sm87") as caught:
        compiled(trt)
    assert "Requested size" in str(caught.value.got)
    assert "--workspace" in str(caught.value.fix)
    trt.makes, trt.log = True, []
    assert compiled(trt).content


def test_the_stand_in_has_nothing_that_the_recording_has_not() -> None:
    """Else a removed attribute would not be missed."""
    newest, oldest = stand_in("11.4"), stand_in("8.5")
    for removed in ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"):
        assert hasattr(oldest.BuilderFlag, removed)
        assert not hasattr(newest.BuilderFlag, removed)
    assert not hasattr(newest.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")
    assert not hasattr(oldest, "IProgressMonitor")
    config = newest.IBuilderConfig()
    with pytest.raises(AttributeError, match=r"IBuilderConfig of TensorRT 11\.4\S* has no int8_calibrator"):
        config.int8_calibrator = None
    assert not hasattr(newest.ILayer, "precision")
    assert not hasattr(oldest.IBuilderConfig, "builder_optimization_level")
    assert hasattr(newest.IBuilderConfig, "builder_optimization_level")
