"""The distance to the limit adds up, and every convolution is found in what runs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from benchmarks.limit import _against_limit
from benchmarks.roofline.peaks import Peaks, _convolutions
from benchmarks.roofline.runtimes import aliases_of, onnxruntime_layers, openvino_layers
from edge_ad.algebra import Work, total_macs
from tests.tiny_bundle import HEIGHT, WIDTH, tiny_graph

PEAKS = Peaks(gmacs={"int8": 100.0}, reached_by={"int8": "x"}, tried={}, gigabytes=10.0)


def test_the_fraction_is_the_time_at_the_peak_over_the_time_taken() -> None:
    work = {"a": Work(macs=10**8, bytes=10**6), "b": Work(macs=10**8, bytes=0), "c": Work(macs=2 * 10**8, bytes=0)}
    times = [("a+b", 4.0, "k"), ("c", 4.0, "k"), ("Pooling", 2.0, "p")]
    found = _against_limit(times, work, {"a", "b", "c"}, PEAKS, "int8")
    assert found["fraction_of_limit"] == 0.5
    assert found["fraction_in_all"] == 0.4
    assert (found["ms_in_convolutions"], found["ms_elsewhere"]) == (8.0, 2.0)
    joined = next(layer for layer in found["layers"] if layer["layer"] == "a+b")
    assert (joined["ms_at_peak"], joined["ms_of_memory"], joined["fraction"]) == (2.0, 0.1, 0.5)


@pytest.mark.parametrize("layers_of", [openvino_layers, onnxruntime_layers])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_convolution_is_found_in_what_a_runtime_runs(layers_of: object, precision: str) -> None:
    frame = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    names = ["conv_features", "conv_distance"]
    graph = tiny_graph(precision)
    found = layers_of(graph, {"image": frame}, aliases_of(onnx.load_from_string(graph)))  # type: ignore[operator]
    assert sorted(label for label, _, _ in found if label in names) == sorted(names)
    assert all(milliseconds >= 0 for _, milliseconds, _ in found)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_program_that_measures_the_peak_does_the_work_it_is_credited_with(precision: str, kernel: int) -> None:
    graph, macs = _convolutions(kernel, precision)
    assert macs == total_macs(onnx.load_from_string(graph))
