"""Images as tensors, prepared exactly as the exported graph prepares them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edge_ad.errors import TooFewImages
from edge_ad.frame import IMAGE_SUFFIXES, Image, read_image
from edge_ad.methods.backbones import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["endless", "load_rgb", "natural_images", "normalise", "resize_rgb"]


def resize_rgb(image: Image, size: int) -> Tensor:
    """(H, W, 3) uint8 BGR to (3, size, size) float32 RGB in [0, 1], bilinear with antialiasing."""
    rgb = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).flip(0).float() / 255
    return F.interpolate(rgb[None], size=(size, size), mode="bilinear", antialias=True)[0]


def load_rgb(path: Path, size: int) -> Tensor:
    """An image file as (3, size, size) float32 RGB in [0, 1]."""
    return resize_rgb(read_image(path), size)


def normalise(rgb: Tensor) -> Tensor:
    """ImageNet's mean and standard deviation, (..., 3, H, W) RGB in [0, 1] to the networks' input."""
    mean = torch.tensor(IMAGENET_MEAN, device=rgb.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=rgb.device).view(3, 1, 1)
    return (rgb - mean) / std


def natural_images(folder: Path, at_least: int) -> list[Path]:
    """All images below a folder (ImageNet's layout or any other), sorted.

    Raises:
        TooFewImages: Fewer than `at_least`.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if len(paths) < at_least:
        raise TooFewImages(
            f"{folder} holds too few natural images.",
            expected=f"a folder (of folders) with at least {at_least} images",
            got=f"{len(paths)} images",
            fix="give a copy of ImageNet or any large folder of photographs",
        )
    return paths


def endless(paths: list[Path], rng: np.random.Generator) -> Iterator[Path]:
    """Every path once per round, each round in a new order, for ever."""
    while True:
        for index in rng.permutation(len(paths)):
            yield paths[index]
