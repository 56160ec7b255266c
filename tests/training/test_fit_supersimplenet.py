"""Training of SuperSimpleNet: what it learns from, in which order, and that a power cut changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_ad.errors import TrainingError
from edge_ad.methods.supersimplenet import SuperSimpleNet, SuperSimpleNetOptions
from edge_ad.training import fit_supersimplenet as module
from edge_ad.training.dataset import TestImage
from edge_ad.training.fit_supersimplenet import fit_supersimplenet, learning_rate_factor, mask_on_grid
from edge_ad.training.run import Split, image_hash, read_run
from edge_ad.training.train import train

OPTIONS = SuperSimpleNetOptions(image_size=64, hidden=16, steps=4, batch_images=2)
SUPERVISED = dataclasses.replace(OPTIONS, supervised=True, perlin_threshold=2.0)  # above all noise: no synthetic one


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Four grey textures, and one with a bright corner that is marked."""
    folder = tmp_path_factory.mktemp("textures")
    rng = np.random.default_rng(0)
    images = rng.integers(80, 120, (5, 64, 64, 3), np.uint8)
    images[4, :32, :16] = 255
    paths = [folder / f"{index}.png" for index in range(5)]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image)
    mask = np.zeros((64, 64), np.uint8)
    mask[:32, :16] = 255
    cv2.imwrite(str(folder / "mask.png"), mask)
    defect = TestImage(path=paths[4], defect="bright", masks=(folder / "mask.png",))
    unmarked = TestImage(path=paths[4], defect="bright", masks=None)
    return Split(training=paths[:4], validation=[], defects=(defect, unmarked))


def test_the_learning_rate_falls_after_80_and_90_percent() -> None:
    factors = [learning_rate_factor(step, 300, 0.4) for step in (0, 239, 240, 269, 270, 299)]
    assert factors == pytest.approx([1, 1, 0.4, 0.4, 0.16, 0.16])


def test_a_cell_is_defective_where_half_of_its_middle_is() -> None:
    """Of 8 x 8 pixels to 2 x 2 cells: a cell is the mean of its middle 2 x 2 pixels, from one half up."""
    mask = np.zeros((8, 8), np.uint8)
    mask[1, 1:3] = 255  # half of the first cell's middle
    mask[5, 5] = 255  # a quarter of the last one's
    mask[4:, 0] = 255  # the edge of a cell only
    assert mask_on_grid(mask, 8, 2).tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
    large = cv2.resize(mask, (24, 24), interpolation=cv2.INTER_NEAREST)
    assert torch.equal(mask_on_grid(large, 8, 2), mask_on_grid(mask, 8, 2))


def whole_images(
    split: Split, options: SuperSimpleNetOptions, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[torch.Tensor, torch.Tensor, bool]]:
    """Of each step: masks, labels and whether gradients stop, of what the classification head learns from."""
    masks, rest = [], []
    perturb, loss = SuperSimpleNet.perturb, SuperSimpleNet.classification_loss

    def spy_masks(self, *arguments):
        result = perturb(self, *arguments)
        if result[2].shape[2] == self.cells**2:
            masks.append(result[2].reshape(-1, self.cells, self.cells))
        return result

    def spy_labels(self, perturbed, features, label, *, stop_gradient):
        assert perturbed.shape[2:] == features.shape[2:] == (self.cells, self.cells)
        rest.append((label.clone(), stop_gradient))
        return loss(self, perturbed, features, label, stop_gradient=stop_gradient)

    monkeypatch.setattr(SuperSimpleNet, "perturb", spy_masks)
    monkeypatch.setattr(SuperSimpleNet, "classification_loss", spy_labels)
    fit_supersimplenet(split, options, folder)
    return [(mask, *one) for mask, one in zip(masks, rest, strict=True)]


