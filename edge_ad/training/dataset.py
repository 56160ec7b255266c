"""Image folders: MVTec AD's layout, MVTec LOCO's masks, or a plain folder of good images.

DATASET/train/good/NAME.png
DATASET/validation/good/NAME.png                optional
DATASET/test/good/NAME.png                      optional, as is every test type
DATASET/test/TYPE/NAME.png                      TYPE is any other name: a kind of defect
DATASET/ground_truth/TYPE/NAME_mask.png         or TYPE/NAME.png, or several masks: TYPE/NAME/000.png
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.errors import DatasetLayoutError, TooFewImages, UnreadableImage
from edge_ad.frame import list_images, natural_key

__all__ = ["GOOD", "Dataset", "TestImage", "open_dataset", "read_mask"]

GOOD = "good"
_MASK_SUFFIX = "_mask"  # MVTec AD's naming
_EXPECTED = """
    DATASET/                         or   DATASET/
      train/good/NAME.png                   NAME.png  (good parts only)
      validation/good/...  (optional)
      test/good/...        (optional)
      test/DEFECT/...      (optional)
      ground_truth/DEFECT/NAME_mask.png  (optional)"""
_TREE_LINES = 12


@dataclass(frozen=True, kw_only=True)
class TestImage:
    """A labelled image.

    Attributes:
        path: The image file.
        defect: The name of its folder; "good" for normal parts.
        masks: Files whose non-zero pixels, merged, are the defect; None for normal parts and for
            types of defect without any mask, which count for image metrics only.
    """

    __test__: ClassVar[bool] = False  # not a test, whatever pytest makes of the name

    path: Path
    defect: str
    masks: tuple[Path, ...] | None

    @property
    def is_defective(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Paths in natural order (part2 before part10).

    Attributes:
        root: The folder as it was given.
        train: Good images, at least one.
        validation: More good images, possibly none.
        test: Labelled images, possibly none; good ones first, then type by type.
        defects: Labelled defective images to learn from, which supervised methods alone use; possibly none.
    """

    root: Path
    train: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[TestImage, ...] = ()
    defects: tuple[TestImage, ...] = ()


