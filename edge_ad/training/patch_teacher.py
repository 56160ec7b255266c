"""Train a teacher for patches of one size (Uninformed Students, sec. 3.1): distillation, triplets, compactness.

The pretrained network describes a patch by the means over space of its layers 2 and 3, of the patch enlarged to
that network's input. A linear decoder brings the teacher's 128 numbers to that description.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from edge_ad.frame import Image, read_image
from edge_ad.methods.backbones import FeatureExtractor, load_backbone
from edge_ad.methods.patch_network import DESCRIPTOR, PatchNetwork, shipped_patch_teacher_path
from edge_ad.progress import Progress
from edge_ad.training.checkpoint import load_checkpoint, save_checkpoint, write_options, write_whole
from edge_ad.training.device import half_precision, training_device
from edge_ad.training.images import endless, natural_images, normalise
from edge_ad.training.schedule import warm_up_cosine

__all__ = ["PatchTeacherOptions", "compactness_loss", "distill_patches", "triplet_loss"]

MIN_IMAGES = 20
HELD_OUT_FRACTION = 0.05
HELD_OUT_PATCHES = 512
STATISTICS_PATCHES = 2048
VALIDATE_EVERY = 250
CACHED_IMAGES = 1000
# The supplement's augmentation. A patch is a crop of an image resized to n x n, n from 4p to 16p.
SMALLEST_SCALE, LARGEST_SCALE = 4, 16
GREYSCALE_PROBABILITY = 0.1
TRANSLATION = 0.25  # of (p - 1), the largest shift of a positive patch
LUMINANCE = (0.8, 1.2)
NOISE = 0.1


@dataclass(frozen=True, kw_only=True)
class PatchTeacherOptions:
    """What a teacher is made of.

    The paper trains 50,000 steps of 64 patches of ImageNet with Adam at 2e-4, and enlarges patches to 224 pixels.
    With fewer steps a higher peak with warm-up and cosine decay gets further, and enlarging to 64 pixels leaves
    most of the time to the teacher. The weights of the terms are those the paper found best for textures and
    objects, distillation and compactness without triplets, but a tenth of the compactness: a short training has no
    time for more.
    """

    images: Path
    output: Path
    patch: int = 33
    backbone: str = "resnet18"
    weights: Path | None = None
    enlarged: int = 64
    steps: int = 4500
    batch: int = 64
    peak_learning_rate: float = 2e-3
    weight_decay: float = 1e-5
    distillation: float = 1.0  # lambda_k
    metric: float = 0.0  # lambda_m
    compactness: float = 0.1  # lambda_c
    margin: float = 1.0  # delta of the triplets
    seed: int = 0


class _Learner(nn.Module):
    """The teacher, its decoder, and the scale of the pretrained descriptions; what a checkpoint holds."""

    def __init__(self, options: PatchTeacherOptions, channels: int) -> None:
        super().__init__()
        full_stride = 8  # every pool keeps its stride: a patch has one descriptor
        self.teacher = PatchNetwork(options.patch, output_stride=full_stride)
        self.decoder = nn.Linear(DESCRIPTOR, channels)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def loss(self, patches: Tensor, positives: Tensor | None, target: Tensor, options: PatchTeacherOptions) -> Tensor:
        """lambda_k L_k + lambda_m L_m + lambda_c L_c of a batch (eq. 6)."""
        inputs = patches if positives is None else torch.cat([patches, positives])
        with half_precision(patches.device):
            descriptors = self.teacher(inputs).flatten(1)
        anchors = descriptors[: len(patches)].float()
        loss = options.distillation * F.mse_loss(self.decoder(anchors), target)
        if options.compactness:
            loss = loss + options.compactness * compactness_loss(anchors)
        if positives is not None:
            negatives = anchors.roll(1, 0)  # the patches of a batch come from different images
            similar = descriptors[len(patches) :].float()
            loss = loss + options.metric * triplet_loss(anchors, similar, negatives, options.margin)
        return loss


def triplet_loss(anchors: Tensor, positives: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """Mean over triplets of max(0, margin + d(a, p) - min(d(a, n), d(p, n))), d squared (eqs. 2-4); (N, d) each.

    Taking the nearer of anchor and positive is the in-triplet hard negative mining with anchor swap of Balntas
    et al., "Learning local feature descriptors with triplets and shallow convolutional neural networks", BMVC 2016.
    """
    to_positive = (anchors - positives).square().sum(1)
    to_negative = torch.minimum((anchors - negatives).square().sum(1), (positives - negatives).square().sum(1))
    return F.relu(margin + to_positive - to_negative).mean()


def compactness_loss(descriptors: Tensor) -> Tensor:
    """Mean squared correlation of two different entries over a batch (eq. 5); (N, d).

    The paper prints the plain sum, which is smallest where correlations are negative; squares, as in L2-Net (Tian
    et al., CVPR 2017) where the term is from, are smallest where there are none. The mean, like that of the
    distillation, keeps the terms' balance whatever the lengths: as a sum over 16,256 pairs, most of it chance in a
    batch of 64, this term leaves nothing of the distillation.
    """
    scaled = F.normalize(descriptors - descriptors.mean(0), dim=0)
    correlations = scaled.T @ scaled
    off_diagonal = correlations.square().sum() - correlations.diagonal().square().sum()
    return off_diagonal / (correlations.numel() - len(correlations))


def distill_patches(options: PatchTeacherOptions) -> Path:
    """Train a teacher; returns the path of its float16 state dict, `patch_teacher_<p>.safetensors`.

    Resumes from `checkpoint.pt` in the output folder. Writes `loss.csv` as it goes.
    """
    paths = natural_images(options.images, MIN_IMAGES)
    held_out = paths[:: math.ceil(1 / HELD_OUT_FRACTION)]
    training = sorted(set(paths) - set(held_out))
    options.output.mkdir(parents=True, exist_ok=True)
    write_options(options.output, options)

    device = training_device()
    torch.manual_seed(options.seed)
    backbone = load_backbone(options.backbone, weights=options.weights).to(device, memory_format=torch.channels_last)
    learner = _Learner(options, sum(backbone.out_channels)).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(learner.parameters(), lr=options.peak_learning_rate, weight_decay=options.weight_decay)
    checkpoint = options.output / "checkpoint.pt"
    state = load_checkpoint(checkpoint)
    if state is None:
        _measure_descriptions(learner, backbone, training, options)
        step, curve = 0, []
    else:
        learner.load_state_dict(state["learner"])
        optimiser.load_state_dict(state["optimiser"])
        step, curve = state["step"], state["curve"]

    examination = _examination(learner, backbone, held_out, options)
    source = _PatchSource(training, options, np.random.default_rng((options.seed, step)))
    with Progress(f"distilling patches of {options.patch} pixels", options.steps, step) as progress:
        while step < options.steps:
            for group in optimiser.param_groups:
                group["lr"] = options.peak_learning_rate * warm_up_cosine(step, options.steps)
            patches, positives = source.batch(options.batch)
            patches = patches.to(device)
            target = _target(learner, backbone, patches, options)
            loss = learner.loss(patches, positives.to(device) if options.metric else None, target, options)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            progress.step(loss=f"{loss.item():.3f}")
            if step % VALIDATE_EVERY == 0 or step == options.steps:
                curve.append([step, loss.item(), _unexplained(learner, *examination)])
                _write_curve(options.output / "loss.csv", curve)
                save_checkpoint(
                    checkpoint,
                    {
                        "learner": learner.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "step": step,
                        "curve": curve,
                    },
                )
    teacher = options.output / shipped_patch_teacher_path(options.patch).name
    save_file({key: value.half().cpu().contiguous() for key, value in learner.teacher.state_dict().items()}, teacher)
    return teacher


@torch.no_grad()
def _describe(backbone: FeatureExtractor, patches: Tensor, enlarged: int) -> Tensor:
    """The pretrained network's descriptions of normalised patches (N, 3, p, p): (N, channels)."""
    size = (enlarged, enlarged)
    with half_precision(patches.device):
        layers = backbone(
            F.interpolate(patches, size=size, mode="bilinear").contiguous(memory_format=torch.channels_last)
        )
    return torch.cat([layer.float().mean((2, 3)) for layer in layers], 1)


