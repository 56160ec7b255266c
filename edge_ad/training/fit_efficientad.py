"""Train EfficientAD (appendix A.1, algorithm 1): statistics, steps of one image, quantiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_ad.methods.efficientad import MAP_AT_UPPER_QUANTILE, EfficientAd, EfficientAdOptions
from edge_ad.methods.pdn import OUT_CHANNELS, Pdn, PdnMedium, PdnSmall, load_pdn_medium, load_pdn_small
from edge_ad.progress import Progress
from edge_ad.training.checkpoint import load_checkpoint, save_checkpoint
from edge_ad.training.device import half_precision, training_device
from edge_ad.training.images import endless, load_rgb, natural_images, normalise
from edge_ad.training.registry import Method
from edge_ad.training.run import Split

__all__ = ["MEDIUM", "SMALL", "empty_efficientad", "fit_efficientad", "recolour", "training_step"]

CHECKPOINT_EVERY = 250
RECOLOUR_RANGE = (0.8, 1.2)  # appendix A.1: brightness, contrast or saturation
PENALTY_GREY_PROBABILITY = 0.3  # appendix A.1
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def empty_efficientad(pdn: type[Pdn], options: EfficientAdOptions) -> EfficientAd:
    """An EfficientAD of random weights, for a run's tensors to be loaded into."""
    return EfficientAd(pdn(padding=options.padding), options.image_size, autoencoder=options.autoencoder)


def fit_efficientad(
    load_teacher: Callable[..., Pdn], split: Split, options: EfficientAdOptions, folder: Path
) -> EfficientAd:
    """Fit on the training images of `split`, normalise the maps on its validation images; resumes from `folder`.

    An interrupted run ends as it would have ended uninterrupted.

    Args:
        load_teacher: `load_pdn_small` for EfficientAD-S, `load_pdn_medium` for EfficientAD-M.
    """
    device = training_device()
    torch.manual_seed(options.seed)
    teacher = load_teacher(options.teacher, padding=options.padding)
    network = EfficientAd(teacher, options.image_size, autoencoder=options.autoencoder)
    network = network.to(device, memory_format=torch.channels_last)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trainable, lr=options.learning_rate, weight_decay=options.weight_decay)
    step = _resume(network, optimiser, folder)
    if step == 0:
        _measure_teacher(network, split.training, options.image_size, device)
    _train(network, optimiser, step, split, options, folder)
    network.eval()
    _normalise_maps(network, split.validation, options, device)
    return network.cpu().to(memory_format=torch.contiguous_format)


def _train(
    network: EfficientAd,
    optimiser: torch.optim.Optimizer,
    step: int,
    split: Split,
    options: EfficientAdOptions,
    folder: Path,
) -> None:
    network.train()
    network.teacher.eval()
    inputs = _inputs(split, options, step)
    with Progress("training EfficientAD", options.steps, step) as progress:
        while step < options.steps:
            decayed = step >= options.decay_at * options.steps
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate * (0.1 if decayed else 1.0)
            loss = training_step(network, optimiser, next(inputs), options.hard_fraction)
            step += 1
            progress.step(loss=f"{loss:.3f}")
            if step % CHECKPOINT_EVERY == 0:
                state = {"step": step, "network": network.state_dict(), "optimiser": optimiser.state_dict()}
                save_checkpoint(folder / "checkpoint.pt", state)
                inputs = _inputs(split, options, step)


def training_step(
    network: EfficientAd, optimiser: torch.optim.Optimizer, inputs: Sequence[Tensor], hard_fraction: float
) -> float:
    """One step of algorithm 1; returns its loss.

    Args:
        inputs: A normal image, the same recoloured and, for the penalty, a natural image; (3, size, size) each.
    """
    device = network.teacher_mean.device
    image, recoloured, *natural = (x[None].to(device, memory_format=torch.channels_last) for x in inputs)
    with half_precision(device):
        losses = network.losses(image, recoloured, *(natural or [None]), hard_fraction)
    loss = torch.stack(losses).sum()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.item())


