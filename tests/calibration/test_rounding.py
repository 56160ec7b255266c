"""Tolerances of golden vectors: what the order of sums does to a graph, measured and not guessed."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest

from calibration.flow import CalibrationOptions, calibrate
from calibration.rounding import golden_tolerances
from edge_ad.backends.onnxruntime import OUTPUTS, open_session
from edge_ad.bundle import Bundle
from edge_ad.golden import TOLERANCE, golden_error, read_golden
from tests.calibration.graphs import small_bundle, write_images
from tests.golden_bundle import CAMERA, noise_images


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("rounding")
    made = small_bundle(folder / "small.bundle")
    calibrate(made, CalibrationOptions(images=write_images(folder / "images", 12)[0].parent))
    return Bundle(made.path)


def test_floats_have_the_tolerances_of_all(bundle: Bundle) -> None:
    for precision in ("fp32", "fp16"):
        entry = bundle.precision(precision)
        assert entry.map_tolerance is entry.score_tolerance is None


def test_a_quantised_graph_may_differ_by_a_multiple_of_what_its_own_rounding_does(bundle: Bundle) -> None:
    """Against a session that runs the graph as it is written; the spread decides whether that is above the least."""
    entry, frames = bundle.precision("int8"), noise_images(CAMERA, 5)
    graph = bundle.read(entry.graph)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    as_written = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    fused = open_session(graph, "it")
    errors = []
    for frame in frames:
        one, other = (session.run(OUTPUTS, {"image": frame[None]}) for session in (fused, as_written))
        errors.append([float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True)])
    of_map, of_score = (math.sqrt(sum(error**2 for error in column) / 5) for column in zip(*errors, strict=True))
    assert of_map > 0
    for spread in (of_map, 1e6 * of_map):
        found = golden_tolerances(graph, "int8", frames, spread)
        assert found["map_tolerance"] == pytest.approx(max(TOLERANCE["int8"], 4 * of_map / spread))
        assert found["score_tolerance"] == pytest.approx(max(TOLERANCE["int8"], 5 * of_score / spread))


def test_a_calibrated_bundle_has_them(bundle: Bundle) -> None:
    entry = bundle.precision("int8")
    assert entry.map_tolerance is not None and entry.map_tolerance >= TOLERANCE["int8"]
    assert entry.score_tolerance is not None and entry.score_tolerance >= TOLERANCE["int8"]


def test_what_computes_something_else_is_still_caught(bundle: Bundle) -> None:
    """The answers to each other's frames."""
    entry, (maps, scores) = bundle.precision("int8"), read_golden(bundle).answers["int8"]
    of_map, _ = golden_error((maps, scores), (maps[::-1], scores[::-1]), entry.score_spread)
    assert entry.map_tolerance is not None and of_map > entry.map_tolerance
