"""Train EfficientAD-S (appendix A.1, algorithm 1): statistics, steps of one image, quantiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_ad.methods.efficientad import EfficientAd, EfficientAdOptions
from edge_ad.methods.pdn import OUT_CHANNELS, PdnSmall, load_pdn_small
from edge_ad.progress import Progress
from edge_ad.training.checkpoint import load_checkpoint, save_checkpoint
from edge_ad.training.device import half_precision, training_device
from edge_ad.training.images import endless, load_rgb, natural_images, normalise
from edge_ad.training.registry import Method
from edge_ad.training.run import Split

__all__ = ["SMALL", "empty_efficientad", "fit_efficientad", "recolour"]

CHECKPOINT_EVERY = 250
RECOLOUR_RANGE = (0.8, 1.2)  # appendix A.1: brightness, contrast or saturation
PENALTY_GREY_PROBABILITY = 0.3  # appendix A.1


def empty_efficientad(_: EfficientAdOptions) -> EfficientAd:
    """An EfficientAD-S of random weights, for a run's tensors to be loaded into."""
    return EfficientAd(PdnSmall())


def fit_efficientad(split: Split, options: EfficientAdOptions, folder: Path) -> EfficientAd:
    """Fit on the training images of `split`, normalise the maps on its validation images; resumes from `folder`."""
    device = training_device()
    torch.manual_seed(options.seed)
    network = EfficientAd(load_pdn_small(options.teacher)).to(device, memory_format=torch.channels_last)
    trainable = [*network.student.parameters(), *network.autoencoder.parameters()]
    optimiser = torch.optim.Adam(trainable, lr=options.learning_rate, weight_decay=options.weight_decay)
    step = _resume(network, optimiser, folder)
    if step == 0:
        _measure_teacher(network, split.training, options.image_size, device)
    _train(network, optimiser, step, split, options, folder)
    network.eval()
    _measure_quantiles(network, split.validation, options, device)
    return network.cpu().to(memory_format=torch.contiguous_format)


def _train(
    network: EfficientAd,
    optimiser: torch.optim.Optimizer,
    step: int,
    split: Split,
    options: EfficientAdOptions,
    folder: Path,
) -> None:
    rng = np.random.default_rng((options.seed, step))
    device = network.teacher_mean.device
    images = endless(split.training, rng)
    natural = _penalty_images(options, rng)
    network.train()
    network.teacher.eval()
    with Progress("training EfficientAD-S", options.steps, step) as progress:
        while step < options.steps:
            decayed = step >= options.decay_at * options.steps
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate * (0.1 if decayed else 1.0)
            rgb = load_rgb(next(images), options.image_size)
            inputs = [normalise(rgb), normalise(recolour(rgb, rng))]
            inputs += [] if natural is None else [normalise(next(natural))]
            on_device = [x[None].to(device, memory_format=torch.channels_last) for x in inputs]
            with half_precision(device):
                losses = network.losses(
                    on_device[0], on_device[1], on_device[2] if natural else None, options.hard_fraction
                )
            loss = torch.stack(losses).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            progress.step(loss=f"{loss.item():.3f}")
            if step % CHECKPOINT_EVERY == 0:
                state = {"step": step, "network": network.state_dict(), "optimiser": optimiser.state_dict()}
                save_checkpoint(folder / "checkpoint.pt", state)


def recolour(rgb: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast or saturation, one of them, by a factor of 0.8 to 1.2; (3, H, W) RGB in [0, 1]."""
    factor = float(rng.uniform(*RECOLOUR_RANGE))
    grey = (rgb * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)  # ITU-R BT.601 luma
    anchors = [torch.zeros_like(grey), grey.mean().expand_as(grey), grey]
    anchor = anchors[int(rng.integers(3))]
    return (anchor + (rgb - anchor) * factor).clamp(0, 1)


def _penalty_images(options: EfficientAdOptions, rng: np.random.Generator) -> Iterator[Tensor] | None:
    """Random natural images: resized to twice the size, the centre cropped, sometimes grey (appendix A.1)."""
    if options.penalty_images is None:
        return None
    paths = natural_images(Path(options.penalty_images), at_least=100)
    size, border = options.image_size, options.image_size // 2

    def draw() -> Iterator[Tensor]:
        for path in endless(paths, rng):
            crop = load_rgb(path, 2 * size)[:, border : border + size, border : border + size]
            if rng.random() < PENALTY_GREY_PROBABILITY:
                crop = crop.mean(0, keepdim=True).expand(3, -1, -1)
            yield crop

    return draw()


@torch.inference_mode()
def _measure_teacher(network: EfficientAd, paths: list[Path], size: int, device: torch.device) -> None:
    """Mean and standard deviation of each teacher channel over the training images (appendix A.1)."""
    total = torch.zeros(1, OUT_CHANNELS, 1, 1, dtype=torch.float64)
    squares = torch.zeros_like(total)
    with Progress("teacher statistics", len(paths)) as progress:
        for path in paths:
            output = network.teacher(normalise(load_rgb(path, size))[None].to(device)).double().cpu()
            total += output.mean((0, 2, 3), keepdim=True)
            squares += output.square().mean((0, 2, 3), keepdim=True)
            progress.step()
    mean = total / len(paths)
    network.teacher_mean.copy_(mean)
    network.teacher_std.copy_((squares / len(paths) - mean.square()).clamp_min(1e-12).sqrt())


@torch.inference_mode()
def _measure_quantiles(
    network: EfficientAd, paths: list[Path], options: EfficientAdOptions, device: torch.device
) -> None:
    """The quantiles of both maps over all pixels of the validation images (sec. 3.4)."""
    maps: tuple[list[Tensor], list[Tensor]] = ([], [])
    with Progress("map quantiles", len(paths)) as progress:
        for path in paths:
            image = normalise(load_rgb(path, options.image_size))[None].to(device)
            for collected, one in zip(maps, network.maps(image), strict=True):
                collected.append(one.flatten().cpu())
            progress.step()
    levels = (options.quantile_low, options.quantile_high)
    for row, collected in enumerate(maps):
        low, high = np.quantile(torch.cat(collected).double().numpy(), levels)
        network.quantiles[row] = torch.tensor([low, max(high, low + 1e-6)])


def _resume(network: EfficientAd, optimiser: torch.optim.Optimizer, folder: Path) -> int:
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is None:
        return 0
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


SMALL = Method(options=EfficientAdOptions, fit=fit_efficientad, empty=empty_efficientad)
