"""EfficientAD: a student that imitates a small teacher on normal images only, and an autoencoder for logic.

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

from edge_ad.errors import TrainingError
from edge_ad.methods.linear_maps import pad_matrix, resize_matrix
from edge_ad.methods.options import option
from edge_ad.methods.pdn import CROPPED_CELLS, OUT_CHANNELS, STRIDE, Pdn

__all__ = ["MAP_AT_UPPER_QUANTILE", "Autoencoder", "EfficientAd", "EfficientAdOptions", "hard_feature_loss"]

MAP_AT_UPPER_QUANTILE = 0.1  # sec. 3.4: q_a maps to 0, q_b to 0.1
SMALLEST_IMAGE = 128
SIZE_STEP = 32  # the encoder's five strides of 2


@dataclass(frozen=True, kw_only=True)
class EfficientAdOptions:
    """The paper's settings (sec. 3 and appendix A.1), and the switches of its ablations (tables 3 to 5).

    Raises:
        TrainingError: A value that no network can be made of.
    """

    image_size: int = option(256, "side of the network's input, a multiple of 32 from 128", metavar="PIXELS")
    steps: int = option(70_000, "training steps of one image")
    learning_rate: float = option(1e-4, "of Adam")
    weight_decay: float = option(1e-5, "of Adam")
    decay_at: float = option(0.95, "share of the steps after which the learning rate falls to a tenth")
    padding: bool = option(False, "zeros around the PDNs' inputs, so that their maps reach the image's border")
    autoencoder: bool = option(
        True, "autoencoder and its map, for logical anomalies (sec. 3.3); without it, student and teacher alone"
    )
    hard_fraction: float = option(
        0.999, "p_hard: share of the feature differences the loss leaves out (sec. 3.2, table 3); 0 is their mean"
    )
    map_normalisation: str = option(
        "quantile",
        "of the maps on validation images: by quantiles (sec. 3.4), or to zero mean and unit variance (table 5)",
        choices=("quantile", "gaussian"),
    )
    quantile_low: float = option(0.9, "a: quantile of the maps that becomes 0 (sec. 3.4, table 3)")
    quantile_high: float = option(0.995, "b: quantile of the maps that becomes 0.1 (sec. 3.4, table 3)")
    teacher: Path | None = option(None, "another PDN state dict; without it, this package's", metavar="FILE")
    penalty_images: Path | None = option(
        None,
        "natural images, such as ImageNet, for the pretraining penalty (sec. 3.2); without them, none",
        metavar="FOLDER",
    )
    seed: int = option(0, "of every random choice")

    def __post_init__(self) -> None:
        if self.image_size < SMALLEST_IMAGE or self.image_size % SIZE_STEP:
            raise TrainingError(
                "EfficientAD cannot take images of that size.",
                expected=f"a multiple of {SIZE_STEP} from {SMALLEST_IMAGE} pixels",
                got=self.image_size,
                fix="leave --image-size out: the paper's 256",
            )
        if not 0 <= self.quantile_low < self.quantile_high <= 1:
            raise TrainingError(
                "The maps cannot be normalised by these quantiles.",
                expected="0 <= a < b <= 1",
                got=f"a = {self.quantile_low}, b = {self.quantile_high}",
                fix="leave --quantile-low and --quantile-high out: the paper's 0.9 and 0.995",
            )
        if not 0 <= self.hard_fraction <= 1:
            raise TrainingError(
                "The loss cannot leave out such a share.",
                expected="p_hard from 0 to 1",
                got=self.hard_fraction,
                fix="leave --hard-fraction out: the paper's 0.999",
            )


def hard_feature_loss(squared_difference: Tensor, hard_fraction: float) -> Tensor:
    """Mean of the elements at or above the `hard_fraction` quantile of all elements (sec. 3.2)."""
    flat = squared_difference.flatten()
    count = len(flat) - math.ceil(hard_fraction * (len(flat) - 1))
    return flat.topk(count, sorted=False).values.mean()


class Autoencoder(nn.Module):
    """An image through 64 numbers to what the teacher says of it (appendix A.1).

    Strided convolutions down to 1 x 1, then bilinear upsampling with convolutions and dropout. At the paper's 256
    pixels the layers are the paper's; at other sizes the bottleneck's kernel and the sizes in between go along.

    Args:
        image_size: Side of the image, a multiple of 32 from 128.
        cells: Side of the teacher's output.
    """

    def __init__(self, image_size: int = 256, cells: int = 56) -> None:
        super().__init__()
        widths = (3, 32, 32, 64, 64, 64)
        self.cells = cells
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.bottleneck = nn.Conv2d(64, 64, image_size // 32)
        self.decoder = nn.ModuleList(nn.Conv2d(64, 64, 4, 1, 2) for _ in range(6))
        # Before each decoder convolution, which adds one pixel: 3, 8, 15, 32, 63, 127 of 256.
        self.sizes = [image_size // (64 >> step) - less for step, less in enumerate((1, 0, 1, 0, 1, 1))]
        self.dropout = nn.Dropout(0.2)
        self.smooth = nn.Conv2d(64, 64, 3, 1, 1)
        self.features = nn.Conv2d(64, OUT_CHANNELS, 3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, image_size, image_size) to (N, 384, cells, cells)."""
        x = image
        for layer in self.encoder:
            x = layer(x).relu()
        x = self.bottleneck(x)
        for size, layer in zip(self.sizes, self.decoder, strict=True):
            x = F.interpolate(x, size=(size, size), mode="bilinear")
            x = self.dropout(layer(x).relu())
        x = F.interpolate(x, size=(self.cells, self.cells), mode="bilinear")
        return self.features(self.smooth(x).relu())


