"""Train SimpleNet: the frozen features once, then a thousand steps of two small layers."""

from __future__ import annotations

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
    features = _cached_features(network.features, split.training, options.image_size, device)
    optimisers = [
        torch.optim.Adam(
            network.adaptor.parameters(), lr=options.adaptor_learning_rate, weight_decay=options.weight_decay
        ),
        torch.optim.Adam(
            [*network.hidden.parameters(), *network.norm.parameters(), *network.judge.parameters()],
            lr=options.discriminator_learning_rate,
            weight_decay=options.weight_decay,
        ),
    ]
    step = _resume(network, optimisers, folder)
    generator = torch.Generator().manual_seed(options.seed + step)
    network.train()
    with Progress("training SimpleNet", options.steps, step) as progress:
        while step < options.steps:
            chosen = torch.randint(len(features), (options.batch_patches,), generator=generator)
            loss = network.loss(features[chosen].float().to(device))
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
            step += 1
            progress.step(loss=f"{loss.item():.4f}")
            if step % CHECKPOINT_EVERY == 0 and step < options.steps:
                _save(network, optimisers, step, folder)
    return network.cpu().eval()


@torch.inference_mode()
def _cached_features(extractor: LocalFeatures, paths: list[Path], size: int, device: torch.device) -> Tensor:
    """Features of every patch of every image, (patches, channels) float16: its rounding is far below the noise."""
    chunks = []
    with Progress("backbone features", len(paths)) as progress:
        for start in range(0, len(paths), FEATURE_BATCH):
            batch = paths[start : start + FEATURE_BATCH]
            images = torch.stack([normalise(load_rgb(path, size)) for path in batch])
            features = extractor(images.to(device)).permute(0, 2, 3, 1)
            chunks.append(features.reshape(-1, extractor.channels).half().cpu())
            progress.step(len(batch))
    return torch.cat(chunks).clone()


def _trained(network: SimpleNet) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if not key.startswith("features.")}


def _save(network: SimpleNet, optimisers: list[torch.optim.Optimizer], step: int, folder: Path) -> None:
    state = {"step": step, "network": _trained(network), "optimisers": [o.state_dict() for o in optimisers]}
    save_checkpoint(folder / "checkpoint.pt", state)


def _resume(network: SimpleNet, optimisers: list[torch.optim.Optimizer], folder: Path) -> int:
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is None:
        return 0
    network.load_state_dict(state["network"], strict=False)
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return int(state["step"])


METHOD = Method(options=SimpleNetOptions, fit=fit_simplenet, empty=empty_simplenet)
