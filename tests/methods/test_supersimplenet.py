"""SuperSimpleNet against the paper's formulas, written out slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from edge_ad.errors import TrainingError
from edge_ad.methods.backbones import PdnTrunk, empty_backbone
from edge_ad.methods.pdn import PdnSmall
from edge_ad.methods.supersimplenet import (
    SuperSimpleNet,
    SuperSimpleNetOptions,
    UpscaledFeatures,
    focal_loss,
    truncated_l1,
)

OPTIONS = SuperSimpleNetOptions(image_size=64, hidden=16)


def supersimplenet(backbone: str = "resnet18") -> SuperSimpleNet:
    """Random weights, and statistics of the norms that are not those of a new layer."""
    torch.manual_seed(0)
    trunk = PdnTrunk(PdnSmall()) if backbone == "pdn-s" else empty_backbone(backbone)
    network = SuperSimpleNet(UpscaledFeatures(trunk, 3), OPTIONS).eval()
    for norm in (network.hidden_norm, network.context_norm):
        for values in (norm.running_mean, norm.weight.data, norm.bias.data):
            values.copy_(torch.randn_like(values))
        norm.running_var.uniform_(0.5, 2)
    network.adaptor.bias.data.normal_()
    return network


def slow_upscaled(layer: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, corners on corners: pixel i lies at i (old - 1) / (new - 1); (channels, h, w)."""
    for axis in (1, 2):
        old = layer.shape[axis]
        positions = np.arange(size) * (old - 1) / (size - 1)
        low = np.minimum(positions.astype(int), old - 2)
        share = (positions - low).reshape([-1 if a == axis else 1 for a in range(3)])
        layer = (1 - share) * np.take(layer, low, axis) + share * np.take(layer, low + 1, axis)
    return layer


def test_features_are_twice_the_finest_layer_and_averaged_with_zeros_beyond_the_border() -> None:
    torch.manual_seed(0)
    backbone = empty_backbone("resnet18")
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        layers = [layer[0].double().numpy() for layer in backbone(image)]
        features = UpscaledFeatures(backbone, 3)(image)[0]
    joined = np.pad(np.concatenate([slow_upscaled(layer, 16) for layer in layers]), ((0, 0), (1, 1), (1, 1)))
    expected = sum(joined[:, i : i + 16, j : j + 16] for i in range(3) for j in range(3)) / 9
    assert features.shape == (128 + 256, 16, 16)
    np.testing.assert_allclose(features, expected, atol=1e-5, rtol=1e-4)


def test_a_pdn_keeps_its_own_resolution() -> None:
    extractor = UpscaledFeatures(PdnTrunk(PdnSmall()).eval(), 3)
    layer = torch.randn(1, 384, 8, 8)
    torch.testing.assert_close(extractor.join([layer]), F.avg_pool2d(layer, 3, 1, 1))


