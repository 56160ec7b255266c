"""SimpleNet: pretrained local features, a linear adaptor, noise as anomalies, a small discriminator.

Source: Liu, Zhou, Xu, Wang, "SimpleNet: A Simple Network for Image Anomaly Detection and Localization", CVPR 2023.
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

__all__ = ["LocalFeatures", "SimpleNet", "SimpleNetOptions"]

ADAPTORS = ("linear", "none", "complex")
LOSSES = ("truncated-l1", "cross-entropy")
SLOPE = 0.2  # of every leaky ReLU (sec. 4.3)


@dataclass(frozen=True, kw_only=True)
class SimpleNetOptions:
    """The paper's settings (sec. 4.3) but for the length of training, and the switches of its tables 2 to 4.

    The paper trains 160 epochs of 4 images. Its loss is flat long before; `steps` batches of `batch_patches`
    random patches of all training images take about a minute on two cores.

    Raises:
        TrainingError: A patch without a middle.
    """

    backbone: str = option(
        "pdn-s",
        "pretrained features (table 4); pdn-s is part of this package, the others need their weights",
        choices=tuple(BACKBONES),
    )
    weights: Path | None = option(None, "torchvision checkpoint of the backbone; never downloaded", metavar="FILE")
    layers: tuple[int, ...] = option((2, 3), "stages whose features are joined (table 2)", choices=(1, 2, 3, 4))
    image_size: int = option(256, "side of the network's input", metavar="PIXELS")
    patch_size: int = option(3, "side of the neighbourhood that features are averaged over, an odd number (figure 6)")
    adaptor: str = option(
        "linear", "one layer without bias, none, or two with a bend between (table 3)", choices=ADAPTORS
    )
    noise: float = option(0.015, "standard deviation of the feature noise (figure 5)")
    hidden: int = option(1024, "width of the discriminator (the authors' code)")
    loss: str = option("truncated-l1", "of eq. 7, or cross-entropy (table 3)", choices=LOSSES)
    margin: float = option(0.5, "th+ and th- of the truncated L1 loss (eq. 7)")
    adaptor_learning_rate: float = option(1e-4, "of Adam (sec. 4.3)")
    discriminator_learning_rate: float = option(2e-4, "of Adam (sec. 4.3)")
    weight_decay: float = option(1e-5, "of Adam (sec. 4.3)")
    blur_sigma: float = option(4.0, "smoothing of the map (sec. 3.6)", metavar="PIXELS")
    steps: int = option(1000, "training steps; the paper trains 160 epochs of 4 images")
    batch_patches: int = option(2048, "random patches a step")
    seed: int = option(0, "of every random choice")

    def __post_init__(self) -> None:
        if self.patch_size % 2 != 1:
            raise TrainingError(
                "A patch has no middle.", expected="an odd --patch-size: 1, 3, 5, ...", got=self.patch_size
            )


class LocalFeatures(nn.Module):
    """Locally aggregated features of a frozen backbone (sec. 3.1, eqs. 1-4).

    Maps (N, 3, H, W) normalised RGB to (N, channels, h, w) at the finest layer's resolution: each layer is averaged
    over patch_size x patch_size neighbours, brought to that resolution, and all are concatenated.
    """

    def __init__(self, backbone: FeatureExtractor, patch_size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.patch_size = patch_size
        self.channels = sum(backbone.out_channels)

    def forward(self, image: Tensor) -> Tensor:
        border = self.patch_size // 2
        maps = [
            F.avg_pool2d(feature, self.patch_size, 1, border, count_include_pad=False)
            for feature in self.backbone(image)
        ]
        size = maps[0].shape[-2:]
        return torch.cat([maps[0], *(F.interpolate(m, size=size, mode="bilinear") for m in maps[1:])], dim=1)


class SimpleNet(nn.Module):
    """Features, adaptor and discriminator; the anomaly generator exists in training only."""

    def __init__(self, features: LocalFeatures, options: SimpleNetOptions) -> None:
        super().__init__()
        self.features = features
        self.noise, self.margin, self.loss_name = options.noise, options.margin, options.loss
        self.adaptor = _adaptor(options.adaptor, features.channels)
        self.hidden = nn.Linear(features.channels, options.hidden)  # sec. 3.4: a perceptron of 2 layers discriminates
        self.norm = nn.BatchNorm1d(options.hidden)
        self.judge = nn.Linear(options.hidden, 1, bias=False)
        for layer in (*self.adaptor.modules(), self.hidden, self.judge):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)  # the authors' code
        rows = self._map_matrix(options)
        self.register_buffer("to_pixels", torch.from_numpy(rows).float(), persistent=False)

    def _map_matrix(self, options: SimpleNetOptions):
        """Cells of the feature grid to pixels of the input, blurred (sec. 3.6): one matrix for both axes."""
        with torch.no_grad():
            cells = self.features(torch.zeros(1, 3, options.image_size, options.image_size)).shape[-1]
        # The unpadded PDN has no cells at the border: the outermost ones stand in.
        border = CROPPED_CELLS if isinstance(self.features.backbone, PdnTrunk) else 0
        padded = pad_matrix(cells, border, repeat=True)
        resized = resize_matrix(cells + 2 * border, options.image_size)
        return blur_matrix(options.image_size, options.blur_sigma) @ resized @ padded

    def discriminate(self, adapted: Tensor) -> Tensor:
        """Normality of adapted patches, (P, channels) to (P, 1): positive for normal ones (sec. 3.4)."""
        return self.judge(F.leaky_relu(self.norm(self.hidden(adapted)), SLOPE))

    def loss(self, patches: Tensor) -> Tensor:
        """What it costs to take normal patches (P, channels) and the same with noise for each other (eqs. 5-7)."""
        adapted = self.adaptor(patches)
        anomalous = adapted + torch.randn_like(adapted) * self.noise
        normality = self.discriminate(torch.cat([adapted, anomalous]))
        of_normal, of_anomalous = normality.chunk(2)
        if self.loss_name == "cross-entropy":  # normality is the logit of being normal: -log s(y) and -log(1 - s(y))
            return F.softplus(-of_normal).mean() + F.softplus(of_anomalous).mean()
        return F.relu(self.margin - of_normal).mean() + F.relu(self.margin + of_anomalous).mean()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) normalised RGB to the anomaly map (N, H, W) and the score (N,).

        The score is that of the most anomalous patch (eq. 11), before upsampling and blur make the map (eq. 10).
        """
        patches = self.features(image).permute(0, 2, 3, 1)
        of_patches = -self.judge(F.leaky_relu(self._first_layers(patches), SLOPE)).squeeze(-1)
        anomaly_map = self.to_pixels @ of_patches @ self.to_pixels.T
        return anomaly_map, of_patches.amax((1, 2))

    def _first_layers(self, patches: Tensor) -> Tensor:
        """Adaptor, hidden layer and the running statistics of its norm: what is linear in inference is one layer.

        It stays a matrix product, which precision passes leave in float32: the discriminator tells noise of 0.015,
        less than one step of INT8.
        """
        scale = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
        weight = self.hidden.weight * scale[:, None]
        bias = (self.hidden.bias - self.norm.running_mean) * scale + self.norm.bias
        match self.adaptor:
            case nn.Linear() as linear:
                weight = weight @ linear.weight
            case nn.Sequential() as perceptron:
                patches = perceptron[:-1](patches)
                weight, bias = weight @ perceptron[-1].weight, bias + weight @ perceptron[-1].bias
        return F.linear(patches, weight, bias)


def _adaptor(name: str, channels: int) -> nn.Module:
    """Projects features to the target domain, as many channels to as many (sec. 3.2, table 3)."""
    if name == "linear":
        return nn.Linear(channels, channels, bias=False)
    if name == "none":
        return nn.Identity()
    return nn.Sequential(nn.Linear(channels, channels), nn.LeakyReLU(SLOPE), nn.Linear(channels, channels))
