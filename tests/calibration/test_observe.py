"""What is observed of activations: against the tensors themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.observe import CENTRES, Observation, observe
from calibration.trunk import load_named
from edge_ad.backends.onnxruntime import open_session
from edge_ad.frame import read_image
from edge_ad.training.defects import cut_paste
from tests.calibration.graphs import two_convolutions, write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("images"), 4)


def test_normal_frames_and_frames_with_defects_are_seen(images: list[Path]) -> None:
    """The last convolution's values, gathered here through the graph's own map, which is them times 0.5."""
    content = two_convolutions()
    rng, frames = np.random.default_rng(5), []
    for path in images:
        image = read_image(path)
        frames += [image, cut_paste(image, rng)]
    maps = [open_session(content, "").run(None, {"image": frame[None]})[0] for frame in frames]
    distance = np.concatenate(maps) / 0.5
    seen = observe(load_named(content), ["distance"], images, 5)["distance"]
    assert seen.largest == seen.magnitude == pytest.approx(np.abs(distance).max(), rel=1e-5)
    assert seen.channel_mean == pytest.approx([distance.mean()], rel=1e-4)
    octaves = np.abs(np.log2(CENTRES[seen.histogram.nonzero()[0]])).max()
    assert seen.histogram.sum() == distance.size and octaves < 40


def test_every_value_is_counted_in_the_bin_it_lies_in() -> None:
    values = np.random.default_rng(0).lognormal(0, 3, (1, 2, 30, 30)).astype(np.float32)
    seen = Observation()
    seen.add(-values, rectified=False, share=1.0)
    counted = np.repeat(CENTRES, seen.histogram)
    np.testing.assert_allclose(counted, np.sort(values.ravel()), rtol=2 ** (1 / 128) - 1 + 1e-6)
    np.testing.assert_allclose(seen.channel_mean, -values.mean((0, 2, 3)), rtol=1e-5)


def test_what_relu_cuts_off_does_not_count_but_is_known(images: list[Path]) -> None:
    """A bias that makes a channel very negative does not widen the range before ReLU; float16 must still hold it."""
    model = onnx.load_model_from_string(two_convolutions())
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "b1"]
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] -= 1000
    bias.CopyFrom(onnx.numpy_helper.from_array(values, "b1"))
    seen = observe(load_named(model.SerializeToString()), ["features", "resized"], images, 0)
    assert seen["features"].largest < 10 < 990 < seen["features"].magnitude
    assert seen["features"].largest == seen["resized"].largest, "rounded once, not twice"
