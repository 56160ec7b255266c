"""OpenVINO against ONNX Runtime, and what happens where either cannot answer."""

from __future__ import annotations

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edge_ad import Bundle, Inspector
from edge_ad.backends import open_backend, open_proven
from edge_ad.backends.openvino import ENVIRONMENT, OpenVinoBackend, load_openvino, read_graph
from edge_ad.errors import BundleCorrupt, BundleMismatch, EngineError, FrameError, InspectionFault, MissingDependency
from edge_ad.golden import GOLDEN_FILE, TOLERANCE, Golden, compare_golden, golden_error, read_golden
from tests.golden_bundle import golden_bundle, noise_images, spoil_manifest, swap_file

pytest.importorskip("openvino", reason="OpenVINO is not installed")

PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return golden_bundle(tmp_path / "three.bundle", *PRECISIONS)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_answers_are_those_of_onnxruntime(bundle: Bundle, precision: str, count: int) -> None:
    images = noise_images(bundle.manifest.input, count, seed=3)
    reference, backend = (open_backend(bundle, precision, name) for name in ("onnxruntime", "openvino"))
    expected, got = reference.run(images), backend.run(images)
    assert [part.dtype for part in got] == [np.float32, np.float32]
    assert max(golden_error(expected, got, bundle.precision(precision).score_spread)) <= TOLERANCE[precision]


def test_float32_is_not_computed_in_bfloat16(bundle: Bundle) -> None:
    """bfloat16 would be wrong in the third digit; so would OpenVINO be by default where a processor offers it."""
    images = noise_images(bundle.manifest.input, 3, seed=4)
    reference, backend = (open_backend(bundle, "fp32", name) for name in ("onnxruntime", "openvino"))
    for expected, got in zip(reference.run(images), backend.run(images), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_a_quantised_convolution_of_joined_channels_is_right() -> None:
    """OpenVINO 2026.4 by itself is dozens of steps off here."""
    steps = {"step": np.float32(0.01), "zero": np.array(0, np.int8), "coarse": np.float32(0.05)}
    kernel = np.random.default_rng(0).integers(-127, 128, (8, 12, 3, 3), dtype=np.int8)
    scales = {"kernel_8": kernel, "scales": np.full(8, 1e-2, np.float32), "zeros": np.zeros(8, np.int8)}
    nodes = [
        helper.make_node("Relu", ["x"], ["rectified"]),
        helper.make_node("Concat", ["rectified", "x"], ["joined"], axis=1),
        helper.make_node("QuantizeLinear", ["joined", "step", "zero"], ["joined_8"]),
        helper.make_node("DequantizeLinear", ["joined_8", "step", "zero"], ["read"]),
        helper.make_node("DequantizeLinear", ["kernel_8", "scales", "zeros"], ["kernel"], axis=0),
        helper.make_node("Conv", ["read", "kernel"], ["summed"]),
        helper.make_node("QuantizeLinear", ["summed", "coarse", "zero"], ["summed_8"]),
        helper.make_node("DequantizeLinear", ["summed_8", "coarse", "zero"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, 20, 20]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 18, 18]),
    ]
    expected, got = both_answers(nodes, ends, steps | scales)
    assert np.abs(expected).max() > 1
    assert np.abs(got - expected).max() <= 0.05 * 1.001  # one step


def both_answers(nodes: list, ends: list, constants: dict) -> tuple[np.ndarray, np.ndarray]:
    """Of ONNX's reference implementation and of OpenVINO, to noise of six channels."""
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            ends[:1],
            ends[1:],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=9,
    )
    x = np.random.default_rng(1).standard_normal((1, 6, 20, 20)).astype(np.float32)
    core = load_openvino().Core()
    exactly = {"INFERENCE_PRECISION_HINT": "f32"}
    got = core.compile_model(read_graph(core, model.SerializeToString(), x.shape), "CPU", exactly)(x)[0]
    return ReferenceEvaluator(model).run(None, {"x": x})[0], got


