"""EfficientAD-S: a student that imitates a small teacher on normal images only, and an autoencoder for logic.

Source: Batzner, Heckler, König, "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies",
WACV 2024. Details the paper leaves to code follow nelson1425/EfficientAD.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_ad.methods.linear_maps import pad_matrix, resize_matrix
from edge_ad.methods.options import option
from edge_ad.methods.pdn import CROPPED_CELLS, OUT_CHANNELS, PdnSmall

__all__ = ["Autoencoder", "EfficientAd", "EfficientAdOptions", "hard_feature_loss"]

TEACHER_CELLS = 56  # of the unpadded PDN-S at 256 x 256
MAP_AT_UPPER_QUANTILE = 0.1  # sec. 3.4: q_a maps to 0, q_b to 0.1


@dataclass(frozen=True, kw_only=True)
class EfficientAdOptions:
    """The paper's settings (sec. 3 and appendix A.1)."""

    image_size: int = option(256, "side of the network's input; the autoencoder needs 256", metavar="PIXELS")
    steps: int = option(70_000, "training steps of one image")
    learning_rate: float = option(1e-4, "of Adam")
    weight_decay: float = option(1e-5, "of Adam")
    decay_at: float = option(0.95, "share of the steps after which the learning rate falls to a tenth")
    hard_fraction: float = option(0.999, "p_hard: share of the feature differences the loss leaves out (sec. 3.2)")
    quantile_low: float = option(0.9, "a: quantile of the maps that becomes 0 (sec. 3.4)")
    quantile_high: float = option(0.995, "b: quantile of the maps that becomes 0.1 (sec. 3.4)")
    teacher: Path | None = option(None, "another PDN state dict; without it, this package's", metavar="FILE")
    penalty_images: Path | None = option(
        None,
        "natural images, such as ImageNet, for the pretraining penalty (sec. 3.2); without them, none",
        metavar="FOLDER",
    )
    seed: int = option(0, "of every random choice")


def hard_feature_loss(squared_difference: Tensor, hard_fraction: float) -> Tensor:
    """Mean of the elements at or above the `hard_fraction` quantile of all elements (sec. 3.2)."""
    flat = squared_difference.flatten()
    count = len(flat) - math.ceil(hard_fraction * (len(flat) - 1))
    return flat.topk(count, sorted=False).values.mean()


class Autoencoder(nn.Module):
    """256 x 256 pixels through 64 dimensions to the teacher's 56 x 56 x 384 features (appendix A.1).

    Strided convolutions down to 1 x 1, then bilinear upsampling with convolutions and dropout.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 32, 64, 64, 64)
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.bottleneck = nn.Conv2d(64, 64, 8)
        self.decoder = nn.ModuleList(nn.Conv2d(64, 64, 4, 1, 2) for _ in range(6))
        self.sizes = (3, 8, 15, 32, 63, 127)  # before each decoder convolution, which adds one pixel
        self.dropout = nn.Dropout(0.2)
        self.smooth = nn.Conv2d(64, 64, 3, 1, 1)
        self.features = nn.Conv2d(64, OUT_CHANNELS, 3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for layer in self.encoder:
            x = layer(x).relu()
        x = self.bottleneck(x)
        for size, layer in zip(self.sizes, self.decoder, strict=True):
            x = F.interpolate(x, size=(size, size), mode="bilinear")
            x = self.dropout(layer(x).relu())
        x = F.interpolate(x, size=(TEACHER_CELLS, TEACHER_CELLS), mode="bilinear")
        return self.features(self.smooth(x).relu())


class EfficientAd(nn.Module):
    """Teacher, student and autoencoder with the statistics that make their maps comparable.

    Buffers, set during training:
        teacher_mean, teacher_std: Per channel of the teacher's output on the training images, (1, 384, 1, 1).
        quantiles: Of both maps on validation images, (2, 2): rows student-teacher and student-autoencoder,
            columns the low and the high quantile.
    """

    def __init__(self, teacher: PdnSmall) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False)
        self.student = PdnSmall(2 * OUT_CHANNELS)
        self.autoencoder = Autoencoder()
        self.register_buffer("teacher_mean", torch.zeros(1, OUT_CHANNELS, 1, 1))
        self.register_buffer("teacher_std", torch.ones(1, OUT_CHANNELS, 1, 1))
        self.register_buffer("quantiles", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        # The unpadded maps lack 4 cells at each border; there the combined map is 0 (nelson1425/EfficientAD).
        padded = pad_matrix(TEACHER_CELLS, CROPPED_CELLS, repeat=False)
        rows = resize_matrix(TEACHER_CELLS + 2 * CROPPED_CELLS, 256) @ padded
        self.register_buffer("to_pixels", torch.from_numpy(rows).float(), persistent=False)

    def normalised_teacher(self, image: Tensor) -> Tensor:
        return (self.teacher(image).float() - self.teacher_mean) / self.teacher_std

    def losses(self, image: Tensor, recoloured: Tensor, natural: Tensor | None, hard_fraction: float) -> list[Tensor]:
        """The terms of one training step (appendix A.1, algorithm 1); their sum is minimised.

        Args:
            image: A normal image, (1, 3, 256, 256) normalised RGB.
            recoloured: The same image with brightness, contrast or saturation changed, for the autoencoder.
            natural: An image of the pretraining set for the penalty, or None.
            hard_fraction: See EfficientAdOptions.

        Returns:
            Student-teacher, autoencoder-teacher, student-autoencoder, and, with `natural`, the penalty.
        """
        with torch.no_grad():
            teacher_on_image, teacher_on_recoloured = self.normalised_teacher(torch.cat([image, recoloured])).chunk(2)
        reconstruction = self.autoencoder(recoloured).float()
        inputs = [image, recoloured] if natural is None else [image, recoloured, natural]
        student = self.student(torch.cat(inputs)).float()
        of_teacher, of_autoencoder = student.split(OUT_CHANNELS, dim=1)
        losses = [
            hard_feature_loss((teacher_on_image - of_teacher[:1]).square(), hard_fraction),
            F.mse_loss(reconstruction, teacher_on_recoloured),
            F.mse_loss(of_autoencoder[1:2], reconstruction),
        ]
        if natural is not None:
            losses.append(of_teacher[2:].square().mean())
        return losses

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Student-teacher and student-autoencoder maps (sec. 3.3), (N, 56, 56) float32, not yet comparable."""
        of_teacher, of_autoencoder = self.student(image).float().split(OUT_CHANNELS, dim=1)
        local = (self.normalised_teacher(image) - of_teacher).square().mean(1)
        of_logic = (self.autoencoder(image).float() - of_autoencoder).square().mean(1)
        return local, of_logic

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, 256, 256) normalised RGB to the combined map (N, 256, 256) and its maximum (N,) (sec. 3.3, 3.4)."""
        low, high = self.quantiles[:, 0], self.quantiles[:, 1]
        scale = MAP_AT_UPPER_QUANTILE / (high - low)
        local, of_logic = self.maps(image)
        combined = 0.5 * (local - low[0]) * scale[0] + 0.5 * (of_logic - low[1]) * scale[1]
        anomaly_map = self.to_pixels @ combined @ self.to_pixels.T
        return anomaly_map, anomaly_map.amax((1, 2))
