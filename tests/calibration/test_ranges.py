"""Ranges of activations: least squared error, against a brute-force search with real rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.ranges import LEVELS, activation_ranges, best_clip
from edge_ad.backends.onnxruntime import open_session
from edge_ad.frame import read_image
from edge_ad.training.defects import cut_paste
from tests.calibration.graphs import two_convolutions, write_images


def squared_error(values: np.ndarray, clip: float) -> float:
    """Of rounding to the 255 multiples of clip / 127."""
    width = clip / LEVELS
    return float(np.square(np.clip(np.round(values / width), -LEVELS, LEVELS) * width - values).mean())


def histogram_of(values: np.ndarray) -> np.ndarray:
    from calibration.ranges import CENTRES, _count

    histogram = np.zeros(len(CENTRES), np.int64)
    _count(histogram, np.abs(values).astype(np.float32))
    return histogram


@pytest.mark.parametrize("draw", ["uniform", "normal", "laplace", "standard_t"])
def test_the_clip_is_as_good_as_the_best_of_a_brute_force_search(draw: str) -> None:
    rng = np.random.default_rng(0)
    arguments = {"uniform": (-3.0, 3.0), "standard_t": (3,)}.get(draw, (0.0, 2.0))
    values = getattr(rng, draw)(*arguments, size=50_000)
    largest = float(np.abs(values).max())
    best = min(squared_error(values, clip) for clip in np.linspace(0.03, 1, 400) * largest)
    assert squared_error(values, best_clip(histogram_of(values), largest)) <= 1.02 * best


def test_a_rare_large_value_does_not_cost_the_others_their_steps() -> None:
    values = np.random.default_rng(0).normal(size=500_000)
    values[0] = 10.0
    clip = best_clip(histogram_of(values), 10.0)
    assert squared_error(values, clip) < 0.5 * squared_error(values, 10.0)


def test_uniform_values_are_not_clipped() -> None:
    values = np.linspace(-1, 1, 10_001)
    assert best_clip(histogram_of(values), 1.0) == 1.0


def test_zeros_have_no_range() -> None:
    assert best_clip(histogram_of(np.zeros(100)), 0.0) == 0.0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("images"), 4)


def test_every_tensor_of_a_convolution_has_a_symmetric_range(images: list[Path]) -> None:
    ranges = activation_ranges(two_convolutions(), images, 0).data
    assert set(ranges) == {"normalised", "features", "resized", "distance"}
    for data in ranges.values():
        low, high = data.range_value
        assert low == -high < 0


def test_ranges_cover_normal_frames_and_frames_with_defects(images: list[Path]) -> None:
    """Each range is the one of all values of those frames, gathered here through the graph's own map."""
    content = two_convolutions()
    rng, frames = np.random.default_rng(5), []
    for path in images:
        image = read_image(path)
        frames += [image, cut_paste(image, rng)]
    maps = np.concatenate([open_session(content, "").run(None, {"image": frame[None]})[0].ravel() for frame in frames])
    distance = maps / 0.5  # the map is the last convolution times 0.5
    expected = best_clip(histogram_of(distance), float(np.abs(distance).max()))
    assert activation_ranges(content, images, 5).data["distance"].range_value[1] == pytest.approx(expected, rel=1e-5)


def test_what_relu_cuts_off_does_not_count(images: list[Path]) -> None:
    """A bias that makes a channel very negative does not widen the range before ReLU."""
    model = onnx.load_model_from_string(two_convolutions())
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "b1"]
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] -= 1000
    bias.CopyFrom(onnx.numpy_helper.from_array(values, "b1"))
    ranges = activation_ranges(model.SerializeToString(), images, 0).data
    assert ranges["features"].range_value[1] < 10
    assert ranges["features"].range_value[1] == ranges["resized"].range_value[1], "rounded once, not twice"