def test_focal_loss_by_hand() -> None:
    """Probabilities 0.75 and 0.5 of the right class: (0.25^4 ln(4/3) + 0.5^4 ln 2) / 2."""
    logits = torch.tensor([math.log(3.0), 0.0])
    expected = (0.25**4 * math.log(4 / 3) + 0.5**4 * math.log(2)) / 2
    assert focal_loss(logits, torch.tensor([1.0, 0.0])).item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_is_the_formula_for_every_logit() -> None:
    logits, target = torch.linspace(-6, 6, 25), torch.arange(25) % 2
    costs = []
    for logit, positive in zip(logits.tolist(), target.tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        right = p if positive else 1 - p
        costs.append(-((1 - right) ** 4) * math.log(right))
    assert focal_loss(logits, target.float()).item() == pytest.approx(sum(costs) / 25, rel=1e-4)


def test_truncated_l1_by_hand() -> None:
    """Normal -1.0, -0.2, 0.3 cost 0, 0.3, 0.8; anomalous 0.1 costs 0.4: 1.1 / 3 + 0.4. Without anomalies 1.1 / 3."""
    anomaly, mask = torch.tensor([-1.0, -0.2, 0.3, 0.1]), torch.tensor([0.0, 0, 0, 1])
    assert truncated_l1(anomaly, mask, 0.5).item() == pytest.approx(1.1 / 3 + 0.4)
    assert truncated_l1(anomaly[:3], mask[:3], 0.5).item() == pytest.approx(1.1 / 3)
    assert truncated_l1(anomaly[3:], mask[3:], 0.5).item() == pytest.approx(0.4)


def test_noise_goes_where_the_shape_is_and_never_on_a_real_defect() -> None:
    network = supersimplenet()
    features = torch.randn(1, 384, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2, :] = 1
    shape = torch.zeros(2, 1, 4, 4)
    shape[0, ..., :3] = 1  # the second copy stays as it is
    with torch.inference_mode():
        *perturbed, perturbed_mask = network.perturb(features, mask, shape, torch.ones(2, 384, 4, 4))
        for before, after in zip((network.adaptor(features), features), perturbed, strict=True):
            changed = (after - before).abs().amax(1) > 0
            assert changed[0].tolist() == [[False] * 4] * 2 + [[True, True, True, False]] * 2
            assert not changed[1].any()
            torch.testing.assert_close((after - before)[0, :, 2, 0], torch.full((384,), 0.05), atol=1e-6, rtol=0)
    assert torch.equal(perturbed_mask[0, 0] > 0, changed[0] | (mask[0, 0] > 0))
    assert torch.equal(perturbed_mask[1], mask[0])


def test_the_classification_head_pools_the_maximum_and_the_mean_of_both() -> None:
    network = supersimplenet()
    context, anomaly = torch.zeros(1, 128, 2, 2), torch.tensor([[[[4.0, 0.0], [0.0, 8.0]]]])
    context[0, 5] = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    weight, bias = network.verdict.weight[0], network.verdict.bias[0]
    expected = 3 * weight[5] + 1 * weight[128 + 5] + 8 * weight[256] + 3 * weight[257] + bias
    torch.testing.assert_close(network._verdict(context, anomaly)[0], expected)


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_the_classification_head_moves_the_segmentation_head_only_where_gradients_may_pass(stop_gradient: bool) -> None:
    network = supersimplenet()
    adapted, features = (torch.randn(2, 384, 8, 8, requires_grad=True) for _ in range(2))
    label = torch.tensor([0.0, 1.0])
    network.classification_loss(adapted, features, label, stop_gradient=stop_gradient).backward()
    assert (network.judge.weight.grad is None) == stop_gradient
    assert (network.hidden.weight.grad is None) == stop_gradient
    assert (adapted.grad is None) == stop_gradient
    assert network.context.weight.grad.abs().max() > 0
    assert features.grad.abs().max() > 0


def test_the_losses_are_those_of_the_heads() -> None:
    network = supersimplenet()
    adapted, features = torch.randn(2, 384, 8, 8), torch.randn(2, 384, 8, 8)
    mask = (torch.rand(2, 1, 8, 8) > 0.7).float()
    label = torch.tensor([0.0, 1.0])
    with torch.inference_mode():
        anomaly, score = slow_heads(network, adapted, features)
        expected = truncated_l1(anomaly, mask, 0.5) + focal_loss(anomaly, mask)
        torch.testing.assert_close(network.segmentation_loss(adapted, mask), expected)
        loss = network.classification_loss(adapted, features, label, stop_gradient=True)
        torch.testing.assert_close(loss, focal_loss(score, label))


def test_the_segmentation_head_sees_cells_one_by_one() -> None:
    """Any cells as an image of one column have the loss they have in place."""
    network = supersimplenet()
    adapted, mask = torch.randn(2, 384, 8, 8), (torch.rand(2, 1, 8, 8) > 0.7).float()
    with torch.inference_mode():
        columns = (one.flatten(2)[..., torch.randperm(64), None] for one in (adapted, torch.ones_like(mask)))
        loss = network.segmentation_loss(*columns)
        torch.testing.assert_close(loss, network.segmentation_loss(adapted, torch.ones_like(mask)))


def slow_heads(network: SuperSimpleNet, adapted: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Both heads layer by layer: norms by running statistics, the 5x5 convolution by unfolding."""

    def normed(x: Tensor, norm: torch.nn.BatchNorm2d) -> Tensor:
        mean, var, weight, bias = (
            v.view(-1, 1, 1) for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        return (x - mean) / (var + norm.eps).sqrt() * weight + bias

    hidden = torch.einsum("oi,nihw->nohw", network.hidden.weight[..., 0, 0], adapted)
    hidden = normed(hidden + network.hidden.bias.view(-1, 1, 1), network.hidden_norm)
    hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    anomaly = torch.einsum("oi,nihw->nohw", network.judge.weight[..., 0, 0], hidden)
    seen = torch.cat([features, anomaly], 1)
    context = network.context.weight.flatten(1) @ F.unfold(seen, 5, padding=2)
    context = context.unflatten(2, seen.shape[2:]) + network.context.bias.view(-1, 1, 1)
    context = normed(context, network.context_norm).clamp(min=0)
    pooled = [x.flatten(2) for x in (context, anomaly)]
    values = torch.cat([pooled[0].max(2)[0], pooled[0].mean(2), pooled[1].max(2)[0], pooled[1].mean(2)], 1)
    return anomaly, (values @ network.verdict.weight.T + network.verdict.bias)[:, 0]


@pytest.mark.parametrize("backbone", ["resnet18", "pdn-s"])
def test_the_deployed_graph_is_the_training_path_upsampled_and_blurred(backbone: str) -> None:
    """Merged layers and all, up to the border."""
    network = supersimplenet(backbone)
    if backbone == "pdn-s":
        network.adaptor.weight.data *= 300  # random PDN features hardly vary
    torch.manual_seed(1)
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        anomaly_map, score = network(image)
        anomaly, expected_score = slow_heads(network, network.adaptor(network.features(image)), network.features(image))
    if backbone == "pdn-s":  # 8 of 16 cells: the outermost stand in for those that an unpadded network lacks
        anomaly = F.pad(anomaly, [4, 4, 4, 4], mode="replicate")
    upsampled = F.interpolate(anomaly, size=(64, 64), mode="bilinear", align_corners=False)[:, 0]
    expected = np.stack([gaussian_filter(one, sigma=4, mode="reflect") for one in upsampled.numpy()])
    np.testing.assert_allclose(anomaly_map, expected, atol=1e-4)
    torch.testing.assert_close(score, expected_score, atol=1e-4, rtol=1e-4)
    assert expected.std() > 1e-3, "a map of constants would prove nothing"


def test_the_papers_settings_are_the_defaults() -> None:
    options = SuperSimpleNetOptions()
    assert (options.patch_size, options.margin, options.perlin_threshold) == (3, 0.5, 0.2)
    assert (options.adaptor_learning_rate, options.head_learning_rate, options.decay) == (1e-4, 2e-4, 0.4)
    assert (options.hidden, options.weight_decay, options.blur_sigma) == (1024, 1e-5, 4.0)


def test_an_even_patch_is_refused() -> None:
    with pytest.raises(TrainingError, match="no middle"):
        SuperSimpleNetOptions(patch_size=4)
