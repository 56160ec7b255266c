"""A data set, whatever its layout: one door to all of them. docs/datasets.md shows the trees."""

from __future__ import annotations

from pathlib import Path

from edge_ad.errors import DatasetLayoutError
from edge_ad.training.datasets.csv_list import open_csv
from edge_ad.training.datasets.folder import open_folder
from edge_ad.training.datasets.masks import GroundTruth, read_mask, read_truth
from edge_ad.training.datasets.mvtec import is_mvtec, open_mvtec
from edge_ad.training.datasets.types import GOOD, Dataset, Saturation, TestImage
from edge_ad.training.datasets.visa import is_visa, open_visa

__all__ = [
    "GOOD",
    "Dataset",
    "GroundTruth",
    "Saturation",
    "TestImage",
    "open_dataset",
    "read_mask",
    "read_truth",
]


def open_dataset(path: str | Path, normal_class: str | None = None) -> Dataset:
    """List a data set. Only names are read; images and masks are opened by those who use them.

    Args:
        path: A folder of one of the known layouts, or a csv file.
        normal_class: The class whose parts are good, where it is not called "good" (or "ok"). All other classes of
            test images are then defects, and those of training images are left out.

    Raises:
        DatasetLayoutError: The folder has no layout known here, or masks and images do not pair.
        TooFewImages: There is no good image to train on.
    """
    root = Path(path)
    if root.suffix.lower() == ".csv" and root.is_file():
        return open_csv(root, normal_class)
    if not root.is_dir():
        raise DatasetLayoutError(
            f"{root} is not a folder.",
            expected="a data set's folder, or a list.csv",
            got="a file" if root.exists() else "nothing at that path",
            fix="check the path",
        )
    try:
        if is_mvtec(root):
            return open_mvtec(root, normal_class)
        if is_visa(root):
            return open_visa(root)
        return open_folder(root, normal_class)
    except OSError as exc:
        raise DatasetLayoutError(f"{root} cannot be read.", got=exc, fix="check the permissions") from exc
