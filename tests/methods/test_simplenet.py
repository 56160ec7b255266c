"""SimpleNet against the paper's formulas, written out slowly."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from sklearn.metrics import log_loss
from torch import Tensor, nn

from edge_ad.errors import TrainingError
from edge_ad.methods.backbones import PdnTrunk, empty_backbone
from edge_ad.methods.pdn import PdnSmall
from edge_ad.methods.simplenet import LocalFeatures, SimpleNet, SimpleNetOptions

OPTIONS = SimpleNetOptions(image_size=64, hidden=16)


def simplenet(backbone: str = "resnet18", options: SimpleNetOptions = OPTIONS) -> SimpleNet:
    """Random weights, and statistics of the norm that are not those of a new layer."""
    torch.manual_seed(0)
    trunk = PdnTrunk(PdnSmall()) if backbone == "pdn-s" else empty_backbone(backbone, layers=options.layers)
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


@pytest.mark.parametrize(
    ("size", "layers", "channels", "stride"),
    [
        (1, (1,), 64, 4),  # the subsets of table 2 and the patch sizes of figure 6
        (3, (2,), 128, 8),
        (3, (3,), 256, 16),
        (3, (1, 2), 64 + 128, 4),
        (3, (2, 3), 128 + 256, 8),
        (5, (2, 3), 128 + 256, 8),
        (7, (1, 2, 3), 64 + 128 + 256, 4),
        (3, (1, 4), 64 + 512, 4),
    ],
)
def test_features_are_patch_averages_of_the_chosen_layers(
    size: int, layers: tuple[int, ...], channels: int, stride: int
) -> None:
    torch.manual_seed(0)
    whole, chosen = empty_backbone("resnet18", layers=(1, 2, 3, 4)), empty_backbone("resnet18", layers=layers)
    chosen.load_state_dict(whole.state_dict(), strict=False)
    image = torch.randn(2, 3, 64, 96)
    extractor = LocalFeatures(chosen, size)
    with torch.inference_mode():
        averages = [patch_average(feature, size) for feature in whole(image)]
        first = averages[layers[0] - 1]
        expected = torch.cat(
            [
                F.interpolate(averages[layer - 1], size=first.shape[-2:], mode="bilinear", align_corners=False)
                for layer in layers
            ],
            1,
        )
        torch.testing.assert_close(extractor(image), expected, atol=1e-5, rtol=1e-5)
    assert (extractor.channels, expected.shape[1:]) == (channels, (channels, 64 // stride, 96 // stride))


def test_a_patch_has_a_middle() -> None:
    with pytest.raises(TrainingError, match="no middle") as caught:
        SimpleNetOptions(patch_size=4)
    assert caught.value.got == 4


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


def test_cross_entropy_by_hand_and_by_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of being normal, of two normal and two anomalous patches: 0 costs ln 2 of either, ln 3 costs ln(4/3) of
    a normal one and ln 4 of an anomalous one. Scikit-learn's is the mean of both halves, the loss their sum."""
    network = simplenet(options=dataclasses.replace(OPTIONS, loss="cross-entropy"))
    logits = np.array([0, math.log(3), 0, math.log(3)])
    monkeypatch.setattr(network, "discriminate", lambda _: torch.tensor(logits)[:, None])
    loss = network.loss(torch.zeros(2, 384)).item()
    assert loss == pytest.approx((math.log(2) + math.log(4 / 3)) / 2 + (math.log(2) + math.log(4)) / 2)
    assert loss == pytest.approx(2 * log_loss([1, 1, 0, 0], 1 / (1 + np.exp(-logits))))


def slow_adaptor(network: SimpleNet, patches: np.ndarray) -> np.ndarray:
    """Table 3's three kinds in numpy."""
    if isinstance(network.adaptor, nn.Identity):
        return patches
    if isinstance(network.adaptor, nn.Linear):
        assert network.adaptor.bias is None
        return patches @ network.adaptor.weight.numpy().T
    first, _, second = network.adaptor
    bent = patches @ first.weight.numpy().T + first.bias.numpy()
    return np.where(bent > 0, bent, 0.2 * bent) @ second.weight.numpy().T + second.bias.numpy()


