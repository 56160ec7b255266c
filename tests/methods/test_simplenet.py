"""SimpleNet against the paper's formulas, written out slowly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from edge_ad.methods.backbones import PdnTrunk, empty_backbone
from edge_ad.methods.pdn import PdnSmall
from edge_ad.methods.simplenet import LocalFeatures, SimpleNet, SimpleNetOptions

OPTIONS = SimpleNetOptions(image_size=64, hidden=16)


def simplenet(backbone: str = "resnet18", options: SimpleNetOptions = OPTIONS) -> SimpleNet:
    """Random weights, and statistics of the norm that are not those of a new layer."""
    torch.manual_seed(0)
    trunk = PdnTrunk(PdnSmall()) if backbone == "pdn-s" else empty_backbone(backbone)
    network = SimpleNet(LocalFeatures(trunk, options.patch_size), options).eval()
    for values in (network.norm.running_mean, network.norm.weight.data, network.norm.bias.data):
        values.copy_(torch.randn(options.hidden))
    network.norm.running_var.uniform_(0.5, 2)
    return network.requires_grad_(False)


def patch_average(feature: Tensor, size: int) -> Tensor:
    """Mean of the size x size neighbours that exist, by unfolding ones beside the values."""
    channels, height, width = feature.shape[1:]
    kwargs = {"kernel_size": size, "padding": size // 2}
    sums = F.unfold(feature, **kwargs).reshape(len(feature), channels, size**2, height, width).sum(2)
    counts = F.unfold(torch.ones_like(feature[:, :1]), **kwargs).reshape(-1, 1, size**2, height, width).sum(2)
    return sums / counts


@pytest.mark.parametrize("size", [3, 5])
def test_features_are_patch_averages_of_all_layers(size: int) -> None:
    torch.manual_seed(0)
    backbone = empty_backbone("resnet18")
    image = torch.randn(2, 3, 64, 96)
    extractor = LocalFeatures(backbone, size)
    with torch.inference_mode():
        layer2, layer3 = (patch_average(feature, size) for feature in backbone(image))
        upsampled = F.interpolate(layer3, size=layer2.shape[-2:], mode="bilinear", align_corners=False)
        expected = torch.cat([layer2, upsampled], 1)
        torch.testing.assert_close(extractor(image), expected, atol=1e-5, rtol=1e-5)
    assert extractor.channels == expected.shape[1] == 128 + 256


def slow_truncated_l1(normal: list[float], anomalous: list[float], margin: float) -> float:
    """Equation 7 patch by patch: normality below the margin, and above minus the margin, costs."""
    of_normal = [max(0.0, margin - value) for value in normal]
    of_anomalous = [max(0.0, margin + value) for value in anomalous]
    return sum(of_normal) / len(normal) + sum(of_anomalous) / len(anomalous)


def test_truncated_l1_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normal 1.0, 0.2, -0.3 cost 0, 0.3, 0.8; anomalous -1.0, -0.1, 0.4 cost 0, 0.4, 0.9: 1.1 / 3 + 1.3 / 3."""
    network, normality = simplenet(), [1.0, 0.2, -0.3, -1.0, -0.1, 0.4]
    monkeypatch.setattr(network, "discriminate", lambda _: torch.tensor(normality)[:, None])
    assert network.loss(torch.zeros(3, 384)).item() == pytest.approx(0.8)
    assert slow_truncated_l1(normality[:3], normality[3:], 0.5) == pytest.approx(0.8)


def test_the_loss_is_that_of_patches_and_noisy_patches() -> None:
    network = simplenet()
    patches = torch.randn(50, 384)
    torch.manual_seed(7)
    loss = network.loss(patches).item()
    torch.manual_seed(7)
    adapted = patches.numpy() @ network.adaptor.weight.numpy().T
    noisy = adapted + 0.015 * torch.randn(50, 384).numpy()
    normal, anomalous = (slow_normality(network, values) for values in (adapted, noisy))
    assert loss == pytest.approx(slow_truncated_l1(list(normal), list(anomalous), 0.5), rel=1e-4)


def slow_normality(network: SimpleNet, adapted: np.ndarray) -> np.ndarray:
    """The discriminator in numpy: linear, norm by running statistics, leaky ReLU 0.2, linear without bias."""
    hidden = adapted @ network.hidden.weight.numpy().T + network.hidden.bias.numpy()
    spread = np.sqrt(network.norm.running_var.numpy() + network.norm.eps)
    hidden = (hidden - network.norm.running_mean.numpy()) / spread
    hidden = hidden * network.norm.weight.numpy() + network.norm.bias.numpy()
    return (np.where(hidden > 0, hidden, 0.2 * hidden) @ network.judge.weight.numpy().T)[:, 0]


@pytest.mark.parametrize("backbone", ["resnet18", "pdn-s"])
def test_the_deployed_map_is_the_training_path_upsampled_and_blurred(backbone: str) -> None:
    network = simplenet(backbone)
    if backbone == "pdn-s":
        network.adaptor.weight *= 300  # random PDN features hardly vary
    torch.manual_seed(1)
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        anomaly_map, score = network(image)
        features = network.features(image)
        cells = features.shape[-1]
        normality = network.discriminate(network.adaptor(features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])))
    plain = -normality.reshape(2, 1, cells, cells)
    if backbone == "pdn-s":  # 8 of 16 cells: the outermost stand in for those that an unpadded network lacks
        plain = F.pad(plain, [4, 4, 4, 4], mode="replicate")
    upsampled = F.interpolate(plain, size=(64, 64), mode="bilinear", align_corners=False)[:, 0]
    expected = np.stack([gaussian_filter(one, sigma=4, mode="reflect") for one in upsampled.numpy()])
    np.testing.assert_allclose(anomaly_map, expected, atol=1e-4)
    np.testing.assert_allclose(score, expected.max((1, 2)), atol=1e-4)
    assert expected.std() > 0.01, "a map of constants would prove nothing"


def test_the_papers_settings_are_the_defaults() -> None:
    options = SimpleNetOptions()
    assert (options.patch_size, options.noise, options.margin, options.blur_sigma) == (3, 0.015, 0.5, 4.0)
    assert (options.adaptor_learning_rate, options.discriminator_learning_rate) == (1e-4, 2e-4)
    assert options.weight_decay == 1e-5
    assert SimpleNet(LocalFeatures(PdnTrunk(PdnSmall()), 3), OPTIONS).adaptor.bias is None
