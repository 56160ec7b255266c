"""Train CutPaste: a classifier of pasted pieces, then the Gaussian of its embeddings of normal images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

from edge_ad.errors import TrainingError, WeightsNotFound
from edge_ad.frame import Image
from edge_ad.methods.backbones import load_backbone
from edge_ad.methods.cutpaste import CLASSES, CutPaste, CutPasteOptions, Detector, PatchDetector, ProjectionHead
from edge_ad.progress import Progress
from edge_ad.training.checkpoint import load_checkpoint, save_checkpoint
from edge_ad.training.defects import colour_jitter, paste_patch, paste_scar
from edge_ad.training.device import half_precision, training_device
from edge_ad.training.images import endless, load_rgb, normalise
from edge_ad.training.registry import Method
from edge_ad.training.run import Split

__all__ = ["METHOD", "classified_views", "empty_cutpaste", "fit_cutpaste"]

CHECKPOINT_EVERY = 50
TRANSLATION = 0.05  # of the side; the paper shifts and jitters its inputs (sec. 2.1) and does not say how far
DENSITY_PATCHES = 128  # random ones of each training image, for the Gaussian


def empty_cutpaste(options: CutPasteOptions) -> CutPaste:
    """A CutPaste of random weights, for a run's tensors to be loaded into."""
    return CutPaste(options)


def fit_cutpaste(split: Split, options: CutPasteOptions, folder: Path) -> CutPaste:
    """Fit on the training images of `split`; resumes from `folder`/checkpoint.pt.

    Raises:
        TrainingError: Patches larger than the image, or a training that diverged.
        WeightsNotFound: The pretrained weights are missing, or end before `stage`.
    """
    _check(options)
    device = training_device()
    network = CutPaste(options)
    heads = nn.ModuleList(_begin(member, options, index) for index, member in enumerate(network.members))
    network.to(device, memory_format=torch.channels_last)
    heads.to(device)
    optimisers = [_optimiser(*pair, options) for pair in zip(network.members, heads, strict=True)]
    step = _resume(network, heads, optimisers, folder)
    _train(network, heads, optimisers, step, split.training, options, folder)
    network.eval()
    for member in network.members:
        _fit_density(member, split, options, device)
    return network.cpu().to(memory_format=torch.contiguous_format)


def _check(options: CutPasteOptions) -> None:
    if options.level == "patch" and not (options.stride >= 1 and 1 <= options.patch_size <= options.image_size):
        raise TrainingError(
            "There are no such patches.",
            expected=f"a --patch-size up to the --image-size of {options.image_size}, and a --stride from 1 up",
            got=f"--patch-size {options.patch_size}, --stride {options.stride}",
        )
    if options.ensemble < 1:
        raise TrainingError("An ensemble of none cannot be trained.", expected="--ensemble 1 or more", got=0)


def _begin(member: Detector, options: CutPasteOptions, index: int) -> ProjectionHead:
    """The trunk's first weights, pretrained or those of He et al. (ICCV 2015), and a new head."""
    torch.manual_seed(options.seed + index)
    if options.pretrained:
        member.trunk.load_state_dict(_pretrained(options).state_dict())
    else:
        for module in member.trunk.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return ProjectionHead(member.trunk.out_channels[-1], options)


def _pretrained(options: CutPasteOptions) -> nn.Module:
    try:
        return load_backbone(options.backbone, layers=(options.stage,), weights=options.weights)
    except WeightsNotFound as exc:
        raise WeightsNotFound(
            exc.what,
            expected=exc.expected,
            got=exc.got,
            fix=f"pass torchvision's checkpoint of {options.backbone} as --weights FILE, ask for no stage beyond the "
            f"file's last (--stage {max(1, options.stage - 1)}), or train from scratch with --no-pretrained",
        ) from exc


def _optimiser(member: Detector, head: ProjectionHead, options: CutPasteOptions) -> torch.optim.SGD:
    of_trunk = options.trunk_learning_rate if options.pretrained else options.learning_rate
    groups = [
        {"params": list(head.parameters()), "highest_lr": options.learning_rate},
        {"params": list(member.trunk.parameters()), "highest_lr": of_trunk},
    ]
    return torch.optim.SGD(
        groups, lr=options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
    )


def _train(
    network: CutPaste,
    heads: nn.ModuleList,
    optimisers: list[torch.optim.SGD],
    step: int,
    paths: list[Path],
    options: CutPasteOptions,
    folder: Path,
) -> None:
    """One member after the other, `options.steps` each."""
    batches = _batches(paths, options, np.random.default_rng((options.seed, step)))
    total = options.ensemble * options.steps
    with Progress("training CutPaste", total, step) as progress:
        while step < total:
            index, own_step = divmod(step, options.steps)
            loss = _step(network.members[index], heads[index], optimisers[index], own_step, next(batches), options)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"Training diverged at step {step}.",
                    expected="a finite loss",
                    got=loss,
                    fix="lower --learning-rate and --trunk-learning-rate",
                )
            step += 1
            progress.step(loss=f"{loss:.3f}")
            if step % CHECKPOINT_EVERY == 0 and step < total:
                _save(network, heads, optimisers, step, folder)


