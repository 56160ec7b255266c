"""CutPaste against the paper's formulas, written out slowly, and against autograd."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import mahalanobis
from torch import Tensor

from edge_ad.methods.cutpaste import (
    CutPaste,
    CutPasteOptions,
    Gaussian,
    ImageDetector,
    PatchDetector,
    ProjectionHead,
    splat_matrix,
)

IMAGE = CutPasteOptions(stage=2, image_size=64)
PATCH = dataclasses.replace(IMAGE, level="patch", patch_size=32, stride=8, blur_sigma=5.0)


def cutpaste(options: CutPasteOptions) -> CutPaste:
    """Random weights, and in every member the density of some random embeddings."""
    torch.manual_seed(0)
    network = CutPaste(options).eval().requires_grad_(False)
    rng = np.random.default_rng(0)
    for member in network.members:
        channels = len(member.gaussian.mean)
        mixed = rng.normal(size=(4 * channels, channels)) @ rng.normal(size=(channels, channels)) * 0.01
        member.gaussian.fit(rng.normal(size=channels) * 0.05, np.cov(mixed, rowvar=False))
        member.usual.fill_(float(rng.uniform(2, 5)))
    return network


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_the_distance_is_that_of_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12))
    mean, covariance = samples.mean(0), np.cov(samples, rowvar=False)
    gaussian = Gaussian(12)
    gaussian.fit(mean, covariance)
    values = rng.normal(size=(20, 12)).astype(np.float32)
    distances = gaussian(torch.from_numpy(values)).norm(dim=1)
    inverse = np.linalg.inv(covariance)
    np.testing.assert_allclose(distances, [mahalanobis(value, mean, inverse) for value in values], rtol=1e-4)


def slow_score(member: ImageDetector | PatchDetector, features: Tensor) -> Tensor:
    """Pool, normalise, Mahalanobis by the inverse covariance: (C, h, w) to a number autograd can follow."""
    pooled = features.mean((1, 2))
    difference = (pooled / pooled.norm() - member.gaussian.mean).double()
    precision = member.gaussian.whitening.double().T @ member.gaussian.whitening.double()
    return (difference @ precision @ difference).sqrt().float() / member.usual


@pytest.mark.parametrize("stage", [2, 3])
def test_the_closed_form_is_gradcam_of_the_score(stage: int) -> None:
    """Selvaraju et al. (ICCV 2017): weights are the mean gradient over the cells; ours times the number of cells."""
    member = cutpaste(dataclasses.replace(IMAGE, stage=stage)).members[0]
    cells, scores = member(images(3))
    for index, features in enumerate(member.trunk(images(3))[-1]):
        features.requires_grad_()
        score = slow_score(member, features)
        (gradient,) = torch.autograd.grad(score, features)
        weights = gradient.mean((1, 2), keepdim=True)
        gradcam = (weights * features).sum(0).relu().detach()
        torch.testing.assert_close(scores[index], score.detach(), rtol=1e-4, atol=0)
        torch.testing.assert_close(cells[index], gradcam * gradcam.numel(), rtol=1e-3, atol=1e-3 * cells.max().item())
        assert 0 < (gradcam > 0).float().mean() < 1, "some cells speak for the anomaly, some against it"


def test_what_raises_the_distance_in_one_place_lowers_it_in_others() -> None:
    """The length of the pooled features does not count, so GradCAM's map without its ReLU sums to 0."""
    member = cutpaste(IMAGE).members[0]
    features = member.trunk(images(1))[-1][0].requires_grad_()
    score = slow_score(member, features)
    torch.testing.assert_close(score, slow_score(member, 3 * features))
    (gradient,) = torch.autograd.grad(score, features)
    contributions = (gradient.mean((1, 2), keepdim=True) * features).sum(0)
    assert contributions.sum().abs() < 1e-4 * contributions.abs().sum()


