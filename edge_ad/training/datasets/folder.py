"""Folders that nobody arranged for anomaly detection."""

from __future__ import annotations

from pathlib import Path

from edge_ad.frame import list_images
from edge_ad.training.datasets.trees import folders, no_images, unknown_layout
from edge_ad.training.datasets.types import Dataset

__all__ = ["open_folder"]


def open_folder(root: Path) -> Dataset:
    """A plain folder: all its images are of good parts, and all are trained on."""
    train = tuple(list_images(root))
    if not train and any(list_images(sub) for sub in folders(root)):
        raise unknown_layout(root, "images only in subfolders of a layout not known here")
    if not train:
        raise no_images(root)
    return Dataset(root=root, train=train)