def _target(learner: _Learner, backbone: FeatureExtractor, patches: Tensor, options: PatchTeacherOptions) -> Tensor:
    return (_describe(backbone, patches, options.enlarged) - learner.mean) / learner.std


def _measure_descriptions(
    learner: _Learner, backbone: FeatureExtractor, paths: list[Path], options: PatchTeacherOptions
) -> None:
    """Mean and standard deviation of every channel of the descriptions, so that each counts as much."""
    source = _PatchSource(paths, options, np.random.default_rng((options.seed, 1)))
    described = []
    with Progress("patch statistics", STATISTICS_PATCHES) as progress:
        while len(described) * options.batch < STATISTICS_PATCHES:
            patches, _ = source.batch(options.batch)
            described.append(_describe(backbone, patches.to(learner.mean.device), options.enlarged))
            progress.step(options.batch)
    every = torch.cat(described)
    learner.mean.copy_(every.mean(0))
    learner.std.copy_(every.std(0).clamp_min(1e-6))


def _examination(
    learner: _Learner, backbone: FeatureExtractor, paths: list[Path], options: PatchTeacherOptions
) -> tuple[Tensor, Tensor]:
    """Patches of held-out images and their targets, the same ones all along."""
    patches, _ = _PatchSource(paths, options, np.random.default_rng(options.seed)).batch(HELD_OUT_PATCHES)
    patches = patches.to(learner.mean.device)
    return patches, torch.cat([_target(learner, backbone, chunk, options) for chunk in patches.split(options.batch)])


