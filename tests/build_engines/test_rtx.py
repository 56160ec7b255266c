"""The real TensorRT-RTX: which settings it acts on, and what is left after a build that fails."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from build_engines import BuildOptions, build
from build_engines.engine import engine_from_onnx, network_from_onnx
from build_engines.precision import asked_precisions
from build_engines.sparsity import sparsity_of
from edge_ad.backends.flavours import Flavour, load_flavour
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineBuildFailed
from edge_ad.manifest import EngineEntry, EngineSettings
from tests.tiny_bundle import FILES, needs_rtx, replace_graph, tiny_bundle, tiny_graph

pytestmark = needs_rtx

SM89 = BuildOptions(targets=("sm89",), flavour="rtx")


@pytest.fixture(scope="module")
def rtx() -> Flavour:
    return load_flavour("rtx")


def entry(**settings: Any) -> EngineEntry:
    return EngineEntry(
        file="engines/x.engine",
        flavour="rtx",
        version="1.7.1",
        target="sm86",
        precision="fp16",
        graph_sha256="0" * 64,
        max_batch=1,
        settings=EngineSettings(**settings),
    )


def wide_graph(*, channels: int = 64, layers: int = 3, sparse: bool = False) -> bytes:
    """FP16 convolutions wide enough for sparse kernels, all but the first with 2:4 sparse weights where asked."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT16),
        helper.make_node("Transpose", ["pixels"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    constants: dict[str, Any] = {"channel": np.array([1]), "axes": np.array([1, 2])}
    for index in range(layers):
        weights = rng.standard_normal((channels, channels if index else 3, 3, 3)).astype(np.float16) / 100
        if sparse and index:
            weights[:, 1::4] = weights[:, 2::4] = 0
        constants[f"w{index}"] = weights
        nodes.append(
            helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"x{index + 1}"], f"conv{index}", pads=[1] * 4)
        )
    nodes += [
        helper.make_node("Cast", [f"x{layers}"], ["features"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["features", "channel"], ["anomaly_map"], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map", "axes"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 32, 32, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", 32, 32]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()
    return content


def engine(rtx: Flavour, graph: bytes, configure: Any) -> bytes:
    """Built by the bare API, for what our own builder refuses to ask."""
    network = network_from_onnx(graph, source="m", flavour=rtx)
    config = network.builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(rtx.trt.ComputeCapability.SM86, 0)
    profile = network.builder.create_optimization_profile()
    shape = (1, *tuple(network.definition.get_input(0).shape)[1:])
    profile.set_shape("image", shape, shape, shape)
    config.add_optimization_profile(profile)
    configure(config)
    return bytes(network.builder.build_serialized_network(network.definition, config))


# --- what it has by name and does not act on ---------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 5])
def test_every_optimization_level_gives_the_same_engine(rtx: Flavour, level: int) -> None:
    plain = engine(rtx, wide_graph(), lambda config: None)
    assert engine(rtx, wide_graph(), lambda config: setattr(config, "builder_optimization_level", level)) == plain


def test_sparse_weights_give_the_same_engine_with_the_flag_and_without(rtx: Flavour) -> None:
    graph = wide_graph(sparse=True)
    assert sparsity_of(graph).sparse == ("conv1", "conv2")
    plain = engine(rtx, graph, lambda config: None)
    assert engine(rtx, graph, lambda config: config.set_flag(rtx.trt.BuilderFlag.SPARSE_WEIGHTS)) == plain
    assert engine(rtx, wide_graph(), lambda config: None) != plain


@pytest.mark.parametrize(
    ("option", "settings"),
    [
        ("--optimization-level", {"optimization_level": 0}),
        ("--sparsity", {"sparsity": True}),
        ("--version-compatible", {"version_compatible": True}),
        ("--hardware-compatible", {"hardware_compatible": True}),
        ("--dla", {"dla_core": 0}),
    ],
)
def test_what_it_does_not_act_on_is_refused(tmp_path: Path, option: str, settings: dict[str, Any]) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp16")
    with pytest.raises(EngineBuildFailed, match=rf"TensorRT-RTX \S+ has no {option}\."):
        build(bundle, BuildOptions(targets=("sm89",), flavour="rtx", settings=EngineSettings(**settings)))
    assert bundle.manifest.engines == ()


def test_a_timing_cache_is_refused(tmp_path: Path) -> None:
    options = BuildOptions(targets=("sm89",), flavour="rtx", timing_cache=tmp_path / "cache")
    with pytest.raises(EngineBuildFailed, match="has no --timing-cache"):
        build(tiny_bundle(tmp_path / "tiny", "fp16"), options)
    assert not (tmp_path / "cache").exists()


# --- what it acts on ---------------------------------------------------------------------------------------------


def test_a_range_of_batches_is_another_engine_than_a_fixed_one(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp16")
    contents = []
    for least in (1, 4):
        settings = EngineSettings(min_batch=least)
        (built,) = build(bundle, BuildOptions(targets=("sm89",), flavour="rtx", max_batch=4, settings=settings))
        assert not built.cached
        contents.append(Bundle(bundle.path).read(built.entry.file))
    assert contents[0] != contents[1]


@pytest.mark.parametrize("precision", FILES)
def test_the_parsed_network_says_what_is_asked_of_each_convolution(rtx: Flavour, precision: str) -> None:
    network = network_from_onnx(tiny_graph(precision), source="m", flavour=rtx)
    assert asked_precisions(network.definition, rtx.trt, {}) == {
        "conv_features": precision,
        "conv_distance": precision,
    }


def test_fp8_is_for_gpus_that_compute_it(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "fp16")
    for target in ("sm86", "portable"):
        with pytest.raises(EngineBuildFailed, match=f"no fp8 for {target}"):
            build(_with_fp8(bundle), BuildOptions(targets=(target,), precisions=("fp8",), flavour="rtx"))
    built = build(_with_fp8(bundle), BuildOptions(targets=("sm86",), flavour="rtx"))
    assert [one.entry.precision for one in built] == ["fp16"], "fp8 is left out where nobody asked for it"


def _with_fp8(bundle: Bundle) -> Bundle:
    """The bundle with a precision fp8; its graph is never reached."""
    precisions = bundle.manifest.precisions
    bundle.manifest = dataclasses.replace(bundle.manifest, precisions={**precisions, "fp8": precisions["fp16"]})
    return bundle


# --- failures, and the process after them ------------------------------------------------------------------------


@pytest.mark.parametrize(("workspace_mib", "said"), [(3, "OutOfMemory (Requested size was"), (1, "workspace limit")])
def test_out_of_memory_while_it_builds(tmp_path: Path, workspace_mib: int, said: str) -> None:
    """The compiler itself runs out of the workspace it may use."""
    bundle = tiny_bundle(tmp_path / "tiny", "fp16")
    replace_graph(bundle, "fp16", wide_graph(channels=256, layers=6))
    small = BuildOptions(targets=("sm89",), flavour="rtx", settings=EngineSettings(workspace_mib=workspace_mib))
    with pytest.raises(EngineBuildFailed, match="cannot build it for sm89") as caught:
        build(bundle, small)
    assert said in str(caught.value.got)
    assert "--workspace" in str(caught.value.fix)
    _builds_again(bundle)


@pytest.mark.parametrize("spoil", ["empty", "truncated", "flipped", "other-graph"])
def test_a_corrupted_graph(tmp_path: Path, spoil: str, rtx: Flavour) -> None:
    graph = tiny_graph("fp16")
    spoiled = {
        "empty": b"",
        "truncated": graph[: len(graph) // 2],
        "flipped": graph[:60] + bytes(byte ^ 0xFF for byte in graph[60:120]) + graph[120:],
        "other-graph": tiny_graph("fp16", map_name="heat"),
    }[spoil]
    with pytest.raises(EngineBuildFailed, match=r"model\.fp16\.onnx"):
        engine_from_onnx(spoiled, entry(), source="model.fp16.onnx", flavour=rtx)
    _builds_again(tiny_bundle(tmp_path / "tiny", "fp16"))


def test_the_errors_of_a_failed_build_that_is_still_held_are_not_the_next_ones(tmp_path: Path, rtx: Flavour) -> None:
    """An exception holds its frames, those hold the builder: TensorRT then keeps to the logger of that builder."""
    too_early = helper.make_node("Transpose", ["image"], ["flipped"], "early", perm=[0, 3, 1, 2])
    held = []
    for _ in range(2):
        with pytest.raises(EngineBuildFailed, match="'early'") as caught:
            engine_from_onnx(tiny_graph(extra=too_early), entry(), source="m", flavour=rtx)
        held.append(caught)
    with pytest.raises(EngineBuildFailed, match="cannot build it") as caught:
        engine_from_onnx(wide_graph(channels=256, layers=6), entry(workspace_mib=3), source="m", flavour=rtx)
    assert "OutOfMemory" in str(caught.value.got)
    assert "UInt8" not in str(caught.value.got)
    _builds_again(tiny_bundle(tmp_path / "tiny", "fp16"))
    del held
    gc.collect()


def _builds_again(bundle: Bundle) -> None:
    (built,) = build(bundle, SM89)
    assert built.size_bytes > 10_000
    assert not built.cached
