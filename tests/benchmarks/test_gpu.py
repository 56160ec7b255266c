"""The GPU benchmark on the stand-in: what is counted, timed and reported. No figure here is one of speed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import gpu
from benchmarks.__main__ import main
from benchmarks.gpu import probe as probe_module
from benchmarks.gpu.bundles import METHOD, limit_bundle
from benchmarks.gpu.measure import Measurement
from benchmarks.gpu.report import as_text
from benchmarks.gpu.timing import (
    STAGES,
    Deadline,
    Settings,
    copy_bandwidth,
    gpu_times,
    latency,
    queued_throughput,
    served_throughput,
    stage_times,
    summary,
)
from benchmarks.gpu.torch_peer import TorchPeer
from benchmarks.gpu.work import Work, count_work
from benchmarks.random_bundle import random_network
from edge_ad.backends import runtime_cache, standin
from edge_ad.backends.cuda import open_device
from edge_ad.backends.execution import ExecutionOptions
from edge_ad.backends.standin import Gpu
from edge_ad.backends.tensorrt import TensorRtBackend
from edge_ad.bundle import Bundle
from edge_ad.errors import MissingDependency, NoGpu
from tests.golden_bundle import golden_bundle, noise_images, snapshot

QUICK = Settings(
    image_size=128, batches=(1, 2), warm_up_s=0, samples=2, most_s=0.01, most_s_throughput=0.01, queued=2, budget_s=60
)
SLEEP_MS = 20.0


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime_cache.ENVIRONMENT, str(tmp_path / "cache"))


@pytest.fixture
def stand_in() -> Iterator[Gpu]:
    with standin.gpu() as machine:
        yield machine


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return golden_bundle(tmp_path / "tiny.bundle", "fp32", "int8")


def compile_engine(bundle: Bundle, precision: str, flavour: str, batch: int) -> None:
    standin.add_engine(bundle, precision, flavour=flavour, max_batch=batch)


def rehearse(given: Bundle, folder: Path, settings: Settings = QUICK) -> dict[str, Any]:
    return Measurement(settings, compile_engine, folder, stand_in=True).run([given.path])


# Counting


def _graph(nodes: list[Any], constants: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "counted",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *shapes["image"]])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", *shapes["out"]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def test_a_strided_grouped_convolution_is_counted_by_hand() -> None:
    """8 channels to 16 in 2 groups, 5 x 5, every second pixel of 20 x 12: 10 x 6 cells of 16 x 4 x 25 products."""
    weights = np.zeros((16, 4, 5, 5), np.float32)
    node = helper.make_node("Conv", ["image", "w"], ["out"], strides=[2, 2], pads=[2] * 4, group=2)
    work = count_work(_graph([node], {"w": weights}, {"image": (8, 20, 12), "out": (16, 10, 6)}))
    assert work == Work(
        macs=10 * 6 * 16 * 4 * 25,
        weight_bytes=weights.nbytes,
        layer_bytes=4 * (8 * 20 * 12 + 16 * 10 * 6),
        frame_bytes=4 * (8 * 20 * 12 + 16 * 10 * 6),
    )
    assert work.flops == 2 * work.macs


def test_a_transposed_convolution_and_matrix_products_are_counted() -> None:
    nodes = [
        helper.make_node("ConvTranspose", ["image", "w"], ["up"], strides=[2, 2]),
        helper.make_node("MatMul", ["left", "up"], ["product"]),
        helper.make_node("MatMul", ["product", "right"], ["out"]),
    ]
    constants = {
        "w": np.zeros((3, 5, 2, 2), np.float32),
        "left": np.zeros((7, 8), np.float32),
        "right": np.zeros((12, 9), np.float32),
    }
    work = count_work(_graph(nodes, constants, {"image": (3, 4, 6), "out": (5, 7, 9)}))
    # Each input value times its whole kernel; then 5 products of (7, 8) x (8, 12), and of (7, 12) x (12, 9).
    assert work.macs == 3 * 4 * 6 * 5 * 2 * 2 + 5 * 7 * 8 * 12 + 5 * 7 * 12 * 9
    assert work.weight_bytes == sum(value.nbytes for value in constants.values())


def test_eight_bits_move_a_quarter_and_compute_as_much(bundle: Bundle) -> None:
    float32, int8 = (count_work(bundle.read(bundle.precision(name).graph)) for name in ("fp32", "int8"))
    assert int8.macs == float32.macs == 17 * 24 * 9 * (3 * 8 + 8)
    assert int8.weight_bytes * 4 == float32.weight_bytes
    assert int8.layer_bytes < float32.layer_bytes
    assert int8.frame_bytes == float32.frame_bytes == 17 * 24 * 3 + 17 * 24 * 4 + 4


@pytest.mark.parametrize(("batch", "expected"), [(1, 1.1), (100, 20.0)])
def test_the_bound_is_the_slower_of_arithmetic_and_movement(batch: int, expected: float) -> None:
    """One frame: 0.2 ms of arithmetic under 1.1 ms of bytes; a hundred: the weights are read once."""
    work = Work(macs=100_000, weight_bytes=1_000_000, layer_bytes=0, frame_bytes=100_000)
    assert work.bound_ms(batch, flops_per_s=1e9, bytes_per_s=1e9) == pytest.approx(expected)


def test_the_graph_of_convolutions_holds_in_every_precision(tmp_path: Path) -> None:
    """Its activations neither vanish nor overflow, however deep: else FP16 would compute with Inf, INT8 with zeros."""
    made = limit_bundle(tmp_path, layers=8, channels=32, side=16)
    with standin.gpu():
        for precision in ("fp32", "fp16", "int8"):
            standin.add_engine(made, precision)
            with closing(TensorRtBackend(made, precision)) as backend:
                maps, _ = backend.run(noise_images(made.manifest.input, 1))
            assert 0.01 < np.median(maps) < 100
    per_pixel = 9 * 32 * (3 + 8 * 32)
    assert count_work(made.read("fp32.onnx")).macs == 16 * 16 * per_pixel


# Timing


def test_percentiles_are_those_of_the_samples() -> None:
    times = summary([float(number) for number in range(1, 1002)])
    assert times == {"p50_ms": 501.0, "p99_ms": 991.0, "p99.9_ms": 1000.0, "samples": 1001}


def test_the_time_of_the_engine_is_the_engines(bundle: Bundle, stand_in: Gpu) -> None:
    """An engine that sleeps: its stage and every whole that holds it take at least as long, no other stage does."""
    standin.add_engine(bundle, "fp32")
    frames = noise_images(bundle.manifest.input, 1)

    def slowly(answer: Any) -> Any:
        time.sleep(SLEEP_MS / 1e3)
        return answer

    stand_in.distort(slowly)
    with closing(TensorRtBackend(bundle, "fp32", ExecutionOptions(cuda_graph=False))) as backend:
        stages = stage_times(backend, frames, QUICK)
        assert tuple(stages) == STAGES
        assert stages["engine"]["p50_ms"] >= SLEEP_MS
        assert gpu_times(backend, 1, QUICK)["p50_ms"] >= SLEEP_MS
        assert latency(backend, frames, QUICK)["p50_ms"] >= SLEEP_MS
        assert queued_throughput(backend, 1, QUICK) <= 1e3 / SLEEP_MS
        assert served_throughput([backend], frames, QUICK) <= 1e3 / SLEEP_MS
        stand_in.distort(None)
        assert backend.run(frames)[1].shape == (1,)  # measuring left it as it was


def test_a_measurement_ends_by_count_or_by_time(bundle: Bundle, stand_in: Gpu) -> None:
    standin.add_engine(bundle, "fp32")
    frames = noise_images(bundle.manifest.input, 1)
    with closing(TensorRtBackend(bundle, "fp32")) as backend:
        for samples, most_s, expected in ((5, 60.0, 5), (1000, 0.0, 2), (0, 60.0, 2)):
            times = latency(backend, frames, Settings(samples=samples, most_s=most_s, warm_up_s=0))
            assert times["samples"] == expected


def test_copies_are_timed_and_their_memory_is_given_back(stand_in: Gpu) -> None:
    with closing(open_device()) as device:
        assert copy_bandwidth(device, QUICK, size_bytes=4096) > 0
    assert stand_in.held() == {}


def test_nothing_is_begun_after_the_budget() -> None:
    deadline = Deadline(100.0)
    assert deadline.allows("something short")
    assert not deadline.allows("something long", reserve_s=200)
    assert deadline.left_out == ["something long"]


# All of it


def test_every_part_is_measured_and_reported(bundle: Bundle, stand_in: Gpu, tmp_path: Path) -> None:
    before = snapshot(bundle.path)
    result = rehearse(bundle, tmp_path)
    assert snapshot(bundle.path) == before
    assert stand_in.held() == {}

    assert [(row["precision"], row.get("failure")) for row in result["engines"]] == [("fp32", None), ("int8", None)]
    for row in result["engines"]:
        assert set(row["stages"]) == {*STAGES, "host"}
        assert {way: times["graph"] for way, times in row["ways"].items()} == {
            "CUDA graph": "captured",
            "kernel by kernel": "off",
            "CUDA graph, zero copy": "captured",
            "kernel by kernel, zero copy": "off",
        }
        assert [batch["batch"] for batch in row["throughput"]] == [1, 2]
        assert row["golden_error_spreads"] < 0.3
        assert row["distance"]["share_of_limit"] > 0
    assert set(result["limits"]) == {"copy_gb_per_s", "fp32", "fp16", "int8"}
    assert {proof["ok"] for proof in result["verified"][0]["proofs"]} <= {True, None}
    assert json.loads(json.dumps(result)) == result

    text = as_text(result)
    assert text.startswith("# Rehearsal on the stand-in: these are not measurements")
    for heading in ("## Latency", "## Stages", "## Throughput", "## What the chip was measured to reach"):
        assert heading in text
    assert "| tiny, int8, rtx 99.0 | 1 |" in text


def test_a_wrong_engine_is_a_row_that_says_so(bundle: Bundle, stand_in: Gpu, tmp_path: Path) -> None:
    """And is not timed: a wrong answer has no speed."""
    stand_in.distort(lambda answer: (answer[0], answer[1] + np.float32(100)))
    result = rehearse(bundle, tmp_path)
    for row in result["engines"]:
        assert "is not reproduced by tensorrt-rtx" in row["failure"]
        assert "verdict" not in row
    assert "score of golden frame" in as_text(result)


def test_an_engine_that_does_not_compile_is_a_row_that_says_so(bundle: Bundle, stand_in: Gpu, tmp_path: Path) -> None:
    stand_in.refuse("create_execution_context", "out of memory")
    result = rehearse(bundle, tmp_path)
    assert all("out of memory" in row["failure"] for row in result["engines"])
    assert [failure.partition(":")[0] for failure in result["limits"]["failures"]] == ["fp32", "fp16", "int8"]
    assert as_text(result).count("out of memory") == 5


def test_without_time_everything_is_left_out_by_name(bundle: Bundle, stand_in: Gpu, tmp_path: Path) -> None:
    result = rehearse(bundle, tmp_path, Settings(budget_s=0, batches=(1,), samples=2, warm_up_s=0, most_s=0.01))
    assert result["engines"] == []
    assert "tiny in int8 with TensorRT-RTX" in result["left_out"]
    assert "left out for want of time: tiny in int8 with TensorRT-RTX" in as_text(result)


def test_the_network_in_torch_is_timed_beside() -> None:
    pytest.importorskip("torch")
    peer = TorchPeer(random_network(METHOD, image_size=128), "cpu")
    assert peer.as_the_papers_time(1, QUICK)["samples"] == 2
    assert peer.from_host(np.zeros((1, 128, 128, 3), np.uint8), QUICK)["p50_ms"] > 0


def test_without_torch_a_bundle_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="--bundle"):
        random_network(METHOD, image_size=128)


def test_without_a_gpu_the_command_says_what_is_missing(
    no_gpu: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu", "--results", str(tmp_path)])
    assert main() == 1
    said = capsys.readouterr().err
    assert "No NVIDIA GPU can be used" in said
    assert "python -m benchmarks gpu --dry-run" in said
    assert list(tmp_path.iterdir()) == []


def test_everything_that_is_missing_is_named(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "installed_flavours", tuple)
    with pytest.raises(NoGpu) as caught:
        probe_module.require_gpu()
    assert "TensorRT (tensorrt_rtx or tensorrt); No NVIDIA GPU can be used" in str(caught.value.got)


def test_a_rehearsal_prints_and_keeps_nothing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    arguments = ["benchmarks", "gpu", "--dry-run", "--results", str(results), "--bundle", str(bundle.path)]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(gpu, "REHEARSAL", QUICK)
    assert main() == 0
    assert "these are not measurements" in capsys.readouterr().out
    assert not results.exists()


@pytest.mark.slow
def test_the_default_network_is_rehearsed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu", "--dry-run", "--json", "--results", str(tmp_path)])
    assert main() == 0
    result = json.loads(capsys.readouterr().out)
    assert [row.get("failure") for row in result["engines"]] == [None] * 3
    assert result["aims"]["times_torch_eager"]["got"] > 0


@pytest.mark.gpu
@pytest.mark.slow
def test_the_real_measurement_ends_in_time(
    gpu: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu", "--results", str(tmp_path)])
    start = time.monotonic()
    assert main() == 0
    assert time.monotonic() - start < 8 * 60  # the promise itself
    (figures,) = tmp_path.glob("*.json")
    assert not json.loads(figures.read_text())["stand_in"]
