"""CutPaste: a trunk that learned to see pasted pieces, and a Gaussian of what it sees in normal images.

Source: Li, Sohn, Yoon, Pfister, "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization",
CVPR 2021. Details the paper leaves open follow Runinho/pytorch-cutpaste.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edge_ad.methods.backbones import BACKBONES, ResNetTrunk, empty_backbone
from edge_ad.methods.linear_maps import resize_matrix
from edge_ad.methods.options import option

__all__ = [
    "CLASSES",
    "CutPaste",
    "CutPasteOptions",
    "Detector",
    "Gaussian",
    "ImageDetector",
    "PatchDetector",
    "ProjectionHead",
    "patch_corners",
    "splat_matrix",
]

CLASSES = {"normal": 2, "scar": 2, "union": 2, "3way": 3}  # of the proxy task, by variant (sec. 2.2, 5.2)


@dataclass(frozen=True, kw_only=True)
class CutPasteOptions:
    """The paper's settings (sec. 4 and appendix A), but for pretraining and the length of training.

    The paper trains ResNet-18 from scratch for 256 x 256 steps. A pretrained trunk needs a few hundred.
    """

    backbone: str = option(
        "resnet18",
        "the trunk that is trained",
        choices=tuple(name for name, spec in BACKBONES.items() if spec is not None),
    )
    pretrained: bool = option(True, "start from ImageNet weights; the paper's table 1 starts from scratch")
    weights: Path | None = option(None, "torchvision checkpoint of the backbone; never downloaded", metavar="FILE")
    stage: int = option(4, "last residual stage; its pooled features are judged", choices=(1, 2, 3, 4))
    image_size: int = option(256, "side of the network's input", metavar="PIXELS")
    variant: str = option(
        "3way", "what is told from normal: patches, scars, both as one class, both as two", choices=tuple(CLASSES)
    )
    level: str = option(
        "image", "one embedding of the image, or one of every patch (sec. 2.4)", choices=("image", "patch")
    )
    patch_size: int = option(64, "side of the patches of --level patch (sec. 4.2)", metavar="PIXELS")
    stride: int = option(
        4,
        "between patches (sec. 4.2); 4 is 2401 passes of 64 x 64, some 360 GMAC an image, 16 a fourteenth of that",
        metavar="PIXELS",
    )
    blur_sigma: float = option(
        10.0, "of the Gaussian that spreads a patch's score (sec. 4.2; FCDD's own width)", metavar="PIXELS"
    )
    head_layers: int = option(1, "layers of 512 before the last of 128 in the projection head")
    steps: int = option(256, "training steps of each trunk")
    warmup_steps: int = option(20, "of them at the start, in which a pretrained trunk is frozen")
    batch_images: int = option(32, "images a step, each as 2 or 3 views: the paper's batches of 64 and 96")
    learning_rate: float = option(0.03, "of SGD, falling to 0 by a cosine")
    trunk_learning_rate: float = option(1e-4, "the same for a pretrained trunk; three times as much unlearned ImageNet")
    momentum: float = option(0.9, "of SGD")
    weight_decay: float = option(3e-5, "of SGD")
    ensemble: int = option(1, "trunks of different seeds whose scores are averaged; the paper's best has 5")
    seed: int = option(0, "of every random choice")


class ProjectionHead(nn.Sequential):
    """The layers between the pooled features and the proxy task's classes; they exist in training only (sec. 4)."""

    def __init__(self, channels: int, options: CutPasteOptions) -> None:
        widths = [channels, *[512] * options.head_layers, 128]
        layers: list[nn.Module] = []
        for width_in, width in pairwise(widths):
            layers += [nn.Linear(width_in, width), nn.BatchNorm1d(width), nn.ReLU()]
        super().__init__(*layers, nn.Linear(widths[-1], CLASSES[options.variant]))


class Gaussian(nn.Module):
    """The density of normal embeddings (eq. 2), as the affine map that makes it a standard one.

    With covariance L L^T, |L^-1 (f - mean)| is the Mahalanobis distance of f.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("whitening", torch.eye(channels))

    def fit(self, mean: np.ndarray, covariance: np.ndarray) -> None:
        """Take a mean (C,) and a positive definite covariance (C, C)."""
        self.mean.copy_(torch.from_numpy(mean))
        self.whitening.copy_(torch.from_numpy(np.linalg.inv(np.linalg.cholesky(covariance))))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(P, C) to whitened (P, C), whose norms are the distances."""
        return (embeddings - self.mean) @ self.whitening.T