def test_averages_that_a_head_reads_are_not_rounded() -> None:
    """OpenVINO 2026.4 by itself rounds them to the steps of the convolution whose outputs they are averages of."""
    rng = np.random.default_rng(0)
    constants = {
        **{"step": np.float32(0.02), "coarse": np.float32(0.5), "zero": np.array(0, np.int8)},
        **{"kernel_8": rng.integers(-127, 128, (8, 6, 3, 3), dtype=np.int8), "scales": np.full(8, 1e-2, np.float32)},
        **{"zeros": np.zeros(8, np.int8), "head": rng.standard_normal((8, 16)).astype(np.float32)},
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["x_8"]),
        helper.make_node("DequantizeLinear", ["x_8", "step", "zero"], ["read"]),
        helper.make_node("DequantizeLinear", ["kernel_8", "scales", "zeros"], ["kernel"], axis=0),
        helper.make_node("Conv", ["read", "kernel"], ["summed"]),
        helper.make_node("QuantizeLinear", ["summed", "coarse", "zero"], ["summed_8"]),
        helper.make_node("DequantizeLinear", ["summed_8", "coarse", "zero"], ["response"]),
        helper.make_node("AveragePool", ["response"], ["mean"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Transpose", ["mean"], ["cells"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["cells", "head"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, 20, 20]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 18, 18, 16]),
    ]
    expected, got = both_answers(nodes, ends, constants)
    flipped = 0.5 / 9 * np.abs(constants["head"]).sum(0).max()  # one step in one of nine places, in every channel
    assert np.abs(got - expected).max() <= flipped
    assert np.sqrt(np.square(got - expected).mean()) < 1e-2 * expected.std()


def test_answers_are_the_callers_own(bundle: Bundle) -> None:
    backend = open_backend(bundle, "fp32", "openvino")
    first, second = noise_images(bundle.manifest.input, 2, seed=5)[:, None]
    maps, scores = backend.run(first)
    kept = maps.copy(), scores.copy()
    backend.run(second)
    np.testing.assert_array_equal(maps, kept[0])
    np.testing.assert_array_equal(scores, kept[1])


def test_an_empty_batch_has_an_empty_answer(bundle: Bundle) -> None:
    maps, scores = open_backend(bundle, "int8", "openvino").run(noise_images(bundle.manifest.input, 0))
    assert (len(maps), len(scores)) == (0, 0)


def test_two_inspectors_in_two_threads_answer_as_one(bundle: Bundle) -> None:
    images = noise_images(bundle.manifest.input, 40, seed=6)
    with Inspector(bundle, precision="int8", backend="openvino") as alone:
        expected = alone.answer(images)

    def inspect(half: slice) -> tuple[np.ndarray, np.ndarray]:
        with Inspector(bundle, precision="int8", backend="openvino", threads=1) as inspector:
            return inspector.answer(images[half])

    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(inspect, [slice(20), slice(20, 40)]))
    for part in (0, 1):
        np.testing.assert_allclose(np.concatenate([answer[part] for answer in got]), expected[part], rtol=1e-5)


def test_auto_prefers_openvino_where_it_reproduces_the_golden_vectors(bundle: Bundle) -> None:
    for precision in PRECISIONS:
        with Inspector(bundle, precision=precision) as inspector:
            assert inspector.backend == "openvino-cpu"


