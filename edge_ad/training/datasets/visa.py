"""VisA as it is distributed (Zou et al., SPot-the-Difference, ECCV 2022), one category at a time.

VisA/split_csv/1cls.csv                          object,split,label,image,mask: which images train and which test
VisA/CATEGORY/image_anno.csv                     image,label,mask: the types of defect
VisA/CATEGORY/Data/Images/{Normal,Anomaly}/NAME.JPG
VisA/CATEGORY/Data/Masks/Anomaly/NAME.png
"""

from __future__ import annotations

import csv
from pathlib import Path

from edge_ad.errors import DatasetLayoutError
from edge_ad.training.datasets.trees import folders, unknown_layout
from edge_ad.training.datasets.types import GOOD, Dataset, TestImage

__all__ = ["is_visa", "open_visa"]

_NORMAL = "normal"
_SPLIT = Path("split_csv") / "1cls.csv"


def is_visa(root: Path) -> bool:
    """Whether the folder is a category of VisA, or the folder of all of them."""
    return (root / "Data" / "Images").is_dir() or (root / _SPLIT).is_file()


def open_visa(root: Path) -> Dataset:
    """A category, split as the authors did; the type of defect is their label, "a,b" where an image has two.

    Raises:
        DatasetLayoutError: The folder is that of all categories, the split is not there, or a file that it names.
    """
    if not (root / "Data" / "Images").is_dir():
        categories = [folder.name for folder in folders(root) if (folder / "Data").is_dir()]
        raise unknown_layout(root, "all categories of VisA at once", f"give one of them: {', '.join(categories)}")
    split = root.resolve().parent / _SPLIT
    if not split.is_file():
        raise DatasetLayoutError(
            f"{root} is a category of VisA, but nothing says which images to train on.",
            expected=f"{split}, from the data set's archive",
            got="no such file",
            fix="copy split_csv/1cls.csv beside the category",
        )
    rows = [row for row in _rows(split) if row["object"] == root.resolve().name]
    types = {row["image"]: row["label"] for row in _rows(root / "image_anno.csv")}
    images = [(row["split"], _image(split.parent.parent, row, types.get(row["image"]))) for row in rows]
    train = tuple(image.path for part, image in images if part == "train" and not image.is_defective)
    if not train:
        raise DatasetLayoutError(
            f"{split} names no image to train on.", expected=f"rows of {root.resolve().name},train,{_NORMAL}"
        )
    test = [image for part, image in images if part == "test"]
    return Dataset(
        root=root, train=train, test=tuple(sorted(test, key=lambda image: (image.is_defective, image.defect)))
    )


def _rows(file: Path) -> list[dict[str, str]]:
    """Of 1cls.csv or image_anno.csv, whose paths may start at the data set or at the category."""
    if not file.is_file():
        return []
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(lines)]
    except (UnicodeDecodeError, csv.Error) as exc:
        raise DatasetLayoutError(f"{file} cannot be read.", expected="a csv file in UTF-8", got=exc) from exc
    needed = {"image", "label", "mask"} | ({"object", "split"} if file.name == _SPLIT.name else set())
    if rows and not needed <= set(rows[0]):
        raise DatasetLayoutError(f"{file} lacks a column.", expected=sorted(needed), got=sorted(rows[0]))
    return rows


def _image(root: Path, row: dict[str, str], kind: str | None) -> TestImage:
    for named in (row["image"], row["mask"]):
        if named and not (root / named).is_file():
            raise DatasetLayoutError(
                f"{root / named} is not there.", expected=f"what {_SPLIT} names", got="no such file"
            )
    if row["label"] == _NORMAL:
        return TestImage(path=root / row["image"], defect=GOOD, masks=None)
    masks = (root / row["mask"],) if row["mask"] else None
    return TestImage(path=root / row["image"], defect=kind or row["label"], masks=masks)
