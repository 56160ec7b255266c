"""A list of images: a csv file with a heading and one row per image.

path,label,split,mask
parts/0001.png,good,train,
parts/0002.png,good,test,
line2/0007.png,scratch,test,masks/0007.png
line2/0008.png,scratch,train,masks/0008_left.png|masks/0008_right.png

path    relative to the csv file, or absolute
label   good, or the name of a defect
split   train, validation or test; defects in train are what supervised methods learn from
mask    optional, as is the whole column: the defect's mask, or several separated by |

Commas or semicolons separate the columns, UTF-8; other columns are ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from edge_ad.errors import DatasetLayoutError
from edge_ad.training.datasets.types import GOOD, Dataset, TestImage

__all__ = ["open_csv"]

_EXPECTED = """
    path,label,split,mask                     paths relative to this file
    a/1.png,good,train,                       label: good, or the name of a defect
    a/2.png,scratch,test,masks/2.png          split: train, validation or test; mask: optional"""
_SPLITS = ("train", "validation", "test")


def open_csv(file: Path, normal_class: str | None = None) -> Dataset:
    """The data set of a csv file.

    Raises:
        DatasetLayoutError: A column, an image or a mask is missing, a row says something else than above, or two rows
            name the same image.
    """
    normal = normal_class or GOOD
    images: dict[str, list[TestImage]] = {split: [] for split in _SPLITS}
    seen: dict[Path, int] = {}
    for line, row in _rows(file):
        split, image = row["split"].strip().lower(), _image(file, line, row, normal)
        if split not in _SPLITS:
            _refuse(file, line, f"split {row['split']!r}")
        if image.path in seen:
            _refuse(file, line, f"{image.path}, which line {seen[image.path]} names too")
        seen[image.path] = line
        images[split].append(image)
    train, validation = ([one.path for one in images[split] if not one.is_defective] for split in _SPLITS[:2])
    if not train:
        labels = sorted({image.defect for image in images["train"]})
        raise DatasetLayoutError(
            f"{file} has no image to train on.",
            expected=f"rows with split train and label {normal}",
            got=f"rows to train on with label {', '.join(labels)}" if labels else "no row to train on",
            fix="name the label of good parts with --normal-class" if labels else None,
        )
    for image in images["validation"] if normal_class is None else ():
        if image.is_defective:
            _refuse(file, seen[image.path], f"split validation for {image.defect}; defects are for train or test")
    return Dataset(
        root=file,
        train=tuple(train),
        validation=tuple(validation),
        test=tuple(sorted(images["test"], key=lambda image: (image.is_defective, image.defect))),
        defects=tuple(image for image in images["train"] if image.is_defective) if normal_class is None else (),
    )


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) with at least the columns that are needed."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise DatasetLayoutError(f"{file} cannot be read.", expected="a csv file in UTF-8", got=exc) from exc
    heading = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if heading.count(";") > heading.count(",") else ",")
    missing = {"path", "label", "split"} - set(reader.fieldnames or ())
    if missing:
        raise DatasetLayoutError(
            f"{file} lacks the column {', '.join(sorted(missing))}.",
            expected=_EXPECTED,
            got=heading.strip() or "an empty file",
        )
    for row in reader:
        yield reader.line_num, {key: value or "" for key, value in row.items() if isinstance(key, str)}


def _image(file: Path, line: int, row: dict[str, str], normal: str) -> TestImage:
    path, label = row["path"].strip(), row["label"].strip()
    if not path or not label:
        _refuse(file, line, "no path" if not path else "no label")
    masks = tuple(file.parent / mask.strip() for mask in row.get("mask", "").split("|") if mask.strip())
    defect = GOOD if label == normal else label
    if label == GOOD != normal:
        _refuse(file, line, f"label {GOOD}, though the normal class is {normal}")
    for named in (file.parent / path, *masks):
        if not named.is_file():
            _refuse(file, line, f"{named}, which is not there")
    if masks and defect == GOOD:
        _refuse(file, line, f"a mask of {path}, which is labelled {normal}")
    return TestImage(path=file.parent / path, defect=defect, masks=masks or None)


def _refuse(file: Path, line: int, got: str) -> NoReturn:
    raise DatasetLayoutError(f"Line {line} of {file} cannot be taken.", expected=_EXPECTED, got=got)
