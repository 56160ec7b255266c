"""Fitting EfficientAD: the penalty's images, the maps' normalisation, a run that goes on as if never stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edge_ad.demo.parts import draw_part
from edge_ad.errors import TooFewImages
from edge_ad.methods.efficientad import EfficientAdOptions
from edge_ad.training import fit_efficientad as module
from edge_ad.training.images import load_rgb, normalise
from edge_ad.training.run import Split
from edge_ad.training.train import load_run, train

TINY = EfficientAdOptions(steps=3, image_size=128)


@pytest.fixture(scope="module")
def natural(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 images, the fewest a penalty takes, in folders as ImageNet's."""
    folder = tmp_path_factory.mktemp("natural")
    rng = np.random.default_rng(0)
    for index in range(100):
        path = folder / f"n{index % 3}" / f"{index:03}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cv2.imencode(".png", draw_part(rng, size=(40, 56))[0])[1].tobytes())
    return folder


def split_of(folder: Path) -> Split:
    paths = sorted((folder / "train" / "good").glob("*.png"))
    return Split(training=paths[:4], validation=paths[4:7])


def test_penalty_images_are_the_centres_of_enlarged_ones_some_grey(natural: Path) -> None:
    """Appendix A.1: resized to 512 for a network of 256, the centre cropped, grey with probability 0.3."""
    options = dataclasses.replace(TINY, penalty_images=natural)
    drawn = module._penalty_images(options, np.random.default_rng(0))
    assert drawn is not None
    images = [next(drawn) for _ in range(100)]
    plain = {path: load_rgb(path, 256)[:, 64:192, 64:192] for path in natural.rglob("*.png")}
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    seen = {"colour": 0, "grey": 0}
    for image in images:
        in_colour = any(torch.allclose(image, one, atol=1e-5) for one in plain.values())
        in_grey = any(torch.allclose(image, (one * luma).sum(0).expand(3, -1, -1), atol=1e-5) for one in plain.values())
        assert in_colour != in_grey
        seen["grey" if in_grey else "colour"] += 1
    assert 15 <= seen["grey"] <= 45
    assert module._penalty_images(TINY, np.random.default_rng(0)) is None


def test_the_penalty_changes_what_the_student_learns(parts_dataset: Path, natural: Path, tmp_path: Path) -> None:
    networks = {}
    for images in (None, natural):
        options = dataclasses.replace(TINY, penalty_images=images, learning_rate=1e-3)
        run = train("efficientad-s", parts_dataset, tmp_path / f"{images is None}", options)
        networks[images] = load_run(run)[0]
    image = normalise(load_rgb(next(natural.rglob("*.png")), 128))[None]
    with torch.inference_mode():
        answers = {key: network.student(image)[:, :384].square().mean().item() for key, network in networks.items()}
    assert answers[natural] < answers[None], "the penalty pulls the student's answers to natural images towards zero"


def test_too_few_natural_images_are_refused(parts_dataset: Path, natural: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(TINY, penalty_images=natural / "n0")
    with pytest.raises(TooFewImages, match="too few natural images"):
        train("efficientad-s", parts_dataset, tmp_path / "run", options)


@pytest.mark.parametrize("autoencoder", [True, False])
def test_gaussian_normalisation_gives_validation_maps_zero_mean_and_unit_variance(
    parts_dataset: Path, tmp_path: Path, autoencoder: bool
) -> None:
    options = dataclasses.replace(TINY, steps=1, map_normalisation="gaussian", autoencoder=autoencoder)
    split = split_of(parts_dataset)
    network = module.SMALL.fit(split, options, tmp_path)
    images = torch.stack([normalise(load_rgb(path, 128)) for path in split.validation])
    low, high = network.quantiles.unbind(1)
    with torch.inference_mode():
        maps = torch.stack(network.maps(images))
        comparable = 0.1 * (maps - low.view(-1, 1, 1, 1)) / (high - low).view(-1, 1, 1, 1)
    assert len(maps) == (2 if autoencoder else 1)
    torch.testing.assert_close(comparable.mean((1, 2, 3)), torch.zeros(len(maps)), atol=1e-3, rtol=0)
    torch.testing.assert_close(comparable.std((1, 2, 3), correction=0), torch.ones(len(maps)), atol=1e-3, rtol=0)


class Interrupted(Exception):
    """Stands for the power cut."""


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    parts_dataset: Path, natural: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tensors: images, colours, natural images and dropout are drawn alike."""
    options = dataclasses.replace(TINY, penalty_images=natural, padding=True)
    monkeypatch.setattr(module, "CHECKPOINT_EVERY", 2)
    whole = load_file(train("efficientad-s", parts_dataset, tmp_path / "whole", options) / "model.safetensors")

    def save_and_stop(*given: object, save: object = module.save_checkpoint) -> None:
        save(*given)  # type: ignore[operator]
        raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(module, "save_checkpoint", save_and_stop)
        train("efficientad-s", parts_dataset, tmp_path / "broken", options)
    assert torch.load(tmp_path / "broken" / "checkpoint.pt", weights_only=True)["step"] == 2
    resumed = load_file(train("efficientad-s", parts_dataset, tmp_path / "broken", options) / "model.safetensors")
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())


def test_efficientad_m_trains_and_loads_again(parts_dataset: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(TINY, steps=1)
    split = split_of(parts_dataset)
    network = module.MEDIUM.fit(split, options, tmp_path)
    assert network.student.conv6.weight.shape == (768, 768, 1, 1)
    again = module.MEDIUM.empty(options)
    again.load_state_dict(network.state_dict())
    image = normalise(load_rgb(split.validation[0], 128))[None]
    with torch.inference_mode():
        assert torch.equal(again.eval()(image)[0], network(image)[0])
