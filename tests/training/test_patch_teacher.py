"""The teacher's losses by hand and by numpy; where patches come from; a training of two steps."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edge_ad.demo.parts import draw_part
from edge_ad.errors import TooFewImages
from edge_ad.methods.backbones import IMAGENET_MEAN, IMAGENET_STD, empty_backbone
from edge_ad.methods.patch_network import load_patch_teacher
from edge_ad.training import patch_teacher
from edge_ad.training.patch_teacher import PatchTeacherOptions, compactness_loss, distill_patches, triplet_loss


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PatchTeacherOptions:
    """20 parts, the fewest allowed, and a ResNet-18 of random weights."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for index in range(20):
        path = tmp_path / "images" / f"{index:02}.png"
        path.write_bytes(cv2.imencode(".png", draw_part(rng, size=(64, 80))[0])[1].tobytes())
    torch.manual_seed(0)
    torch.save(empty_backbone("resnet18").state_dict(), tmp_path / "resnet18.pth")
    monkeypatch.setattr(patch_teacher, "STATISTICS_PATCHES", 8)
    monkeypatch.setattr(patch_teacher, "HELD_OUT_PATCHES", 4)
    return PatchTeacherOptions(
        images=tmp_path / "images",
        output=tmp_path / "run",
        weights=tmp_path / "resnet18.pth",
        patch=33,
        enlarged=32,
        steps=2,
        batch=4,
        metric=1.0,
    )


def test_triplets_by_hand() -> None:
    """Squared distances on a line; in the second row the positive is nearer to the negative: anchor swap."""
    anchors = torch.tensor([[0.0], [0.0], [0.0]])
    positives = torch.tensor([[1.0], [1.0], [0.5]])
    negatives = torch.tensor([[-1.5], [1.5], [9.0]])
    # 1 + 1 - min(2.25, 6.25) < 0;  1 + 1 - min(2.25, 0.25) = 1.75;  1 + 0.25 - min(81, 72.25) < 0
    assert triplet_loss(anchors, positives, negatives, margin=1.0).item() == pytest.approx(1.75 / 3)
    # With a margin of 3: 3 + 1 - 2.25 = 1.75;  3 + 1 - 0.25 = 3.75;  0
    assert triplet_loss(anchors, positives, negatives, margin=3.0).item() == pytest.approx(5.5 / 3)


def test_compactness_is_the_mean_squared_correlation_of_different_entries() -> None:
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(50, 7)) @ rng.normal(size=(7, 7)) + rng.normal(size=7)
    correlations = np.corrcoef(descriptors, rowvar=False)
    expected = np.mean(correlations[~np.eye(7, dtype=bool)] ** 2)
    assert compactness_loss(torch.from_numpy(descriptors)).item() == pytest.approx(expected)
    copies = torch.randn(9, 1) * torch.tensor([1.0, -2.0, 0.1])
    assert compactness_loss(copies).item() == pytest.approx(1.0, rel=1e-4)


def test_the_loss_weighs_its_three_terms(options: PatchTeacherOptions) -> None:
    torch.manual_seed(0)
    learner = patch_teacher._Learner(options, 5)
    patches, positives, target = torch.randn(8, 3, 33, 33), torch.randn(8, 3, 33, 33), torch.randn(8, 5)
    anchors = learner.teacher(patches)[:, :, 0, 0]
    similar = learner.teacher(positives)[:, :, 0, 0]
    terms = (
        (learner.decoder(anchors) - target).square().mean(),
        triplet_loss(anchors, similar, torch.cat([anchors[-1:], anchors[:-1]]), 2.0),
        compactness_loss(anchors),
    )
    weights = {"distillation": 0.7, "metric": 0.2, "compactness": 3.0}
    expected = sum(weight * term for weight, term in zip(weights.values(), terms, strict=True))
    chosen = dataclasses.replace(options, margin=2.0, **weights)
    loss = learner.loss(patches, positives, target, chosen)
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)  # half precision against single
    alone = learner.loss(patches, None, target, dataclasses.replace(chosen, metric=0.0, compactness=0.0))
    assert alone.item() == pytest.approx(0.7 * terms[0].item(), rel=0.02)