def test_cells_become_pixels_by_bilinear_interpolation() -> None:
    network = cutpaste(IMAGE)
    anomaly_map, score = network(images(2))
    cells, expected_score = network.members[0](images(2))
    expected = F.interpolate(cells[:, None], size=(64, 64), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(anomaly_map, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(score, expected_score)


def test_patches_are_judged_as_a_loop_over_crops_would() -> None:
    network = cutpaste(PATCH)
    member = network.members[0]
    distances, scores = member(images(2))
    expected = np.empty((2, 5, 5))
    for index, image in enumerate(images(2)):
        for row in range(5):
            for column in range(5):
                crop = image[:, 8 * row : 8 * row + 32, 8 * column : 8 * column + 32]
                features = member.trunk(crop[None])[-1][0]
                expected[index, row, column] = slow_score(member, features)
    np.testing.assert_allclose(distances, expected, rtol=1e-4)
    np.testing.assert_allclose(scores, expected.max((1, 2)), rtol=1e-4)
    assert expected.std() > 0.01 * expected.mean(), "a map of constants would prove nothing"


def slow_splat(cells: np.ndarray, stride: int, patch: int, size: int, sigma: float) -> np.ndarray:
    """Every cell's score times a Gaussian about its receptive field's centre, divided by the Gaussians alone."""
    y, x = np.mgrid[:size, :size] + 0.5
    total, weight = np.zeros((size, size)), np.zeros((size, size))
    for row, column in np.ndindex(*cells.shape):
        squared = (y - (row * stride + patch / 2)) ** 2 + (x - (column * stride + patch / 2)) ** 2
        kernel = np.exp(-0.5 * squared / sigma**2)
        total += cells[row, column] * kernel
        weight += kernel
    return total / weight


def test_a_patchs_score_spreads_over_its_receptive_field() -> None:
    network = cutpaste(PATCH)
    anomaly_map, score = network(images(2))
    distances, expected_score = network.members[0](images(2))
    expected = [slow_splat(cells.double().numpy(), 8, 32, 64, 5.0) for cells in distances]
    np.testing.assert_allclose(anomaly_map, expected, rtol=1e-4)
    torch.testing.assert_close(score, expected_score)


def test_pixels_far_from_every_patch_take_the_nearest_ones_score() -> None:
    """exp(-0.5 (200 / 1)^2) is 0 in double precision: weights are relative to the nearest cell's."""
    matrix = splat_matrix(np.array([50.0, 60.0]), 256, 1.0)
    np.testing.assert_allclose(matrix[255], [0, 1], atol=1e-12)
    np.testing.assert_allclose(matrix.sum(1), 1)


@pytest.mark.parametrize("options", [IMAGE, PATCH], ids=["image", "patch"])
def test_an_ensemble_answers_the_mean_of_its_members(options: CutPasteOptions) -> None:
    network = cutpaste(dataclasses.replace(options, ensemble=3))
    alone = []
    for member in network.members:
        one = CutPaste(options).eval()
        one.members[0].load_state_dict(member.state_dict())
        alone.append([output.detach().numpy() for output in one(images(2))])
    maps, scores = zip(*alone, strict=True)
    anomaly_map, score = network(images(2))
    np.testing.assert_allclose(anomaly_map, np.mean(maps, 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(score, np.mean(scores, 0), rtol=1e-4)
    assert np.std(scores, axis=0).min() > 0.01, "members differ"


def test_the_papers_patches_are_49_by_49() -> None:
    """(256 - 64) / 4 + 1 = 49 a side."""
    options = CutPasteOptions(level="patch", stage=1)
    network = CutPaste(options)
    assert network.members[0].cells == 49
    assert network.to_pixels.shape == (256, 49)


def test_the_head_is_512_wide_then_128_then_the_classes() -> None:
    for variant, classes in (("normal", 2), ("scar", 2), ("union", 2), ("3way", 3)):
        head = ProjectionHead(256, dataclasses.replace(IMAGE, variant=variant, head_layers=2))
        linear = [layer for layer in head if isinstance(layer, torch.nn.Linear)]
        assert [layer.in_features for layer in linear] == [256, 512, 512, 128]
        assert linear[-1].out_features == classes


def test_the_papers_settings_are_the_defaults() -> None:
    options = CutPasteOptions()
    assert (options.variant, options.level, options.stage, options.image_size) == ("3way", "image", 4, 256)
    assert (options.learning_rate, options.momentum, options.weight_decay) == (0.03, 0.9, 3e-5)
    assert (options.patch_size, options.stride, options.batch_images) == (64, 4, 32)