def test_auto_takes_onnxruntime_where_openvino_answers_otherwise_and_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, closed = OpenVinoBackend.run, []

    def run_otherwise(self: OpenVinoBackend, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        maps, scores = run(self, images)
        return maps + 100, scores

    def close(self: OpenVinoBackend) -> None:
        closed.append(self)

    monkeypatch.setattr(OpenVinoBackend, "run", run_otherwise)
    monkeypatch.setattr(OpenVinoBackend, "close", close)
    with caplog.at_level(logging.WARNING):
        assert open_proven(bundle, "fp32", "auto").name == "onnxruntime-cpu"
    assert len(closed) == 1
    assert "openvino-cpu is passed over" in caplog.text
    assert "anomaly_map of golden frame" in caplog.text
    with pytest.raises(BundleMismatch, match="not reproduced by openvino-cpu"):
        open_proven(bundle, "fp32", "openvino")


def test_auto_refuses_a_bundle_that_no_backend_reproduces(bundle: Bundle) -> None:
    golden = read_golden(bundle)
    answers = {name: (maps + 100, scores) for name, (maps, scores) in golden.answers.items()}
    swap_file(bundle.path, GOLDEN_FILE, Golden(image=golden.image, answers=answers).to_bytes())
    with pytest.raises(BundleMismatch, match="not reproduced by onnxruntime-cpu"):
        Inspector(bundle.path, precision="fp32")


def test_auto_goes_on_without_openvino(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert open_proven(bundle, "fp32", "auto").name == "onnxruntime-cpu"
    with pytest.raises(MissingDependency, match=r"pip install 'edge-ad\[openvino\]'"):
        open_proven(bundle, "fp32", "openvino")


def test_fp8_is_refused_in_words(bundle: Bundle) -> None:
    spoil_manifest(bundle.path, lambda tree: tree["precisions"].update(fp8=tree["precisions"].pop("int8")))
    with pytest.raises(EngineError, match="no kernels for FP8"):
        open_backend(Bundle(bundle.path), "fp8", "openvino")


def test_a_graph_openvino_cannot_read_is_ours_to_tell(bundle: Bundle) -> None:
    swap_file(bundle.path, "model.onnx", b"no graph")
    with pytest.raises(EngineError, match=r"cannot compute .*model\.onnx on CPU"):
        open_backend(Bundle(bundle.path), "fp32", "openvino")


def test_an_altered_graph_never_reaches_openvino(bundle: Bundle) -> None:
    (bundle.path / "model.onnx").write_bytes(b"altered")
    with pytest.raises(BundleCorrupt, match="is not the file the manifest describes"):
        open_proven(bundle, "fp32", "auto")


@pytest.mark.parametrize("device", ["GPU.7", "", "nonsense"])
def test_a_device_that_is_not_there(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv(ENVIRONMENT, device)
    with pytest.raises(EngineError, match="OpenVINO finds no device") as caught:
        open_backend(bundle, "fp32", "openvino")
    assert "CPU" in str(caught.value.expected)


@pytest.mark.parametrize("threads", [0, -1])
def test_no_backend_runs_on_no_core(bundle: Bundle, threads: int) -> None:
    with pytest.raises(EngineError, match="needs a core"):
        Inspector(bundle, threads=threads)


@pytest.mark.parametrize("images", [np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 16, 24, 3), np.float32)])
def test_a_batch_that_is_not_the_graphs(bundle: Bundle, images: np.ndarray) -> None:
    with pytest.raises(FrameError, match="does not fit the graph"):
        open_backend(bundle, "fp32", "openvino").run(images)


def test_a_closed_backend_says_so(bundle: Bundle) -> None:
    backend = open_backend(bundle, "fp32", "openvino")
    backend.close()
    backend.close()
    with pytest.raises(InspectionFault, match="closed"):
        backend.run(noise_images(bundle.manifest.input, 1))


def test_a_station_writes_no_cache_and_tells_nobody_that_it_runs(bundle: Bundle, tmp_path: Path) -> None:
    code = (
        "import sys; from edge_ad import Inspector\n"
        f"assert Inspector({str(bundle.path)!r}).backend == 'openvino-cpu'\n"
        "assert sys.modules['openvino_telemetry'] is None"
    )
    (tmp_path / "empty").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "empty", check=True)
    assert list((tmp_path / "empty").iterdir()) == []


def test_the_golden_vectors_of_a_bundle_hold_in_every_precision(bundle: Bundle) -> None:
    for precision in PRECISIONS:
        assert compare_golden(bundle, precision, "openvino", open_backend(bundle, precision, "openvino").run).holds