class Detector(nn.Module):
    """A trunk, the Gaussian of its embeddings, and what a normal image scores.

    Buffers, set during training:
        usual: Mean distance of the validation images. Scores are multiples of it, so that those of an ensemble's
            members weigh the same.
    """

    def __init__(self, trunk: ResNetTrunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.gaussian = Gaussian(trunk.out_channels[-1])
        self.register_buffer("usual", torch.ones(()))

    def pooled(self, image: Tensor) -> Tensor:
        """(P, 3, H, W) normalised RGB to the top features' average (P, C): what the head is trained on."""
        return self.trunk(image)[-1].float().mean((2, 3))

    def embed(self, image: Tensor) -> Tensor:
        """The pooled features at length 1."""
        return _unit(self.pooled(image))


class ImageDetector(Detector):
    """One embedding of the whole image; GradCAM of its distance shows where it comes from (sec. 4.2)."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) normalised RGB to the map of the cells (N, h, w) and the score (N,).

        GradCAM weighs the top features A_k by the distance's gradient with respect to them. Through the norm and
        the average it has a closed form: with f = p / |p|, z = W (f - mean) and s = |z|,

            ds/df = W^T z / s,    ds/dp = (ds/df - f (f . ds/df)) / |p|,    map = ReLU(sum_k ds/dp_k A_k)

        which is GradCAM's map times the number of cells: a map whose unit is the score's.
        """
        features = self.trunk(image)[-1].float()
        pooled = features.mean((2, 3))
        embedding = _unit(pooled)
        whitened = self.gaussian(embedding)
        distance = _norm(whitened)
        gradient = whitened @ self.gaussian.whitening / distance
        gradient = (gradient - embedding * (embedding * gradient).sum(1, keepdim=True)) / _norm(pooled)
        cells = (gradient[:, :, None, None] * features).sum(1).relu()
        return cells / self.usual, distance[:, 0] / self.usual


class PatchDetector(Detector):
    """The same Gaussian for every patch of the image; the image scores as its worst patch (sec. 2.4)."""

    def __init__(self, trunk: ResNetTrunk, options: CutPasteOptions) -> None:
        super().__init__(trunk)
        self.size = options.patch_size
        corners = torch.from_numpy(patch_corners(options))
        self.cells = len(corners)
        pixels = (corners[:, None] + torch.arange(self.size)).flatten()
        self.register_buffer("pixels", pixels, persistent=False)

    def patches(self, image: Tensor) -> Tensor:
        """(N, 3, S, S) to every patch (N cells cells, 3, size, size), row by row."""
        rows = image.index_select(2, self.pixels).index_select(3, self.pixels)
        grid = rows.reshape(-1, 3, self.cells, self.size, self.cells, self.size)
        return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, self.size, self.size)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) normalised RGB to the distances of the patches (N, cells, cells) and their maximum (N,)."""
        distance = _norm(self.gaussian(self.embed(self.patches(image))))
        distances = distance.reshape(-1, self.cells, self.cells) / self.usual
        return distances, distances.amax((1, 2))


class CutPaste(nn.Module):
    """The detectors of an ensemble, and the way from their cells to pixels."""

    def __init__(self, options: CutPasteOptions) -> None:
        super().__init__()
        trunks = [empty_backbone(options.backbone, layers=(options.stage,)) for _ in range(options.ensemble)]
        if options.level == "patch":
            self.members = nn.ModuleList(PatchDetector(trunk, options) for trunk in trunks)
            centres = patch_corners(options) + options.patch_size / 2
            to_pixels = splat_matrix(centres, options.image_size, options.blur_sigma)
        else:
            self.members = nn.ModuleList(ImageDetector(trunk) for trunk in trunks)
            cells = -(-options.image_size // 2 ** (options.stage + 1))
            to_pixels = resize_matrix(cells, options.image_size)
        self.register_buffer("to_pixels", torch.from_numpy(to_pixels).float(), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) normalised RGB to the anomaly map (N, S, S) and the score (N,), means over the members."""
        maps, scores = zip(*(member(image) for member in self.members), strict=True)
        cells, score = torch.stack(maps).mean(0), torch.stack(scores).mean(0)
        return self.to_pixels @ cells @ self.to_pixels.T, score


def patch_corners(options: CutPasteOptions) -> np.ndarray:
    """Upper (or left) pixels of the patches: every `stride`, as long as a patch fits into the image."""
    return np.arange(0, options.image_size - options.patch_size + 1, options.stride)


def splat_matrix(centres: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """Receptive-field upsampling along one axis, (size, cells): every cell spreads as a Gaussian about its centre.

    Rows sum to 1, so that a pixel is a weighted mean of the cells near it, at the border too.

    Source: Liznerski et al., "Explainable Deep One-Class Classification", ICLR 2021, sec. 3 and algorithm 1.
    """
    distances = np.arange(size)[:, None] + 0.5 - centres[None, :]
    logarithms = -0.5 * (distances / sigma) ** 2
    weights = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def _norm(x: Tensor) -> Tensor:
    """(P, C) to (P, 1); never 0, which divides."""
    return x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)


def _unit(x: Tensor) -> Tensor:
    return x / _norm(x)
