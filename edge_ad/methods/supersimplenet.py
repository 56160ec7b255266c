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
    noise: float = option(
        0.05, "standard deviation of the feature noise; the paper: 0.015 for wide_resnet50_2, to be chosen by backbone"
    )
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
    steps: int = option(800, "training steps, some ten minutes on one core; the paper trains 300 epochs")
    batch_images: int = option(
        128, "random images a step, each drawn on twice, whose cells the segmentation head learns from; the paper: 32"
    )
    batch_cells: int = option(32, "random cells of each; the paper: all")
    whole_images: int = option(2, "images a step that the classification head learns from; the paper: 32")
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
        self.context = nn.Conv2d(  # sec. 3.4: classification head, on the features and the predicted map
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
        self.register_buffer("shifts", _shifts(self.cells, CLASSIFIER_KERNEL), persistent=False)

    def segment(self, adapted: Tensor) -> Tensor:
        """Anomaly of adapted features cell by cell: (N, channels, h, w) to (N, 1, h, w), positive for anomalies."""
        return self.judge(F.leaky_relu(self.hidden_norm(self.hidden(adapted)), SLOPE))

    def classify(self, features: Tensor, anomaly: Tensor) -> Tensor:
        """Anomaly of the whole image from its features (N, channels, h, w) and the map (N, 1, h, w): a logit (N,).

        Sec. 3.4, but for the features: they are the backbone's, not the adapted ones, as in the authors' later work
        (Rolih, Fučka, Skočaj, "No Label Left Behind", J. Intell. Manuf. 2025). The adaptor then learns from the
        segmentation head alone.
        """
        return self._verdict(self.context_norm(self.context(torch.cat([features, anomaly], dim=1))).relu(), anomaly)

    def _verdict(self, context: Tensor, anomaly: Tensor) -> Tensor:
        """Maximum and mean over the image of both, weighed; as a sum, for compilers without a float32 Gemm."""
        pooled = [context.amax((2, 3)), context.mean((2, 3)), anomaly.amax((2, 3)), anomaly.mean((2, 3))]
        return (torch.cat(pooled, dim=1) * self.verdict.weight).sum(1) + self.verdict.bias

    def perturb(self, features: Tensor, mask: Tensor, shape: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Every image twice, with Gaussian noise of some shape, but never on its defects (sec. 3.3, eq. 1).

        Args:
            features: (B, channels, h, w), not adapted.
            mask: (B, 1, h, w), 1 where a defect is, else 0.
            shape: (2 B, 1, h, w), 1 where noise may go, else 0.
            noise: (2 B, channels, h, w) of unit variance.

        Returns:
            The perturbed adapted features (2 B, channels, h, w), the features with the same noise, and their mask
            (2 B, 1, h, w).
        """
        adapted = self.adaptor(features).float()
        mask = torch.cat([mask, mask])
        synthetic = shape * (1 - mask)
        noise = self.noise * noise * synthetic
        return torch.cat([adapted, adapted]) + noise, torch.cat([features, features]) + noise, mask + synthetic

    def segmentation_loss(self, perturbed: Tensor, mask: Tensor) -> Tensor:
        """Truncated L1 and focal loss of the segmentation head (sec. 3.5, eq. 4).

        Args:
            perturbed: (N, channels, h, w) of `perturb`. The head sees cells one by one: any choice of them will do.
            mask: (N, 1, h, w), 1 where a defect is, real or not, else 0.
        """
        anomaly = self.segment(perturbed).float()
        return truncated_l1(anomaly, mask, self.margin) + focal_loss(anomaly, mask)

    def classification_loss(self, perturbed: Tensor, features: Tensor, label: Tensor, *, stop_gradient: bool) -> Tensor:
        """Focal loss of the classification head (sec. 3.5, eq. 5).

        Args:
            perturbed: (N, channels, h, w) of `perturb`, whole images.
            features: (N, channels, h, w) of `perturb`, likewise.
            label: (N,), 1 for anomalous images, else 0.
            stop_gradient: Whether this head leaves the segmentation head alone (unsupervised training).
        """
        anomaly = self.segment(perturbed)
        score = self.classify(features, anomaly.detach() if stop_gradient else anomaly)
        return focal_loss(score.float(), label)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) normalised RGB to the anomaly map (N, H, W) and the classification head's logit (N,).

        What is linear in inference is one layer: the adaptor, the segmentation head's first convolution and the running
        statistics of its norm, and of the classification head its convolution and norm. Of all of them only the
        convolution of the features stays one. The segmentation head, which tells noise of less than one step of INT8,
        and what reads its map are matrix products, which precision passes leave in float32.
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
        """Features (N, channels, h, w) and map (N, h, w) to (N, CLASSIFIER_CHANNELS, h, w)."""
        scale, shift = _affine(self.context_norm)
        kernel = scale[:, None, None, None] * self.context.weight
        of_features = F.conv2d(
            features, kernel[:, :-1], scale * self.context.bias + shift, padding=CLASSIFIER_KERNEL // 2
        )
        of_anomaly = kernel[:, -1].flatten(1) @ _windows(anomaly, self.shifts).flatten(2)
        return of_features + of_anomaly.unflatten(2, of_features.shape[2:])


def _shifts(cells: int, side: int) -> Tensor:
    """(side, cells, cells) of 0 and 1: the i-th times x is x moved by i - side // 2 cells, zeros beyond the border."""
    return torch.stack([torch.diag(torch.ones(cells - abs(by)), by) for by in range(-(side // 2), side // 2 + 1)])


def _windows(anomaly: Tensor, shifts: Tensor) -> Tensor:
    """(N, h, w) to (N, side^2, h, w): what lies around every cell, row by row."""
    side, cells, _ = shifts.shape
    by_row = (shifts.flatten(0, 1) @ anomaly).unflatten(1, (side, cells))
    by_column = (by_row @ shifts.flatten(0, 1).T).unflatten(3, (side, cells))
    return by_column.permute(0, 1, 3, 2, 4).flatten(1, 2)


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