def _inputs(split: Split, options: EfficientAdOptions, step: int) -> Iterator[list[Tensor]]:
    """Of each step from `step` on: an image, the same recoloured, and, for the penalty, a natural one.

    All chance, the autoencoder's dropout included, begins anew here, so that a resumed run equals an uninterrupted one.
    """
    torch.manual_seed(options.seed + step)
    rng = np.random.default_rng((options.seed, step))
    natural = _penalty_images(options, rng)
    for path in endless(split.training, rng):
        rgb = load_rgb(path, options.image_size)
        inputs = [rgb, recolour(rgb, rng)]
        inputs += [] if natural is None else [next(natural)]
        yield [normalise(one) for one in inputs]


def recolour(rgb: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast or saturation, one of them, by a factor of 0.8 to 1.2; (3, H, W) RGB in [0, 1]."""
    factor = float(rng.uniform(*RECOLOUR_RANGE))
    grey = _grey(rgb)
    anchors = [torch.zeros_like(grey), grey.mean().expand_as(grey), grey]
    anchor = anchors[int(rng.integers(3))]
    return (anchor + (rgb - anchor) * factor).clamp(0, 1)


def _grey(rgb: Tensor) -> Tensor:
    return (rgb * torch.tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True)


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
                crop = _grey(crop).expand(3, -1, -1)
            yield crop

    return draw()


@torch.inference_mode()
def _measure_teacher(network: EfficientAd, paths: list[Path], size: int, device: torch.device) -> None:
    """Mean and standard deviation of each teacher channel over the training images (appendix A.1)."""
    total = torch.zeros(1, OUT_CHANNELS, 1, 1, dtype=torch.float64)
    squares = torch.zeros_like(total)
    with Progress("teacher statistics", len(paths)) as progress:
        for path in paths:
            image = normalise(load_rgb(path, size))[None].to(device, memory_format=torch.channels_last)
            with half_precision(device):  # as in every step
                output = network.teacher(image).double().cpu()
            total += output.mean((0, 2, 3), keepdim=True)
            squares += output.square().mean((0, 2, 3), keepdim=True)
            progress.step()
    mean = total / len(paths)
    network.teacher_mean.copy_(mean)
    network.teacher_std.copy_((squares / len(paths) - mean.square()).clamp_min(1e-12).sqrt())


@torch.inference_mode()
def _normalise_maps(network: EfficientAd, paths: list[Path], options: EfficientAdOptions, device: torch.device) -> None:
    """What becomes 0 and 0.1 of each map, from all its pixels on the validation images (sec. 3.4)."""
    collected: list[list[Tensor]] = [[] for _ in network.quantiles]
    with Progress("map normalisation", len(paths)) as progress:
        for path in paths:
            image = normalise(load_rgb(path, options.image_size))[None].to(device)
            for values, one in zip(collected, network.maps(image), strict=True):
                values.append(one.flatten().cpu())
            progress.step()
    for row, values in enumerate(collected):
        pixels = torch.cat(values).double().numpy()
        if options.map_normalisation == "gaussian":  # zero mean and unit variance
            low, high = pixels.mean(), pixels.mean() + MAP_AT_UPPER_QUANTILE * pixels.std()
        else:
            low, high = np.quantile(pixels, (options.quantile_low, options.quantile_high))
        network.quantiles[row] = torch.tensor([low, max(high, low + 1e-6)])


def _resume(network: EfficientAd, optimiser: torch.optim.Optimizer, folder: Path) -> int:
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is None:
        return 0
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _method(load_teacher: Callable[..., Pdn], pdn: type[Pdn]) -> Method:
    return Method(
        options=EfficientAdOptions, fit=partial(fit_efficientad, load_teacher), empty=partial(empty_efficientad, pdn)
    )


SMALL = _method(load_pdn_small, PdnSmall)
MEDIUM = _method(load_pdn_medium, PdnMedium)
