"""Distillation for a few steps: a loadable float16 teacher, a loss curve, and a run that goes on."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from edge_ad.demo.parts import draw_part
from edge_ad.errors import TooFewImages
from edge_ad.methods.backbones import empty_backbone
from edge_ad.methods.pdn import load_pdn_small
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
