"""ONNX Runtime against arithmetic done by numpy, and the choice of a backend."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_ad.backends import open_backend, open_proven
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleCorrupt, BundleMismatch, EngineMismatch, InspectionFault, MissingDependency, NoGpu
from edge_ad.manifest import EngineEntry
from tests.golden_bundle import noise_images, spoil_manifest, swap_file

ON_THE_CPU = ("openvino-cpu", "onnxruntime-cpu")
FP32_TOLERANCE = 1e-4  # relative; sums of 72 products


def convolve(planes: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """3 x 3, zero padding: (N, C, H, W) with (K, C, 3, 3) to (N, K, H, W)."""
    padded = np.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("nchwyx,kcyx->nkhw", windows, weights)


def test_its_makers_are_not_told_what_runs_unless_somebody_wants_it(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """ONNX Runtime's telemetry keeps its device's identity, and what it has not sent yet, in the cache folder."""
    code = f"from edge_ad import Inspector\nInspector({str(tiny_bundle.path)!r}, backend='onnxruntime').close()"
    bare = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home" / ".cache")}
    subprocess.run([sys.executable, "-c", code], env={**bare, **home}, check=True)
    assert not (tmp_path / "home").exists()


RESIDENT = """
import sys
import numpy as np
from edge_ad.backends.onnxruntime import open_session

def resident():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024

graph = open(sys.argv[1], "rb").read()
sessions = []
for _ in range(4):
    sessions.append(open_session(graph, "a graph of large maps"))
    sessions[-1].run(None, {"x": np.zeros((1, 3, 512, 512), np.float32)})
    print(resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sessions_share_the_memory_they_compute_in(tmp_path: Path) -> None:
    """Two maps of 32 MB at a time: a session of its own would hold them as long as it is open."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["wide"]), helper.make_node("Softmax", ["wide"], ["soft"], axis=3)]
    nodes.append(helper.make_node("ReduceMax", ["soft"], ["y"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 512, 512])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    weights = [numpy_helper.from_array(np.ones((32, 3, 1, 1), np.float32), "w")]
    model = helper.make_model(
        helper.make_graph(nodes, "wide", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.save(model, tmp_path / "wide.onnx")
    command = [sys.executable, "-c", RESIDENT, str(tmp_path / "wide.onnx")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first, *further = map(float, told.split())
    assert max(further) - first < 16, f"three more sessions took {further[-1] - first:.0f} MB"


def test_the_graph_is_what_numpy_computes(tiny_bundle: Bundle) -> None:
    graph = onnx.load_from_string(tiny_bundle.read("model.onnx"))
    weights = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in graph.graph.initializer}
    images = noise_images(tiny_bundle.manifest.input, 3, seed=11)
    features = np.maximum(convolve(images.transpose(0, 3, 1, 2).astype(np.float64), weights["features_w"]), 0)
    expected = convolve(features, weights["distance_w"])[:, 0]
    maps, scores = open_backend(tiny_bundle, "fp32", "onnxruntime").run(images)
    assert (maps.dtype, scores.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(maps, expected, rtol=FP32_TOLERANCE, atol=FP32_TOLERANCE)
    np.testing.assert_allclose(scores, expected.max(axis=(1, 2)), rtol=FP32_TOLERANCE)


def test_a_failure_inside_the_runtime_is_a_fault(tiny_bundle: Bundle) -> None:
    backend = open_backend(tiny_bundle, "fp32", "onnxruntime")
    with pytest.raises(InspectionFault, match="ONNX Runtime failed"):
        backend.run(np.zeros((1, 2, 2, 3), np.uint8))


def test_a_closed_backend_says_so(tiny_bundle: Bundle) -> None:
    backend = open_backend(tiny_bundle, "fp32", "onnxruntime")
    backend.close()
    backend.close()
    with pytest.raises(InspectionFault, match="closed"):
        backend.run(noise_images(tiny_bundle.manifest.input, 1))


def with_engine(bundle: Bundle, precision: str = "fp32") -> Bundle:
    entry = EngineEntry(
        file="engines/a.engine",
        flavour="rtx",
        version="1.7",
        target="sm89",
        precision=precision,
        graph_sha256=bundle.manifest.files["model.onnx"],
        max_batch=1,
    )
    (bundle.path / "engines").mkdir()
    swap_file(bundle.path, entry.file, b"engine")
    spoil_manifest(bundle.path, lambda tree: tree["engines"].append(dataclasses.asdict(entry)))
    return Bundle(bundle.path)


@pytest.mark.parametrize("error", [NoGpu, EngineMismatch, MissingDependency])
def test_auto_falls_back_where_the_engine_does_not_fit(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(*_: object) -> None:
        raise error("not here")

    monkeypatch.setattr("edge_ad.backends.tensorrt.TensorRtBackend", refuse)
    bundle = with_engine(tiny_bundle)
    assert open_proven(bundle, "fp32", "auto").name in ON_THE_CPU
    with pytest.raises(error, match="not here"):
        open_backend(bundle, "fp32", "tensorrt")


def test_auto_does_not_hide_an_untrustworthy_engine(tiny_bundle: Bundle) -> None:
    """An altered engine is refused by its hash, on every machine that would load it; here the hash itself is asked."""
    bundle = with_engine(tiny_bundle)
    (bundle.path / "engines" / "a.engine").write_bytes(b"evil")

    def load(bundle: Bundle, precision: str) -> object:
        return bundle.read(bundle.manifest.engines[0].file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_ad.backends.tensorrt.TensorRtBackend", load)
        with pytest.raises(BundleCorrupt, match=r"a\.engine is not the file the manifest describes"):
            open_proven(bundle, "fp32", "auto")


def test_auto_without_an_engine_does_not_ask_tensorrt(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        pytest.fail("TensorRT was asked")

    monkeypatch.setattr("edge_ad.backends.tensorrt.TensorRtBackend", fail)
    assert open_proven(tiny_bundle, "fp32", "auto").name in ON_THE_CPU


def test_an_unknown_backend(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleMismatch, match="no backend 'cuda'"):
        open_backend(tiny_bundle, "fp32", "cuda")