@pytest.mark.parametrize("flips", [True, False])
def test_supervised_training_alternates_normal_images_and_marked_defects_with_their_masks(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flips: bool
) -> None:
    seen = whole_images(split, dataclasses.replace(SUPERVISED, flips=flips, steps=24), tmp_path, monkeypatch)
    marked = torch.zeros(64, 64)
    marked[:32, :16] = 1
    marked = mask_on_grid(marked.numpy(), 64, seen[0][0].shape[-1])[0]
    turned = {tuple(marked.flip(axes).flatten().tolist()) for axes in ([], [0], [1], [0, 1])}
    shown = set()
    for mask, label, stop_gradient in seen:
        assert label.tolist() == [0, 1, 0, 1] and not stop_gradient
        assert not mask[0].any() and torch.equal(mask[1], mask[3])
        shown.add(tuple(mask[1].flatten().tolist()))
    assert shown == (turned if flips else {tuple(marked.flatten().tolist())})


def test_unsupervised_training_never_sees_a_defect(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dataclasses.replace(SUPERVISED, supervised=False)
    for mask, label, stop_gradient in whole_images(split, options, tmp_path, monkeypatch):
        assert not mask.any() and not label.any() and stop_gradient
    options = dataclasses.replace(OPTIONS, perlin_threshold=0.0, whole_images=8)
    for mask, label, _ in whole_images(split, options, tmp_path, monkeypatch):
        assert torch.equal(label > 0, mask.flatten(1).any(1)) and 0 < label.sum() < 16


def test_nothing_marked_is_an_error_that_says_what_to_add(split: Split, tmp_path: Path) -> None:
    for defects, got in (((), "no images of defects"), (split.defects[1:], "1 images of defects, none with a mask")):
        with pytest.raises(TrainingError, match="no marked defect") as caught:
            fit_supersimplenet(dataclasses.replace(split, defects=defects), SUPERVISED, tmp_path)
        assert caught.value.got == got and "ground_truth" in str(caught.value.expected)


def test_an_interrupted_training_ends_as_if_nothing_had_happened(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dataclasses.replace(SUPERVISED, perlin_threshold=0.1)
    whole = fit_supersimplenet(split, options, tmp_path / "nowhere").state_dict()
    save = module.save_checkpoint

    def save_and_stop(path: Path, state: dict[str, object]) -> None:
        save(path, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "CHECKPOINT_EVERY", 3)
        patch.setattr(module, "save_checkpoint", save_and_stop)
        fit_supersimplenet(split, options, tmp_path)
    resumed = fit_supersimplenet(split, options, tmp_path).state_dict()
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())


def test_supervised_training_tells_the_marked_defect_from_normal_texture(split: Split, tmp_path: Path) -> None:
    options = dataclasses.replace(
        SUPERVISED, steps=30, flips=False, adaptor_learning_rate=1e-3, head_learning_rate=5e-3, blur_sigma=1.0
    )
    network = fit_supersimplenet(split, options, tmp_path)
    from edge_ad.training.images import load_rgb, normalise

    images = torch.stack([normalise(load_rgb(path, 64)) for path in (split.training[0], split.defects[0].path)])
    with torch.inference_mode():
        anomaly_map, score = network(images)
    assert score[1] > score[0] + 1
    assert anomaly_map[1, 20:28, 4:12].mean() > anomaly_map[1, 40:60, 40:60].mean() + 0.5


def test_a_supervised_runs_record_knows_the_defects_it_learnt_from(
    split: Split, parts_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other runs are not even shown them."""
    monkeypatch.setattr("edge_ad.training.train.split_images", lambda *_: split)
    monkeypatch.setattr("edge_ad.training.run._commonest_size", lambda _: (64, 64))
    defect = image_hash(split.defects[0].path)
    for options in (OPTIONS, SUPERVISED):
        run = train("supersimplenet", parts_dataset, tmp_path / str(options.supervised), options)
        hashes = read_run(run)[0].training_hashes
        assert (defect in hashes) == options.supervised
        assert set(hashes) - {defect} == {image_hash(path) for path in split.training}