@pytest.mark.parametrize("adaptor", ["linear", "none", "complex"])
@pytest.mark.parametrize("noise", [0.015, 0.3])
def test_the_loss_is_that_of_patches_and_noisy_patches(adaptor: str, noise: float) -> None:
    network = simplenet(options=dataclasses.replace(OPTIONS, adaptor=adaptor, noise=noise))
    patches = torch.randn(50, 384)
    torch.manual_seed(7)
    loss = network.loss(patches).item()
    torch.manual_seed(7)
    adapted = slow_adaptor(network, patches.numpy())
    noisy = adapted + noise * torch.randn(50, 384).numpy()
    normal, anomalous = (slow_normality(network, values) for values in (adapted, noisy))
    assert loss == pytest.approx(slow_truncated_l1(list(normal), list(anomalous), 0.5), rel=1e-4)


def slow_normality(network: SimpleNet, adapted: np.ndarray) -> np.ndarray:
    """The discriminator in numpy: linear, norm by running statistics, leaky ReLU 0.2, linear without bias."""
    hidden = adapted @ network.hidden.weight.numpy().T + network.hidden.bias.numpy()
    spread = np.sqrt(network.norm.running_var.numpy() + network.norm.eps)
    hidden = (hidden - network.norm.running_mean.numpy()) / spread
    hidden = hidden * network.norm.weight.numpy() + network.norm.bias.numpy()
    return (np.where(hidden > 0, hidden, 0.2 * hidden) @ network.judge.weight.numpy().T)[..., 0]


@pytest.mark.parametrize(
    ("backbone", "layers", "adaptor"),
    [
        ("pdn-s", (2, 3), "linear"),
        ("resnet18", (2, 3), "linear"),
        ("resnet18", (3,), "none"),
        ("resnet18", (1, 2), "complex"),
        ("wide_resnet50_2", (2, 3), "linear"),
    ],
)
def test_the_deployed_map_is_the_training_path_upsampled_and_blurred(
    backbone: str, layers: tuple[int, ...], adaptor: str
) -> None:
    """With fewer layers to compute than training has; the score is that of the worst patch, before the blur."""
    network = simplenet(backbone, dataclasses.replace(OPTIONS, layers=layers, adaptor=adaptor))
    if backbone == "pdn-s":
        network.adaptor.weight *= 300  # random PDN features hardly vary
    torch.manual_seed(1)
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        anomaly_map, score = network(image)
        features = network.features(image).permute(0, 2, 3, 1)
    cells = features.shape[1]
    normality = slow_normality(network, slow_adaptor(network, features.numpy().astype(np.float64)))
    plain = torch.from_numpy(-normality)[:, None]
    np.testing.assert_allclose(score, plain.amax((1, 2, 3)), rtol=1e-5, atol=1e-5)
    if backbone == "pdn-s":  # 8 of 16 cells: the outermost stand in for those that an unpadded network lacks
        assert cells == 8
        plain = F.pad(plain, [4, 4, 4, 4], mode="replicate")
    upsampled = F.interpolate(plain, size=(64, 64), mode="bilinear", align_corners=False)[:, 0]
    expected = np.stack([gaussian_filter(one, sigma=4, mode="reflect") for one in upsampled.numpy()])
    np.testing.assert_allclose(anomaly_map, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01, "a map of constants would prove nothing"
    assert np.all(score.numpy() > expected.max((1, 2)) + 1e-4), "the blur takes something off the worst patch"


def test_the_papers_settings_are_the_defaults() -> None:
    options = SimpleNetOptions()
    assert (options.patch_size, options.noise, options.margin, options.blur_sigma) == (3, 0.015, 0.5, 4.0)
    assert (options.adaptor_learning_rate, options.discriminator_learning_rate) == (1e-4, 2e-4)
    assert (options.weight_decay, options.layers) == (1e-5, (2, 3))
    assert (options.adaptor, options.loss) == ("linear", "truncated-l1")
    assert SimpleNet(LocalFeatures(PdnTrunk(PdnSmall()), 3), OPTIONS).adaptor.bias is None
