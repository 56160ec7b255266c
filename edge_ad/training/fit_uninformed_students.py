"""Train Uninformed Students (sec. 3.2): the teachers' statistics, steps of one image, the maps' statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_ad.methods.patch_network import DESCRIPTOR, PatchNetwork, load_patch_teacher
from edge_ad.methods.uninformed_students import Ensemble, UninformedStudents, UninformedStudentsOptions
from edge_ad.progress import Progress
from edge_ad.training.checkpoint import load_checkpoint, save_checkpoint
from edge_ad.training.device import half_precision, training_device
from edge_ad.training.images import endless, load_rgb, normalise
from edge_ad.training.registry import Method
from edge_ad.training.run import Split
from edge_ad.training.schedule import warm_up_cosine

__all__ = ["METHOD", "empty_uninformed_students", "fit_uninformed_students"]

CHECKPOINT_EVERY = 100


def empty_uninformed_students(options: UninformedStudentsOptions) -> UninformedStudents:
    """Networks of random weights, for a run's tensors to be loaded into."""
    teachers = [PatchNetwork(patch, output_stride=options.output_stride) for patch in options.receptive_fields]
    return UninformedStudents(teachers, options)


def fit_uninformed_students(split: Split, options: UninformedStudentsOptions, folder: Path) -> UninformedStudents:
    """Fit on the training images of `split`, normalise the maps on its validation images; resumes from `folder`.

    Training is dense: one pass gives the descriptors of every patch of a window.
    """
    device = training_device()
    torch.manual_seed(options.seed)
    teachers = [
        load_patch_teacher(patch, options.teachers, output_stride=options.output_stride)
        for patch in options.receptive_fields
    ]
    network = UninformedStudents(teachers, options).to(device, memory_format=torch.channels_last)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trainable, lr=options.learning_rate, weight_decay=options.weight_decay)
    step = _resume(network, optimiser, folder)
    if step == 0:
        _normalise_teachers(network, split.training, options.image_size)
    _train(network, optimiser, step, split, options, folder)
    network.eval()
    _measure_maps(network, split.validation, options.image_size)
    return network.cpu().to(memory_format=torch.contiguous_format)


def _train(
    network: UninformedStudents,
    optimiser: torch.optim.Optimizer,
    step: int,
    split: Split,
    options: UninformedStudentsOptions,
    folder: Path,
) -> None:
    device = network.mean.device
    rng = np.random.default_rng((options.seed, step))
    images = endless(split.training, rng)
    with Progress("training Uninformed Students", options.steps, step) as progress:
        while step < options.steps:
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate * warm_up_cosine(step, options.steps)
            image = _image(next(images), options.image_size, device)
            with half_precision(device):
                losses = [
                    ensemble.loss(_window(ensemble, image, options.window, rng)) for ensemble in network.ensembles
                ]
            loss = torch.stack(losses).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            progress.step(loss=f"{loss.item():.4f}")
            if step % CHECKPOINT_EVERY == 0:
                state = {"step": step, "network": network.state_dict(), "optimiser": optimiser.state_dict()}
                save_checkpoint(folder / "checkpoint.pt", state)


def _image(path: Path, size: int, device: torch.device) -> Tensor:
    return normalise(load_rgb(path, size))[None].to(device, memory_format=torch.channels_last)


def _window(ensemble: Ensemble, image: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """What the descriptors of a random `side` x `side` pixels of the image look at, mirrored borders included."""
    view = ensemble.teacher.mirrored(image)
    side += view.shape[-1] - image.shape[-1]
    top, left = rng.integers(0, view.shape[-1] - side + 1, 2)
    return view[:, :, top : top + side, left : left + side]


@torch.no_grad()
def _normalise_teachers(network: UninformedStudents, paths: list[Path], size: int) -> None:
    """Work mean and standard deviation of every entry over all training descriptors into the teachers (sec. 3.2)."""
    device = network.mean.device
    sums = torch.zeros(len(network.ensembles), 2, DESCRIPTOR, dtype=torch.float64)
    with Progress("teacher statistics", len(paths)) as progress:
        for path in paths:
            image = _image(path, size, device)
            for index, ensemble in enumerate(network.ensembles):
                teacher = ensemble.teacher
                with half_precision(device):
                    descriptors = teacher(teacher.mirrored(image)).double().cpu()
                sums[index] += torch.stack([descriptors.mean((0, 2, 3)), descriptors.square().mean((0, 2, 3))])
            progress.step()
    for ensemble, (mean, square) in zip(network.ensembles, sums / len(paths), strict=True):
        std = (square - mean.square()).clamp_min(1e-12).sqrt()
        ensemble.normalise_teacher(mean.float().to(device), std.float().to(device))


@torch.no_grad()
def _measure_maps(network: UninformedStudents, paths: list[Path], size: int) -> None:
    """Mean and standard deviation of both maps of every ensemble over all validation pixels (sec. 3.2)."""
    maps: list[Tensor] = []
    with Progress("map statistics", len(paths)) as progress:
        for path in paths:
            image = _image(path, size, network.mean.device)
            maps.append(torch.cat([ensemble.maps(image) for ensemble in network.ensembles]).flatten(2))
            progress.step()
    pixels = torch.cat(maps, 2).double()  # (ensembles, error and variance, pixels of all images)
    network.mean.copy_(pixels.mean(2))
    network.std.copy_(pixels.std(2).clamp_min(1e-12))  # of one student the variance is 0 everywhere


def _resume(network: UninformedStudents, optimiser: torch.optim.Optimizer, folder: Path) -> int:
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is None:
        return 0
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


METHOD = Method(options=UninformedStudentsOptions, fit=fit_uninformed_students, empty=empty_uninformed_students)
