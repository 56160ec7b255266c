"""Folders that nobody arranged for anomaly detection.

DATASET/NAME.png                        good parts only: all are trained on

DATASET/good/NAME.png                   good parts
DATASET/DEFECT/NAME.png                 a folder for each type of defect: all are tested on
DATASET/masks/DEFECT/NAME.png           optional; or masks/NAME.png where there is one type of defect
"""

from __future__ import annotations

import zlib
from pathlib import Path

from edge_ad.errors import DatasetLayoutError
from edge_ad.frame import list_images
from edge_ad.training.datasets.mvtec import is_mvtec, pair_masks
from edge_ad.training.datasets.trees import folders, no_images, unknown_layout
from edge_ad.training.datasets.types import GOOD, Dataset, TestImage

__all__ = ["open_folder"]

MASKS_NAMES = ("masks", "mask")
_TESTED = 5  # one good image in so many


def open_folder(root: Path, normal_class: str | None = None) -> Dataset:
    """A plain folder, or one with a folder of good parts beside those of defects.

    Beside defects, about a fifth of the good images is tested on: those whose names have a CRC-32 that 5 divides, so
    that an image stays on its side when others come or go.

    Raises:
        DatasetLayoutError: There are images only in folders of other names, or masks and images do not pair.
        TooFewImages: There are none.
    """
    train = list_images(root)
    if train and normal_class is None:
        return Dataset(root=root, train=tuple(train))
    normal = root / (normal_class or GOOD)
    if not normal.is_dir():
        if not train and not any(list_images(sub) for sub in folders(root)):
            raise no_images(root)
        categories = [sub.name for sub in folders(root) if is_mvtec(sub)]
        fix = f"give one of them: {', '.join(categories[:12])}" if categories else None
        raise unknown_layout(root, "several data sets" if categories else f"no folder {normal.name} of good parts", fix)
    good = list_images(normal)
    masks_folder = next((root / name for name in MASKS_NAMES if (root / name).is_dir()), root / MASKS_NAMES[0])
    types = {sub.name: list_images(sub) for sub in folders(root) if sub not in (normal, masks_folder)}
    defects = [image for name, images in types.items() for image in _labelled(name, images, masks_folder, len(types))]
    for masked in folders(masks_folder):
        if masked.name not in types and any(masked.iterdir()) and len(types) != 1:
            raise DatasetLayoutError(
                f"{masked} holds masks of images that are not there.",
                expected=f"their images in {root / masked.name}",
                got=", ".join(types) or "no defects",
            )
    tested = [path for path in good if defects and zlib.crc32(path.name.encode()) % _TESTED == 0]
    train = [path for path in good if path not in tested]
    if not train:
        raise no_images(normal)
    return Dataset(
        root=root,
        train=tuple(train),
        test=(*(TestImage(path=path, defect=GOOD, masks=None) for path in tested), *defects),
    )


def _labelled(name: str, images: list[Path], masks_folder: Path, types: int) -> list[TestImage]:
    own = masks_folder / name
    masks = pair_masks([images], own if own.is_dir() or types > 1 else masks_folder)
    return [TestImage(path=path, defect=name, masks=masks.get(path)) for path in images]