class EfficientAd(nn.Module):
    """Teacher, student and autoencoder with the statistics that make their maps comparable.

    Args:
        teacher: A PDN-S or PDN-M; the student is another of its kind, padded as it is.
        image_size: Side of the images, see EfficientAdOptions.
        autoencoder: Whether there is one. Without it the student predicts the teacher alone, and the map is theirs.

    Buffers, set during training:
        teacher_mean, teacher_std: Per channel of the teacher's output on the training images, (1, 384, 1, 1).
        quantiles: Of each map on validation images, (maps, 2): rows student-teacher and, where there is one,
            student-autoencoder; columns the values that become 0 and 0.1.
    """

    def __init__(self, teacher: Pdn, image_size: int = 256, *, autoencoder: bool = True) -> None:
        super().__init__()
        border = 0 if teacher.padding else CROPPED_CELLS
        cells = image_size // STRIDE - 2 * border
        maps = 2 if autoencoder else 1
        self.teacher = teacher.requires_grad_(False)
        self.student = type(teacher)(maps * OUT_CHANNELS, padding=teacher.padding)
        self.autoencoder = Autoencoder(image_size, cells) if autoencoder else None
        self.register_buffer("teacher_mean", torch.zeros(1, OUT_CHANNELS, 1, 1))
        self.register_buffer("teacher_std", torch.ones(1, OUT_CHANNELS, 1, 1))
        self.register_buffer("quantiles", torch.tensor([[0.0, 1.0]]).repeat(maps, 1))
        # Unpadded maps lack 4 cells at each border; there the combined map is 0 (nelson1425/EfficientAD).
        padded = pad_matrix(cells, border, repeat=False)
        rows = resize_matrix(cells + 2 * border, image_size) @ padded
        self.register_buffer("to_pixels", torch.from_numpy(rows).float(), persistent=False)

    def normalised_teacher(self, image: Tensor) -> Tensor:
        return (self.teacher(image).float() - self.teacher_mean) / self.teacher_std

    def losses(self, image: Tensor, recoloured: Tensor, natural: Tensor | None, hard_fraction: float) -> list[Tensor]:
        """The terms of one training step (appendix A.1, algorithm 1); their sum is minimised.

        Args:
            image: A normal image, (1, 3, image_size, image_size) normalised RGB.
            recoloured: The same image with brightness, contrast or saturation changed, for the autoencoder.
            natural: An image of the pretraining set for the penalty, or None.
            hard_fraction: See EfficientAdOptions.

        Returns:
            Student-teacher; with an autoencoder, autoencoder-teacher and student-autoencoder; with `natural`, the
            penalty.
        """
        seen = [image] if self.autoencoder is None else [image, recoloured]
        with torch.no_grad():
            target = self.normalised_teacher(torch.cat(seen))
        student = self.student(torch.cat(seen if natural is None else [*seen, natural])).float()
        of_teacher = student[:, :OUT_CHANNELS]
        losses = [hard_feature_loss((target[:1] - of_teacher[:1]).square(), hard_fraction)]
        if self.autoencoder is not None:
            reconstruction = self.autoencoder(recoloured).float()
            losses.append(F.mse_loss(reconstruction, target[1:]))
            losses.append(F.mse_loss(student[1:2, OUT_CHANNELS:], reconstruction))
        if natural is not None:
            losses.append(of_teacher[-1:].square().mean())
        return losses

    def maps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Student-teacher and, where there is one, student-autoencoder map (sec. 3.3), not yet comparable.

        Each (N, cells, cells) float32, with image_size / 4 cells, 8 fewer without padding.
        """
        student = self.student(image).float()
        local = (self.normalised_teacher(image) - student[:, :OUT_CHANNELS]).square().mean(1)
        if self.autoencoder is None:
            return (local,)
        return local, (self.autoencoder(image).float() - student[:, OUT_CHANNELS:]).square().mean(1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised RGB to the combined map and its maximum (sec. 3.3 and 3.4).

        (N, 3, image_size, image_size) to (N, image_size, image_size) and (N,).
        """
        low, high = self.quantiles[:, 0], self.quantiles[:, 1]
        scale = MAP_AT_UPPER_QUANTILE / (high - low)
        comparable = [(one - low[row]) * scale[row] for row, one in enumerate(self.maps(image))]
        combined = torch.stack(comparable).mean(0)
        anomaly_map = self.to_pixels @ combined @ self.to_pixels.T
        return anomaly_map, anomaly_map.amax((1, 2))
