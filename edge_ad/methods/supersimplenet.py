"""SuperSimpleNet: SimpleNet's features upscaled, anomalies in the shape of Perlin noise, a head for the whole image.

Source: Rolih, Fučka, Skočaj, "SuperSimpleNet: Unifying Unsupervised and Supervised Learning for Fast and Reliable
Surface Defect Detection", ICPR 2024 (arXiv 2408.03143), and the authors' code where the paper is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_ad.errors import TrainingError
from edge_ad.methods.backbones import BACKBONES, FeatureExtractor, PdnTrunk
from edge_ad.methods.linear_maps import blur_matrix, pad_matrix, resize_matrix
from edge_ad.methods.options import option
from edge_ad.methods.pdn import CROPPED_CELLS

__all__ = ["SuperSimpleNet", "SuperSimpleNetOptions", "UpscaledFeatures", "focal_loss", "truncated_l1"]

SLOPE = 0.2  # of the leaky ReLU (the authors' code)
FOCUS = 4.0  # gamma of the focal loss (the authors' code)
CLASSIFIER_CHANNELS = 128  # of the classification head's convolution, 5x5 (sec. 3.4)
CLASSIFIER_KERNEL = 5


@dataclass(frozen=True, kw_only=True)
class SuperSimpleNetOptions:
    """The paper's settings (sec. 4.2) and those of the authors' code, but for the length of training."""

    backbone: str = option(
        "pdn-s",
        "pretrained features (the paper: wide_resnet50_2); pdn-s is part of this package, others need their weights",
        choices=tuple(BACKBONES),
    )
    weights: Path | None = option(None, "torchvision checkpoint of the backbone; never downloaded", metavar="FILE")
    layers: tuple[int, ...] = option((2, 3), "stages whose features are joined (sec. 3.1)", choices=(1, 2, 3, 4))
    image_size: int = option(256, "side of the network's input", metavar="PIXELS")
    patch_size: int = option(3, "side of the neighbourhood that upscaled features are averaged over (sec. 3.1)")
    noise: float = option(0.015, "standard deviation of the feature noise (sec. 4.2)")
    perlin_threshold: float = option(
        0.2, "Perlin noise above it is anomalous; the authors' code: 0.2 on MVTec AD, 0.6 on VisA and supervised"
    )
    supervised: bool = option(False, "learn from the data set's marked defects too (sec. 3.3)")
    flips: bool = option(True, "supervised: defects also mirrored, upside down and turned by 180 degrees (sec. 4.2)")
    hidden: int = option(1024, "width of the segmentation head (the authors' code)")
    margin: float = option(0.5, "th of the truncated L1 loss (eq. 3)")
    adaptor_learning_rate: float = option(1e-4, "of AdamW (sec. 4.2)")
    head_learning_rate: float = option(2e-4, "of AdamW, for both heads (sec. 4.2)")
    decay: float = option(0.4, "factor of the learning rates after 0.8 and again after 0.9 of the steps (sec. 4.2)")
    weight_decay: float = option(1e-5, "of AdamW, for both heads (sec. 4.2)")
    blur_sigma: float = option(4.0, "smoothing of the map (sec. 3.5)", metavar="PIXELS")
    steps: int = option(400, "training steps, five minutes on one core; the paper trains 300 epochs")
    batch_images: int = option(2, "images a step, each drawn on twice; the paper: 32")
    seed: int = option(0, "of every random choice")

    def __post_init__(self) -> None:
        if self.patch_size % 2 != 1:
            raise TrainingError(
                "A patch has no middle.", expected="an odd --patch-size: 1, 3, 5, ...", got=self.patch_size
            )


class UpscaledFeatures(nn.Module):
    """Features of a frozen backbone at a quarter of the input's resolution (sec. 3.1).

    Every layer is upscaled to twice the resolution of the finest, all are concatenated, then averaged over
    patch_size x patch_size neighbours, zeros beyond the border among them. A PDN has that resolution by itself.
    """

    def __init__(self, backbone: FeatureExtractor, patch_size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.patch_size = patch_size
        self.factor = 1 if isinstance(backbone, PdnTrunk) else 2
        self.channels = sum(backbone.out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) normalised RGB to (N, channels, h, w)."""
        return self.join(self.backbone(image))

    def join(self, layers: list[Tensor]) -> Tensor:
        """The backbone's outputs, finest first, to (N, channels, h, w)."""
        size = [self.factor * side for side in layers[0].shape[-2:]]
        upscaled = [F.interpolate(layer, size=size, mode="bilinear", align_corners=True) for layer in layers]
        return F.avg_pool2d(torch.cat(upscaled, dim=1), self.patch_size, 1, self.patch_size // 2)


class SuperSimpleNet(nn.Module):
    """Features, adaptor, segmentation head and classification head; anomalies are generated in training only."""

    def __init__(self, features: UpscaledFeatures, options: SuperSimpleNetOptions) -> None:
        super().__init__()
        self.features = features
        self.noise, self.margin = options.noise, options.margin
        channels = features.channels
        self.adaptor = nn.Conv2d(channels, channels, 1)  # sec. 3.2
        self.hidden = nn.Conv2d(channels, options.hidden, 1)  # sec. 3.4: segmentation head
        self.hidden_norm = nn.BatchNorm2d(options.hidden)
        self.judge = nn.Conv2d(options.hidden, 1, 1, bias=False)
        self.context = nn.Conv2d(  # sec. 3.4: classification head, on the adapted features and the predicted map
            channels + 1, CLASSIFIER_CHANNELS, CLASSIFIER_KERNEL, padding=CLASSIFIER_KERNEL // 2
        )
        self.context_norm = nn.BatchNorm2d(CLASSIFIER_CHANNELS)
        self.verdict = nn.Linear(2 * CLASSIFIER_CHANNELS + 2, 1)
        for layer in (self.adaptor, self.hidden, self.judge, self.context, self.verdict):
            nn.init.xavier_normal_(layer.weight)  # the authors' code
        with torch.no_grad():
            self.cells = features(torch.zeros(1, 3, options.image_size, options.image_size)).shape[-1]
        # The unpadded PDN has no cells at the border: the outermost ones stand in.
        border = CROPPED_CELLS if isinstance(features.backbone, PdnTrunk) else 0
        resized = resize_matrix(self.cells + 2 * border, options.image_size)
        rows = (
            blur_matrix(options.image_size, options.blur_sigma) @ resized @ pad_matrix(self.cells, border, repeat=True)
        )
        self.register_buffer("to_pixels", torch.from_numpy(rows).float(), persistent=False)

    def segment(self, adapted: Tensor) -> Tensor:
        """Anomaly of adapted features cell by cell: (N, channels, h, w) to (N, 1, h, w), positive for anomalies."""
        return self.judge(F.leaky_relu(self.hidden_norm(self.hidden(adapted)), SLOPE))

    def classify(self, adapted: Tensor, anomaly: Tensor) -> Tensor:
        """Anomaly of the whole image from (N, channels, h, w) and the map (N, 1, h, w): a logit (N,) (sec. 3.4)."""
        return self._verdict(self.context_norm(self.context(torch.cat([adapted, anomaly], dim=1))).relu(), anomaly)

    def _verdict(self, context: Tensor, anomaly: Tensor) -> Tensor:
        """Maximum and mean over the image of both, weighed; as a sum, for compilers without a float32 Gemm."""
        pooled = [context.amax((2, 3)), context.mean((2, 3)), anomaly.amax((2, 3)), anomaly.mean((2, 3))]
        return (torch.cat(pooled, dim=1) * self.verdict.weight).sum(1) + self.verdict.bias

    def perturb(self, adapted: Tensor, mask: Tensor, shape: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Every image twice, with Gaussian noise of some shape, but never on its defects (sec. 3.3, eq. 1).

        Args:
            adapted: (B, channels, h, w).
            mask: (B, 1, h, w), 1 where a defect is, else 0.
            shape: (2 B, 1, h, w), 1 where noise may go, else 0.
            noise: (2 B, channels, h, w) of unit variance.

        Returns:
            The perturbed features (2 B, channels, h, w) and their mask (2 B, 1, h, w).
        """
        adapted, mask = torch.cat([adapted, adapted]), torch.cat([mask, mask])
        synthetic = shape * (1 - mask)
        return adapted + self.noise * noise * synthetic, mask + synthetic

    def loss(self, perturbed: Tensor, mask: Tensor, label: Tensor, *, stop_gradient: bool) -> Tensor:
        """Segmentation by truncated L1 and focal loss, classification by focal loss, all of weight 1 (sec. 3.5, eq. 5).

        Args:
            perturbed: (N, channels, h, w) of `perturb`.
            mask: (N, 1, h, w), 1 where a defect is, real or not, else 0.
            label: (N,), 1 for anomalous images, else 0.
            stop_gradient: Whether the classification head leaves the segmentation head alone (unsupervised training).
        """
        anomaly = self.segment(perturbed)
        score = self.classify(perturbed, anomaly.detach() if stop_gradient else anomaly)
        anomaly, score = anomaly.float(), score.float()
        return truncated_l1(anomaly, mask, self.margin) + focal_loss(anomaly, mask) + focal_loss(score, label)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) normalised RGB to the anomaly map (N, H, W) and the classification head's logit (N,).

        What is linear in inference is one layer: the adaptor, each head's first convolution and the running
        statistics of its norm. Of all of them only the convolution of the features stays one. The segmentation head,
        which tells noise of 0.015, less than one step of INT8, and what reads its map are matrix products, which
        precision passes leave in float32.
        """
        features = self.features(image)
        hidden = F.leaky_relu(self._hidden(features.permute(0, 2, 3, 1)), SLOPE)
        anomaly = F.linear(hidden, self.judge.weight[..., 0, 0]).squeeze(-1)
        score = self._verdict(self._context(features, anomaly).relu(), anomaly[:, None])
        return self.to_pixels @ anomaly @ self.to_pixels.T, score

    def _hidden(self, features: Tensor) -> Tensor:
        """(N, h, w, channels) to (N, h, w, hidden)."""
        scale, shift = _affine(self.hidden_norm)
        weight = scale[:, None] * self.hidden.weight[..., 0, 0]
        bias = scale * self.hidden.bias + shift + weight @ self.adaptor.bias
        return F.linear(features, weight @ self.adaptor.weight[..., 0, 0], bias)

    def _context(self, features: Tensor, anomaly: Tensor) -> Tensor:
        """Features (N, channels, h, w) and map (N, h, w) to (N, CLASSIFIER_CHANNELS, h, w).

        The adaptor's bias ends where the convolution meets zeros beyond the border: what comes of it is a constant.
        """
        scale, shift = _affine(self.context_norm)
        kernel = scale[:, None, None, None] * self.context.weight
        of_adapted, of_anomaly = kernel[:, :-1].permute(0, 2, 3, 1), kernel[:, -1]
        of_features = (of_adapted @ self.adaptor.weight[..., 0, 0]).permute(0, 3, 1, 2)
        border = CLASSIFIER_KERNEL // 2
        inside = features.new_ones(1, 1, self.cells, self.cells)
        constant = F.conv2d(inside, (of_adapted @ self.adaptor.bias)[:, None], padding=border)
        constant = constant + (scale * self.context.bias + shift).view(-1, 1, 1)
        seen = _windows(anomaly, CLASSIFIER_KERNEL) @ of_anomaly.flatten(1).T
        return F.conv2d(features, of_features, padding=border) + seen.permute(0, 3, 1, 2) + constant


def _windows(anomaly: Tensor, side: int) -> Tensor:
    """(N, h, w) to (N, h, w, side^2): around every cell, row by row, zeros beyond the border."""
    height, width = anomaly.shape[1:]
    padded = F.pad(anomaly, [side // 2] * 4)
    return torch.stack([padded[:, y : y + height, x : x + width] for y in range(side) for x in range(side)], dim=-1)


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A norm of running statistics as x * scale + shift."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - scale * norm.running_mean


def truncated_l1(anomaly: Tensor, mask: Tensor, margin: float) -> Tensor:
    """Normal cells below -margin and anomalous ones above the margin cost nothing (eq. 3): both means, added."""
    anomalous = mask > 0
    cost = F.relu(margin + torch.where(anomalous, -anomaly, anomaly))
    of_normal, of_anomalous = cost[~anomalous], cost[anomalous]
    return of_normal.sum() / max(of_normal.numel(), 1) + of_anomalous.sum() / max(of_anomalous.numel(), 1)


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean of -(1 - p)^4 log(p), p the probability given to the target's class (Lin et al., ICCV 2017, eq. 4)."""
    cost = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - (-cost).exp()) ** FOCUS * cost).mean()