def test_a_patch_is_a_crop_of_the_resized_image() -> None:
    """Only the patch is resized, so it may lie a pixel of the image beside the crop of the whole resized image."""
    rows, columns = np.mgrid[:90, :120]
    image = np.stack([rows, columns, 60 + (rows + columns) / 2], 2).astype(np.uint8)
    for side in (70, 132, 260):
        for corner in ((0, 0), (20, 37), (side - 33, side - 33)):
            got = patch_teacher._crop(image, side, np.array(corner), 33)
            resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if side < 90 else cv2.INTER_LINEAR)
            expected = resized[corner[0] : corner[0] + 33, corner[1] : corner[1] + 33]
            assert got.shape == (33, 33, 3)
            assert np.abs(got.astype(int) - expected).max() <= 2


def test_positives_are_shifted_brighter_or_darker_and_noisy(
    options: PatchTeacherOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(options.images.iterdir())
    grey = np.full((64, 80, 3), 128, np.uint8)
    monkeypatch.setattr(patch_teacher, "_cached_image", lambda path: grey)
    source = patch_teacher._PatchSource(paths, options, np.random.default_rng(0))
    patches, positives = source.batch(16)
    std, mean = torch.tensor(IMAGENET_STD).view(3, 1, 1), torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    patches, positives = patches * std + mean, positives * std + mean
    torch.testing.assert_close(patches, torch.full_like(patches, 128 / 255))
    factors = positives.mean((1, 2, 3)) / (128 / 255)
    assert 0.78 < factors.min() < 0.9 and 1.1 < factors.max() < 1.22
    torch.testing.assert_close(positives.std((1, 2, 3)), torch.full((16,), 0.1), rtol=0.1, atol=0)
    corners: list[np.ndarray] = []
    monkeypatch.setattr(patch_teacher, "_crop", lambda image, side, corner, patch: corners.append(corner) or grey)
    for _ in range(50):
        source._pair(grey)
    shifts = np.abs(np.array(corners[::2]) - np.array(corners[1::2]))
    assert shifts.max() == 8 and shifts.min() == 0, "a quarter of 32 pixels"


def test_a_teacher_is_made_and_a_finished_run_is_not_run_again(options: PatchTeacherOptions) -> None:
    teacher = distill_patches(options)
    assert teacher == options.output / "patch_teacher_33.safetensors"
    state = load_file(teacher)
    assert {value.dtype for value in state.values()} == {torch.float16}
    loaded = load_patch_teacher(33, options.output)
    assert torch.equal(loaded.convolutions[0].weight, state["convolutions.0.weight"].float())
    with open(options.output / "loss.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2"]
    assert all(np.isfinite(float(row["held_out_unexplained"])) for row in rows)
    distill_patches(options)
    assert all(torch.equal(value, state[key]) for key, value in load_file(teacher).items())


def test_training_goes_on_from_the_checkpoint(options: PatchTeacherOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after step 1 and resumed, a run does one more step from the weights and statistics it had."""
    monkeypatch.setattr(patch_teacher, "VALIDATE_EVERY", 1)
    save = patch_teacher.save_checkpoint

    def save_and_stop(path: Path, state: dict[str, object]) -> None:
        save(path, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(patch_teacher, "save_checkpoint", save_and_stop)
        distill_patches(options)
    before = torch.load(options.output / "checkpoint.pt", weights_only=True)
    assert before["step"] == 1 and not list(options.output.glob("*.safetensors"))
    distill_patches(options)
    after = torch.load(options.output / "checkpoint.pt", weights_only=True)
    assert after["step"] == 2 and [row[0] for row in after["curve"]] == [1, 2]
    assert torch.equal(after["learner"]["mean"], before["learner"]["mean"])
    moved = after["learner"]["teacher.convolutions.0.weight"] - before["learner"]["teacher.convolutions.0.weight"]
    assert 0 < moved.abs().max() < 2 * options.peak_learning_rate, "one step of Adam"


def test_too_few_images_are_refused(options: PatchTeacherOptions) -> None:
    (options.images / "00.png").unlink()
    with pytest.raises(TooFewImages, match="too few natural images"):
        distill_patches(options)
    assert not options.output.exists()