def _step(
    member: Detector,
    head: ProjectionHead,
    optimiser: torch.optim.SGD,
    step: int,
    batch: tuple[Tensor, Tensor],
    options: CutPasteOptions,
) -> float:
    """One step of SGD; a pretrained trunk keeps its batch norms' statistics, and in the warm-up all its weights."""
    for group in optimiser.param_groups:
        group["lr"] = group["highest_lr"] * 0.5 * (1 + math.cos(math.pi * step / options.steps))
    member.trunk.requires_grad_(not options.pretrained or step >= options.warmup_steps)
    member.trunk.train(not options.pretrained)
    head.train()
    device = member.usual.device
    images, labels = batch[0].to(device, memory_format=torch.channels_last), batch[1].to(device)
    with half_precision(device):
        pooled = member.pooled(images)
    loss = F.cross_entropy(head(pooled), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def _batches(paths: list[Path], options: CutPasteOptions, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless views of random images and their classes: (views, 3, size, size) normalised RGB, (views,)."""
    pixels = {}
    with Progress("reading images", len(paths)) as progress:
        for path in paths:
            pixels[path] = _as_image(load_rgb(path, options.image_size))
            progress.step()
    labels = torch.arange(CLASSES[options.variant]).repeat(options.batch_images)
    order = endless(paths, rng)
    while True:
        views = []
        for _ in range(options.batch_images):
            image = pixels[next(order)]
            image = _crop(image, options.patch_size, rng) if options.level == "patch" else _shifted(image, rng)
            views += classified_views(colour_jitter(image, rng), options.variant, rng)
        yield _as_input(np.stack(views)), labels


def classified_views(image: Image, variant: str, rng: np.random.Generator) -> list[Image]:
    """An image of each class of the proxy task, in the order of the classes: the normal one first (eq. 1, sec. 2.2)."""
    if variant == "3way":
        return [image, paste_patch(image, rng), paste_scar(image, rng)]
    scar = variant == "scar" or (variant == "union" and rng.random() < 0.5)
    return [image, paste_scar(image, rng) if scar else paste_patch(image, rng)]


def _as_image(rgb: Tensor) -> Image:
    """(3, H, W) RGB in [0, 1] to (H, W, 3) uint8 BGR."""
    return np.ascontiguousarray((255 * rgb).round().byte().flip(0).permute(1, 2, 0).numpy())


def _as_input(images: np.ndarray) -> Tensor:
    """(N, H, W, 3) uint8 BGR to (N, 3, H, W) normalised RGB."""
    return normalise(torch.from_numpy(images).permute(0, 3, 1, 2).flip(1).float() / 255)


def _crop(image: Image, size: int, rng: np.random.Generator) -> Image:
    top, left = rng.integers(image.shape[0] - size + 1), rng.integers(image.shape[1] - size + 1)
    return image[top : top + size, left : left + size]


def _shifted(image: Image, rng: np.random.Generator) -> Image:
    """Translated at random, the border repeated."""
    reach = round(TRANSLATION * image.shape[0])
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    return _crop(padded, image.shape[0], rng)


@torch.inference_mode()
def _fit_density(member: Detector, split: Split, options: CutPasteOptions, device: torch.device) -> None:
    """The Gaussian of the training images' embeddings, then the usual distance of the validation images."""
    generator = torch.Generator().manual_seed(options.seed)
    embeddings = []
    with Progress("density", len(split.training) + len(split.validation)) as progress:
        for path in split.training:
            image = _prepared(path, options, device)
            if isinstance(member, PatchDetector):
                patches = member.patches(image)
                image = patches[torch.randperm(len(patches), generator=generator)[:DENSITY_PATCHES]]
            embeddings.append(member.embed(image).double().cpu().numpy())
            progress.step()
        values = np.concatenate(embeddings)
        covariance, _ = ledoit_wolf(values)
        if not np.isfinite(covariance).all() or not covariance.trace() > 0:
            raise TrainingError(
                "Training collapsed: all normal images have the same embedding.",
                expected="embeddings that vary",
                fix="lower --learning-rate and --trunk-learning-rate, or train fewer steps",
            )
        member.gaussian.fit(values.mean(0), covariance)
        distances = []
        for path in split.validation:
            distances.append(member(_prepared(path, options, device))[1].item())
            progress.step()
    member.usual.copy_(torch.tensor(distances).mean())


def _prepared(path: Path, options: CutPasteOptions, device: torch.device) -> Tensor:
    return normalise(load_rgb(path, options.image_size))[None].to(device, memory_format=torch.channels_last)


def _save(network: CutPaste, heads: nn.ModuleList, optimisers: list[torch.optim.SGD], step: int, folder: Path) -> None:
    state = {
        "step": step,
        "network": network.state_dict(),
        "heads": heads.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
    }
    save_checkpoint(folder / "checkpoint.pt", state)


def _resume(network: CutPaste, heads: nn.ModuleList, optimisers: list[torch.optim.SGD], folder: Path) -> int:
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is None:
        return 0
    network.load_state_dict(state["network"])
    heads.load_state_dict(state["heads"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return int(state["step"])


METHOD = Method(options=CutPasteOptions, fit=fit_cutpaste, empty=empty_cutpaste)
