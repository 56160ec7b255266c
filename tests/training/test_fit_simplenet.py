"""Training SimpleNet: every switch of its tables reaches the run and its bundle; one class against the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from edge_ad.methods.backbones import empty_backbone, load_backbone
from edge_ad.methods.simplenet import LocalFeatures, SimpleNetOptions
from edge_ad.training import fit_simplenet as module
from edge_ad.training.dataset import open_dataset
from edge_ad.training.export import export
from edge_ad.training.fit_simplenet import fit_simplenet
from edge_ad.training.images import load_rgb, normalise
from edge_ad.training.run import split_images
from edge_ad.training.train import load_run, train

SMALL = SimpleNetOptions(image_size=64, hidden=16, steps=2, batch_patches=64)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def random_resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of ResNet-18 with random weights."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(empty_backbone("resnet18", layers=(1, 2, 3, 4)).state_dict(), file)
    return file


@pytest.mark.parametrize(
    ("changes", "tensors"),
    [
        ({"adaptor": "complex", "layers": (1, 3)}, {"adaptor.0.weight": (320, 320), "adaptor.2.bias": (320,)}),
        ({"adaptor": "none", "layers": (3,), "patch_size": 5}, {"hidden.weight": (16, 256)}),
        ({"loss": "cross-entropy", "layers": (1, 2, 3)}, {"adaptor.weight": (448, 448)}),
    ],
    ids=("complex", "none", "cross-entropy"),
)
def test_every_switch_reaches_the_bundle(
    changes: dict[str, object],
    tensors: dict[str, tuple[int, ...]],
    random_resnet: Path,
    parts_dataset: Path,
    tmp_path: Path,
) -> None:
    """Export compares torch and ONNX Runtime itself."""
    options = dataclasses.replace(SMALL, backbone="resnet18", weights=random_resnet, **changes)
    run = train("simplenet", parts_dataset, tmp_path / "run", options)
    state = load_file(run / "model.safetensors")
    trained = {key: tuple(state[key].shape) for key in state if key.startswith(("adaptor", "hidden.weight"))}
    assert tensors.items() <= trained.items()
    assert any(key.startswith("adaptor") for key in trained) == (options.adaptor != "none")
    network, _, saved = load_run(run)
    assert {key: saved[key] for key in changes} == {
        key: list(value) if isinstance(value, tuple) else value for key, value in changes.items()
    }
    assert network.loss_name == options.loss
    bundle = export(run, tmp_path / "bundle")
    assert bundle.manifest.precisions["fp32"].score_spread > 0


def test_both_learning_rates_and_the_decay_reach_adam(
    parts_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, **kwargs: made.append(adam(*args, **kwargs)) or made[0])
    network = fit_simplenet(split_images(open_dataset(parts_dataset), 0), SMALL, tmp_path)
    of_adaptor, of_discriminator = made[0].param_groups
    assert (of_adaptor["lr"], of_discriminator["lr"]) == (1e-4, 2e-4)
    assert of_adaptor["weight_decay"] == of_discriminator["weight_decay"] == 1e-5
    assert [id(one) for one in of_adaptor["params"]] == [id(network.adaptor.weight)]
    learnt = {id(one) for group in made[0].param_groups for one in group["params"]}
    assert learnt == {id(one) for one in network.parameters() if one.requires_grad}


@pytest.mark.parametrize(("steps", "kept"), [(3, 16), (100, 64)], ids=("some", "all"))
def test_no_more_patches_are_kept_than_training_draws(parts_dataset: Path, steps: int, kept: int) -> None:
    """Of 64 patches of each of 12 images: 3 steps of 64 draw 16 of each. All are the image's own, none is twice."""
    paths = list(open_dataset(parts_dataset).train)
    options = dataclasses.replace(SMALL, steps=steps)
    extractor = LocalFeatures(load_backbone("pdn-s"), 3)
    cache = module._cached_features(extractor, paths, options, CPU)
    assert (cache.shape, cache.dtype) == ((12 * kept, 384), torch.float16)
    for path, of_image in zip(paths, cache.float().split(kept), strict=True):
        with torch.inference_mode():
            everything = extractor(normalise(load_rgb(path, 64))[None])[0].flatten(1).T
        near = torch.cdist(of_image, everything).argmin(1)
        torch.testing.assert_close(of_image, everything[near], atol=2e-3, rtol=2e-3)
        assert len(set(near.tolist())) == kept
        if kept == 64:
            assert near.tolist() == list(range(64)), "where all are kept, they stay in order"
    torch.testing.assert_close(cache, module._cached_features(extractor, paths, options, CPU), rtol=0, atol=0)


def write_digits(folder: Path, classes: tuple[int, ...], of_each: int) -> Path:
    """Real handwriting that scikit-learn brings along: train/DIGIT and test/DIGIT, as class-labelled sets come."""
    digits = load_digits()
    for digit in classes:
        images = digits.images[digits.target == digit]
        for index, image in enumerate(images[: 2 * of_each]):
            file = folder / ("train", "test")[index % 2] / str(digit) / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            enlarged = cv2.resize((image * 255 / 16).astype(np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
            assert cv2.imwrite(str(file), enlarged)
    return folder


@pytest.mark.parametrize("normal", ["0", pytest.param("3", marks=pytest.mark.slow)])
def test_one_class_against_the_rest(tmp_path: Path, normal: str) -> None:
    """The protocol of table 5: one class is learnt, test images of all others are novel."""
    dataset = open_dataset(write_digits(tmp_path / "digits", (0, 1, 3, 4, 6), 40), normal)
    assert {path.parent.name for path in dataset.train} == {normal} and dataset.defects == ()
    options = SimpleNetOptions(image_size=64, patch_size=5, hidden=128, steps=200, batch_patches=512)
    network = fit_simplenet(split_images(dataset, 0), options, tmp_path)
    with torch.inference_mode():
        images = torch.stack([normalise(load_rgb(item.path, 64)) for item in dataset.test])
        scores = network(images)[1].numpy()
    novel = [item.path.parent.name != normal for item in dataset.test]
    assert novel == [item.is_defective for item in dataset.test] and len(novel) == 200 and sum(novel) == 160
    assert roc_auc_score(novel, scores) > 0.75