@torch.no_grad()
def _unexplained(learner: _Learner, patches: Tensor, target: Tensor) -> float:
    """Mean squared error of the decoded descriptors, per normalised channel: 1 explains nothing, 0 everything."""
    with half_precision(patches.device):
        descriptors = torch.cat([learner.teacher(chunk).flatten(1) for chunk in patches.split(64)])
    return F.mse_loss(learner.decoder(descriptors.float()), target).item()


class _PatchSource:
    """Endless random patches of images and, of each, a positive: shifted, brighter or darker, noisy (sec. 3.1)."""

    def __init__(self, paths: list[Path], options: PatchTeacherOptions, rng: np.random.Generator) -> None:
        self.patch, self.with_positives, self.rng = options.patch, bool(options.metric), rng
        self.paths: Iterator[Path] = endless(paths, rng)

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Patches and positives, (count, 3, p, p) normalised RGB each; without triplets, no positives."""
        pairs = [self._pair(_cached_image(next(self.paths))) for _ in range(count)]
        patches = _to_tensor([patch for patch, _ in pairs])
        if not self.with_positives:
            return normalise(patches), patches[:0]
        positives = _to_tensor([positive for _, positive in pairs])
        factor = torch.from_numpy(self.rng.uniform(*LUMINANCE, (count, 1, 1, 1))).float()
        noise = torch.from_numpy(self.rng.normal(0, NOISE, positives.shape)).float()
        return normalise(patches), normalise(positives * factor + noise)

    def _pair(self, image: Image) -> tuple[Image, Image]:
        side = int(self.rng.integers(SMALLEST_SCALE * self.patch, LARGEST_SCALE * self.patch + 1))
        corner = self.rng.integers(0, side - self.patch + 1, 2)
        reach = round(TRANSLATION * (self.patch - 1))
        shifted = np.clip(corner + self.rng.integers(-reach, reach + 1, 2), 0, side - self.patch)
        crop = _crop(image, side, corner, self.patch)
        positive = _crop(image, side, shifted, self.patch) if self.with_positives else crop
        if self.rng.random() < GREYSCALE_PROBABILITY:
            crop, positive = _grey(crop), _grey(positive)
        return crop, positive


def _crop(image: Image, side: int, corner: np.ndarray, patch: int) -> Image:
    """The patch at `corner` (row, column) of the image resized to side x side; only the patch is resized."""
    scale = np.array(image.shape[:2]) / side
    top, left = np.floor(corner * scale).astype(int)
    height, width = np.maximum(1, np.round(patch * scale)).astype(int)
    region = image[top : top + height, left : left + width]
    interpolation = cv2.INTER_AREA if min(height, width) > patch else cv2.INTER_LINEAR
    resized: Image = cv2.resize(region, (patch, patch), interpolation=interpolation)  # type: ignore[assignment]
    return resized


def _grey(patch: Image) -> Image:
    grey: Image = cv2.cvtColor(cv2.cvtColor(patch, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)  # type: ignore[assignment]
    return grey


def _to_tensor(patches: list[Image]) -> Tensor:
    """(N, 3, p, p) float32 RGB in [0, 1]."""
    return torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).flip(1).float() / 255


@lru_cache(maxsize=CACHED_IMAGES)
def _cached_image(path: Path) -> Image:
    """A small patch costs less than decoding the image it comes from."""
    return read_image(path)


def _write_curve(path: Path, curve: list[list[float]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["step", "training_loss", "held_out_unexplained"])
    writer.writerows(curve)
    write_whole(path, text.getvalue().encode())
