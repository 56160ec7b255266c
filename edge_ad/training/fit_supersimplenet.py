"""Train SuperSimpleNet: the frozen features once, then the adaptor and two heads on noise, and on marked defects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_ad.errors import TrainingError
from edge_ad.frame import read_image
from edge_ad.methods.backbones import empty_backbone, load_backbone
from edge_ad.methods.supersimplenet import SuperSimpleNet, SuperSimpleNetOptions, UpscaledFeatures
from edge_ad.progress import Progress
from edge_ad.training.checkpoint import load_checkpoint, save_checkpoint
from edge_ad.training.dataset import TestImage, read_mask
from edge_ad.training.device import half_precision, training_device
from edge_ad.training.images import normalise, resize_rgb
from edge_ad.training.perlin import perlin_shapes
from edge_ad.training.registry import Method
from edge_ad.training.run import Split

__all__ = ["METHOD", "empty_supersimplenet", "fit_supersimplenet", "learning_rate_factor", "mask_on_grid"]

CHECKPOINT_EVERY = 50
ADAPTOR_WEIGHT_DECAY = 1e-2  # torch's default for AdamW, which the authors' code leaves to the adaptor
LARGEST_GRADIENT = 1.0  # norm that supervised gradients are clipped to (the authors' code)
FLIPS = ((), (-2,), (-1,), (-2, -1))  # as it is, upside down, mirrored, turned by 180 degrees


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """What is known of one training image.

    Attributes:
        features: (cells, cells, channels) float16: their rounding is far below the noise.
        mask: (cells, cells) float32, 1 where a defect is.
        label: 1 for defective images, else 0.
    """

    features: Tensor
    mask: Tensor
    label: float


def empty_supersimplenet(options: SuperSimpleNetOptions) -> SuperSimpleNet:
    """A SuperSimpleNet of random weights, for a run's tensors to be loaded into."""
    backbone = empty_backbone(options.backbone, layers=tuple(options.layers))
    return SuperSimpleNet(UpscaledFeatures(backbone, options.patch_size), options)


def fit_supersimplenet(split: Split, options: SuperSimpleNetOptions, folder: Path) -> SuperSimpleNet:
    """Fit on the training images of `split`, and its marked defects if supervised; resumes from `folder`/checkpoint.pt.

    Raises:
        TrainingError: Supervised, and no defect is marked.
    """
    marked = _marked(split.defects) if options.supervised else []
    device = training_device()
    torch.manual_seed(options.seed)
    backbone = load_backbone(options.backbone, layers=tuple(options.layers), weights=options.weights)
    network = SuperSimpleNet(UpscaledFeatures(backbone, options.patch_size), options)
    network.to(device, memory_format=torch.channels_last)
    normal = [TestImage(path=path, defect="good", masks=None) for path in split.training]
    with Progress("backbone features", len(normal) + len(marked)) as progress:
        pools = [_samples(network, normal, options.image_size, FLIPS[:1], progress)]
        if marked:
            flips = FLIPS if options.flips else FLIPS[:1]
            pools.append(_samples(network, marked, options.image_size, flips, progress))
    optimiser = _optimiser(network, options)
    step = _resume(network, optimiser, folder)
    network.train()
    network.features.eval()
    with Progress("training SuperSimpleNet", options.steps, step) as progress:
        while step < options.steps:
            loss = _step(network, optimiser, pools, step, options)
            step += 1
            progress.step(loss=f"{loss:.4f}")
            if step % CHECKPOINT_EVERY == 0 and step < options.steps:
                _save(network, optimiser, step, folder)
    return network.cpu().to(memory_format=torch.contiguous_format).eval()


def learning_rate_factor(step: int, steps: int, decay: float) -> float:
    """Share of the first learning rate: once `decay` after 80 % of the steps, twice after 90 % (sec. 4.2)."""
    return decay ** ((10 * step >= 8 * steps) + (10 * step >= 9 * steps))


def mask_on_grid(mask: np.ndarray, image_size: int, cells: int) -> Tensor:
    """(H, W), non-zero where a defect is, to (1, cells, cells) of 0 and 1: where it covers at least half (sec. 3.3).

    To the network's input by nearest neighbour, from there bilinearly and not antialiased, as the authors' code.
    """
    full = torch.from_numpy(mask != 0)[None, None].float()
    resized = F.interpolate(full, size=(image_size, image_size), mode="nearest")
    return (F.interpolate(resized, size=(cells, cells), mode="bilinear")[0] >= 0.5).float()


def _marked(defects: tuple[TestImage, ...]) -> list[TestImage]:
    marked = [image for image in defects if image.masks]
    if not marked:
        raise TrainingError(
            "Supervised training has no marked defect to learn from.",
            expected="train/<defect>/ with images, and ground_truth/<defect>/ with a mask for each",
            got=f"{len(defects)} images of defects, none with a mask" if defects else "no images of defects",
            fix="add marked defects, or train with --no-supervised",
        )
    return marked


