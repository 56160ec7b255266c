"""Distillation for a few steps: a loadable float16 teacher, a loss curve, and a run that goes on."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from edge_ad.demo.parts import draw_part
from edge_ad.errors import TooFewImages, TrainingError
from edge_ad.methods.backbones import empty_backbone
from edge_ad.methods.pdn import load_pdn_medium, load_pdn_small, shipped_teacher_path
from edge_ad.training import distill as module
from edge_ad.training.distill import DistillOptions, distill, target_features


@pytest.fixture
def options(tmp_path: Path) -> DistillOptions:
    """20 parts, the fewest allowed, and a ResNet-18 of random weights."""
    (tmp_path / "images" / "class").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(20):
        path = tmp_path / "images" / "class" / f"{index:02}.png"
        path.write_bytes(cv2.imencode(".png", draw_part(rng, size=(64, 80))[0])[1].tobytes())
    torch.manual_seed(0)
    torch.save(empty_backbone("resnet18").state_dict(), tmp_path / "resnet18.pth")
    return DistillOptions(
        images=tmp_path / "images", output=tmp_path / "run", weights=tmp_path / "resnet18.pth", steps=2, batch=2
    )


def test_a_teacher_is_made_and_a_finished_run_is_not_run_again(options: DistillOptions) -> None:
    teacher = distill(options)
    state = load_file(teacher)
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert torch.equal(load_pdn_small(teacher).conv1.weight, state["conv1.weight"].float())
    with open(options.output / "loss.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2"]
    assert all(np.isfinite(float(row["held_out_loss"])) for row in rows)
    distill(options)
    assert all(torch.equal(value, state[key]) for key, value in load_file(teacher).items())


def test_too_few_images_are_refused(options: DistillOptions) -> None:
    (options.images / "class" / "00.png").unlink()
    with pytest.raises(TooFewImages, match="too few natural images"):
        distill(options)
    assert not options.output.exists()


def test_targets_are_patchcores_features() -> None:
    """Layers 2 and 3 averaged over 3 x 3, layer 3 upsampled; 128 + 256 channels need no reduction."""
    torch.manual_seed(0)
    backbone, image = empty_backbone("resnet18"), torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        layer2, layer3 = (F.avg_pool2d(feature, 3, 1, 1) for feature in backbone(image))
        expected = torch.cat([layer2, F.interpolate(layer3, size=(16, 16), mode="bilinear")], 1)
        torch.testing.assert_close(target_features(backbone, image), expected)
        reduced = target_features(empty_backbone("resnet50"), image)
    assert reduced.shape == (1, 384, 16, 16)


class Interrupted(Exception):
    """Stands for the power cut."""


def test_an_interrupted_distillation_ends_as_an_uninterrupted_one(
    options: DistillOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dataclasses.replace(options, steps=3, window=64)
    monkeypatch.setattr(module, "VALIDATE_EVERY", 2)
    whole = load_file(distill(options))
    broken = dataclasses.replace(options, output=tmp_path / "broken")

    def save_and_stop(*given: object, save: object = module.save_checkpoint) -> None:
        save(*given)  # type: ignore[operator]
        raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(module, "save_checkpoint", save_and_stop)
        distill(broken)
    assert torch.load(broken.output / "checkpoint.pt", weights_only=True)["step"] == 2
    assert not (broken.output / "teacher.safetensors").exists()
    with pytest.raises(TrainingError, match="other options") as caught:
        distill(dataclasses.replace(broken, student="pdn-m"))
    assert caught.value.got == {"student": "pdn-m"}
    resumed = load_file(distill(broken))
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())
    assert (broken.output / "loss.csv").read_text() == (options.output / "loss.csv").read_text()


def test_a_window_is_part_of_the_whole_loss(options: DistillOptions) -> None:
    """The losses of the windows that tile the outputs have the loss of the whole image as their mean."""
    torch.manual_seed(0)
    backbone, student = empty_backbone("resnet18"), load_pdn_small()
    crops = torch.randint(0, 256, (1, 288, 288, 3), dtype=torch.uint8)
    mean, std = torch.zeros(1, 384, 1, 1), torch.ones(1, 384, 1, 1)
    with torch.inference_mode():
        whole = module._loss(student, backbone, crops, mean, std)
        side = 128 + 16  # 28 outputs, half of 56
        windows = [(top, left, side) for top in (0, 112) for left in (0, 112)]
        parts = [module._loss(student, backbone, crops, mean, std, window) for window in windows]
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), rel=1e-3)
    assert max(parts) > min(parts)


def test_a_pdn_m_grows_from_a_pdn_s(options: DistillOptions) -> None:
    """With a learning rate of nearly zero, the student stays what it was grown from."""
    options = dataclasses.replace(
        options, student="pdn-m", grow_from=shipped_teacher_path(), window=64, steps=1, peak_learning_rate=1e-12
    )
    medium, image = load_pdn_medium(distill(options)), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(medium(image), load_pdn_small()(image), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"grow_from": Path("small.pth")}, "Only a PDN-M grows"),
        ({"window": 32}, "window"),
        ({"window": 130}, "window"),
        ({"peak_learning_rate": float("nan")}, "such a rate"),
    ],
)
def test_what_no_distillation_can_do_is_refused(options: DistillOptions, wrong: dict[str, object], what: str) -> None:
    with pytest.raises(TrainingError, match=what) as caught:
        distill(dataclasses.replace(options, **wrong))
    assert caught.value.fix
    assert not options.output.exists()
