"""Train SimpleNet: the frozen features once, then a thousand steps of two small layers."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from edge_ad.methods.backbones import empty_backbone, load_backbone
from edge_ad.methods.simplenet import LocalFeatures, SimpleNet, SimpleNetOptions
from edge_ad.progress import Progress
from edge_ad.training.checkpoint import load_checkpoint, save_checkpoint
from edge_ad.training.device import training_device
from edge_ad.training.images import load_rgb, normalise
from edge_ad.training.registry import Method
from edge_ad.training.run import Split

__all__ = ["METHOD", "empty_simplenet", "fit_simplenet"]

CHECKPOINT_EVERY = 250
FEATURE_BATCH = 8


def empty_simplenet(options: SimpleNetOptions) -> SimpleNet:
    """A SimpleNet of random weights, for a run's tensors to be loaded into."""
    backbone = empty_backbone(options.backbone, layers=tuple(options.layers))
    return SimpleNet(LocalFeatures(backbone, options.patch_size), options)


def fit_simplenet(split: Split, options: SimpleNetOptions, folder: Path) -> SimpleNet:
    """Fit on the training images of `split`; resumes from `folder`/checkpoint.pt."""
    device = training_device()
    torch.manual_seed(options.seed)
    backbone = load_backbone(options.backbone, layers=tuple(options.layers), weights=options.weights)
    network = SimpleNet(LocalFeatures(backbone, options.patch_size), options).to(device)
    features = _cached_features(network.features, split.training, options, device)
    optimiser = torch.optim.Adam(
        [
            {"params": list(network.adaptor.parameters()), "lr": options.adaptor_learning_rate},
            {
                "params": [*network.hidden.parameters(), *network.norm.parameters(), *network.judge.parameters()],
                "lr": options.discriminator_learning_rate,
            },
        ],
        weight_decay=options.weight_decay,
    )
    step = _resume(network, optimiser, folder)
    generator = torch.Generator().manual_seed(options.seed + step)
    network.train()
    with Progress("training SimpleNet", options.steps, step) as progress:
        while step < options.steps:
            chosen = torch.randint(len(features), (options.batch_patches,), generator=generator)
            loss = network.loss(features[chosen].float().to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            progress.step(loss=f"{loss.item():.4f}")
            if step % CHECKPOINT_EVERY == 0 and step < options.steps:
                _save(network, optimiser, step, folder)
    return network.cpu().eval()


@torch.no_grad()
def _cached_features(
    extractor: LocalFeatures, paths: list[Path], options: SimpleNetOptions, device: torch.device
) -> Tensor:
    """Features of the patches of all images, (patches, channels) float16: its rounding is far below the noise.

    Of each image as many random patches are kept as training would draw of it on average, so that memory does not
    grow with the number of images: a class of CIFAR-10 has 5 million patches, of which the default draws 2 million.
    """
    generator = torch.Generator().manual_seed(options.seed)
    drawn = math.ceil(options.steps * options.batch_patches / len(paths))
    cache = None
    with Progress("backbone features", len(paths)) as progress:
        for start in range(0, len(paths), FEATURE_BATCH):
            batch = paths[start : start + FEATURE_BATCH]
            images = torch.stack([normalise(load_rgb(path, options.image_size)) for path in batch])
            features = extractor(images.to(device)).flatten(2).transpose(1, 2).half().cpu()
            cells = features.shape[1]
            if cache is None:
                cache = torch.empty(len(paths), min(cells, drawn), extractor.channels, dtype=torch.float16)
            for slot, of_image in zip(cache[start:], features, strict=False):
                slot.copy_(of_image if drawn >= cells else of_image[torch.randperm(cells, generator=generator)[:drawn]])
            progress.step(len(batch))
    return cache.flatten(0, 1)


def _trained(network: SimpleNet) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if not key.startswith("features.")}


def _save(network: SimpleNet, optimiser: torch.optim.Optimizer, step: int, folder: Path) -> None:
    state = {"step": step, "network": _trained(network), "optimiser": optimiser.state_dict()}
    save_checkpoint(folder / "checkpoint.pt", state)


def _resume(network: SimpleNet, optimiser: torch.optim.Optimizer, folder: Path) -> int:
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is None:
        return 0
    network.load_state_dict(state["network"], strict=False)
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


METHOD = Method(options=SimpleNetOptions, fit=fit_simplenet, empty=empty_simplenet)