def open_dataset(folder: str | Path) -> Dataset:
    """List a data set. Only names are read; images and masks are opened by those who use them.

    Raises:
        DatasetLayoutError: The folder has no layout known here, or masks and images do not pair.
        TooFewImages: There is no good image to train on.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DatasetLayoutError(
            f"{root} is not a folder.",
            expected=_EXPECTED,
            got="a file" if root.exists() else "nothing at that path",
            fix="check the path",
        )
    try:
        if any((root / part).exists() for part in ("train", "test", "ground_truth")):
            return _open_mvtec(root)
        return _open_plain(root)
    except OSError as exc:
        raise DatasetLayoutError(f"{root} cannot be read.", got=exc, fix="check the permissions") from exc


def _open_plain(root: Path) -> Dataset:
    train = tuple(list_images(root))
    if not train and any(list_images(sub) for sub in _folders(root)):
        raise _unknown_layout(root, "images only in subfolders of a layout not known here")
    if not train:
        raise _no_images(root)
    return Dataset(root=root, train=train)


def _open_mvtec(root: Path) -> Dataset:
    if not (root / "train" / GOOD).is_dir():
        raise _unknown_layout(root, f"no train/{GOOD}")
    train = tuple(list_images(root / "train" / GOOD))
    if not train:
        raise _no_images(root / "train" / GOOD)
    validation = root / "validation" / GOOD
    return Dataset(
        root=root,
        train=train,
        validation=tuple(list_images(validation)) if validation.is_dir() else (),
        test=tuple(_test_images(root)),
    )


def _test_images(root: Path) -> Iterator[TestImage]:
    test, truth = root / "test", root / "ground_truth"
    types = _folders(test)
    if test.is_dir() and list_images(test):
        raise _unknown_layout(root, "images in test/ that are in no test/TYPE folder, so without a label")
    for masked in _folders(truth):
        if masked.name not in {folder.name for folder in types} and any(masked.iterdir()):
            raise DatasetLayoutError(
                f"{masked} holds masks of images that are not there.",
                expected=f"their images in {test / masked.name}",
                got="test types " + (", ".join(folder.name for folder in types) or "none"),
            )
    for folder in sorted(types, key=lambda folder: folder.name != GOOD):
        images = list_images(folder)
        masks = _pair_masks(images, truth / folder.name) if folder.name != GOOD else {}
        for path in images:
            yield TestImage(path=path, defect=folder.name, masks=masks.get(path))


def _pair_masks(images: list[Path], folder: Path) -> dict[Path, tuple[Path, ...]]:
    """Masks by image: of every image, or of none where the folder is empty or missing."""
    by_stem = {path.stem: path for path in images}
    pairs: dict[Path, tuple[Path, ...]] = {}
    for stem, masks in _masks(folder, set(by_stem)):
        image = by_stem.get(stem)
        if image is None:
            raise DatasetLayoutError(
                f"The mask {masks[0]} belongs to no image.",
                expected=f"an image {stem} in test/{folder.name}",
                got=f"{len(images)} images of other names",
                fix="remove the mask or restore the image",
            )
        if image in pairs:
            raise DatasetLayoutError(
                f"{image} has two masks.",
                expected="one file, or one folder of masks to be merged",
                got=f"{pairs[image][0]} and {masks[0]}",
                fix="remove one of them",
            )
        pairs[image] = masks
    missing = [path for path in images if path not in pairs]
    if pairs and missing:
        raise DatasetLayoutError(
            f"{missing[0]} has no mask, though other images of its type do.",
            expected=str(folder / f"{missing[0].stem}{_MASK_SUFFIX}.png"),
            got=f"masks for {len(pairs)} of {len(images)} images",
            fix="add the mask, or move images without masks to a test type of their own",
        )
    return pairs


def _masks(folder: Path, stems: set[str]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """(stem of the image, its masks) for each entry of a ground truth folder."""
    if not folder.is_dir():
        return
    for file in list_images(folder):
        stem = file.stem if file.stem in stems else file.stem.removesuffix(_MASK_SUFFIX)
        yield stem, (file,)
    for subfolder in _folders(folder):
        masks = tuple(list_images(subfolder))
        if not masks:
            raise DatasetLayoutError(
                f"{subfolder} holds no masks.", expected=f"{subfolder.name}/000.png", fix="remove the empty folder"
            )
        yield subfolder.name, masks


def read_mask(image: TestImage, size: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
    """The ground truth of a test image, (H, W) uint8, 1 where it is defective.

    Args:
        image: A test image; a good one has no defective pixel.
        size: (height, width) of the image itself.

    Returns:
        None where the image is defective and nobody marked where: leave it out of pixel metrics.

    Raises:
        UnreadableImage: A mask cannot be decoded.
        DatasetLayoutError: A mask is not of the image's size.
    """
    if image.masks is None:
        return None if image.is_defective else np.zeros(size, np.uint8)
    merged = np.zeros(size, bool)
    for file in image.masks:
        mask = _read_nonzero(file)
        if mask.shape != size:
            raise DatasetLayoutError(
                f"The mask {file} does not fit {image.path}.",
                expected=f"{size[0]}x{size[1]} (height x width of the image)",
                got=f"{mask.shape[0]}x{mask.shape[1]}",
                fix="export the mask at the image's size, without interpolation",
            )
        merged |= mask
    return merged.astype(np.uint8)


def _read_nonzero(file: Path) -> npt.NDArray[np.bool_]:
    try:
        encoded = np.fromfile(file, np.uint8)
        mask = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if encoded.size else None
    except (OSError, cv2.error) as exc:
        raise UnreadableImage(f"The mask {file} cannot be read.", got=exc) from exc
    if mask is None:
        raise UnreadableImage(f"The mask {file} is not a readable image.", got=f"{encoded.size} bytes")
    return mask != 0 if mask.ndim == 2 else (mask[:, :, :3] != 0).any(axis=2)  # a fourth channel is transparency


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith(".")), key=natural_key)


def _no_images(folder: Path) -> TooFewImages:
    return TooFewImages(f"{folder} holds no images.", expected="at least one image of a good part", got=_tree(folder))


def _unknown_layout(root: Path, what: str) -> DatasetLayoutError:
    return DatasetLayoutError(
        f"{root} is not a data set folder: {what}.",
        expected=_EXPECTED,
        got=_tree(root),
        fix="arrange the images as above, or give the folder of good images itself",
    )


def _tree(root: Path) -> str:
    """What is there, two levels deep, a dozen lines at most."""
    lines = [f"{root.name}/ ({_count(root)})"]
    for folder in _folders(root):
        lines.append(f"  {folder.name}/ ({_count(folder)})")
        lines += [f"    {sub.name}/ ({_count(sub)})" for sub in _folders(folder)]
    shown = lines[:_TREE_LINES] + ([f"  ... {len(lines) - _TREE_LINES} more"] if len(lines) > _TREE_LINES else [])
    return "".join(f"\n    {line}" for line in shown)


def _count(folder: Path) -> str:
    return f"{len(list_images(folder))} images"