@torch.inference_mode()
def _samples(
    network: SuperSimpleNet, images: list[TestImage], size: int, flips: tuple[tuple[int, ...], ...], progress: Progress
) -> list[_Sample]:
    samples = []
    for image in images:
        pixels = read_image(image.path)
        mask = read_mask(image, pixels.shape[:2])
        assert mask is not None, "normal images and marked defects alone are learnt from"
        rgb = normalise(resize_rgb(pixels, size))
        on_grid = mask_on_grid(mask, size, network.cells)
        for axes in flips:
            features = network.features(rgb.flip(axes)[None].to(network.to_pixels.device))
            samples.append(
                _Sample(
                    features=features[0].permute(1, 2, 0).half().cpu().contiguous().clone(),
                    mask=on_grid[0].flip(axes),
                    label=float(image.is_defective),
                )
            )
        progress.step()
    return samples


def _step(
    network: SuperSimpleNet,
    optimiser: torch.optim.Optimizer,
    pools: list[list[_Sample]],
    step: int,
    options: SuperSimpleNetOptions,
) -> float:
    """One step on a sample of the loss: cells of many images for one head, a few whole images for the other.

    What a few images have under their few shapes differs from what they have elsewhere by far more than the noise:
    with 2 or 16 images a step the segmentation head learned those differences and not the noise. Few cells of many
    images, each with shapes of its own, estimate the same means without them. A function of the step alone, so that a
    resumed run draws what it would have drawn.
    """
    generator = torch.Generator().manual_seed(int(np.random.default_rng((options.seed, step)).integers(2**63)))
    for group in optimiser.param_groups:
        group["lr"] = group["highest_lr"] * learning_rate_factor(step, options.steps, options.decay)
    device = network.to_pixels.device
    cells = network.cells**2
    with half_precision(device):
        samples = _drawn(pools, options.batch_images, generator)
        chosen = torch.randint(cells, (len(samples), options.batch_cells), generator=generator)
        adapted, _, mask = _perturbed(network, samples, chosen, options, generator)
        loss = network.segmentation_loss(adapted, mask)

        samples = _drawn(pools, options.whole_images, generator)
        everything = torch.arange(cells).expand(len(samples), -1)
        adapted, raw, mask = _perturbed(network, samples, everything, options, generator)
        adapted, raw = (one.unflatten(2, (network.cells, network.cells))[..., 0] for one in (adapted, raw))
        defective = torch.tensor([sample.label for sample in samples]).repeat(2).to(device)
        label = torch.maximum(defective, mask.amax((1, 2, 3)))
        loss = loss + network.classification_loss(adapted, raw, label, stop_gradient=not options.supervised)
    optimiser.zero_grad()
    loss.backward()
    if options.supervised:
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    optimiser.step()
    return loss.item()


def _drawn(pools: list[list[_Sample]], count: int, generator: torch.Generator) -> list[_Sample]:
    """Random samples; as many defective as normal ones where there are any."""
    numbers = torch.randint(2**62, (count,), generator=generator).tolist()
    return [pools[place % len(pools)][number % len(pools[place % len(pools)])] for place, number in enumerate(numbers)]


def _perturbed(
    network: SuperSimpleNet,
    samples: list[_Sample],
    chosen: Tensor,
    options: SuperSimpleNetOptions,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """`SuperSimpleNet.perturb` of the chosen cells (B, K) of each sample, as images of K x 1 cells."""
    device = network.to_pixels.device
    shapes = perlin_shapes(2 * len(samples), network.cells, options.perlin_threshold, generator).flatten(1)
    shapes = shapes.gather(1, chosen.repeat(2, 1))[:, None, :, None]
    masks = torch.stack([sample.mask.flatten()[cells] for sample, cells in zip(samples, chosen, strict=True)])
    features = torch.stack(
        [sample.features.flatten(0, 1)[cells].float() for sample, cells in zip(samples, chosen, strict=True)]
    )
    noise = torch.randn(2 * len(samples), *features.shape[1:], generator=generator)
    features, noise = (one.to(device).transpose(1, 2)[..., None] for one in (features, noise))
    return network.perturb(features, masks[:, None, :, None].to(device), shapes.to(device), noise)


def _optimiser(network: SuperSimpleNet, options: SuperSimpleNetOptions) -> torch.optim.AdamW:
    heads = (
        network.hidden,
        network.hidden_norm,
        network.judge,
        network.context,
        network.context_norm,
        network.verdict,
    )
    return torch.optim.AdamW(
        [
            {
                "params": list(network.adaptor.parameters()),
                "highest_lr": options.adaptor_learning_rate,
                "weight_decay": ADAPTOR_WEIGHT_DECAY,
            },
            {
                "params": [parameter for head in heads for parameter in head.parameters()],
                "highest_lr": options.head_learning_rate,
                "weight_decay": options.weight_decay,
            },
        ]
    )


def _save(network: SuperSimpleNet, optimiser: torch.optim.Optimizer, step: int, folder: Path) -> None:
    trained = {key: value for key, value in network.state_dict().items() if not key.startswith("features.")}
    state = {"step": step, "network": trained, "optimiser": optimiser.state_dict()}
    save_checkpoint(folder / "checkpoint.pt", state)


def _resume(network: SuperSimpleNet, optimiser: torch.optim.Optimizer, folder: Path) -> int:
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is None:
        return 0
    network.load_state_dict(state["network"], strict=False)
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


METHOD = Method(options=SuperSimpleNetOptions, fit=fit_supersimplenet, empty=empty_supersimplenet)
