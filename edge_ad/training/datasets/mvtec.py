"""MVTec AD's tree and its relatives, which differ in few names.

MVTec AD        train/good  test/TYPE  ground_truth/TYPE/NAME_mask.png
MVTec LOCO      train/good  validation/good  test/TYPE  ground_truth/TYPE/NAME/000.png  defects_config.json
MVTec 3D-AD     train/good/rgb  validation/good/rgb  test/TYPE/rgb  test/TYPE/gt
BTAD            train/ok  test/ok  test/ko  ground_truth/ko/NAME.png
VisA, split     train/good  test/good  test/bad  ground_truth/bad/NAME.png     (as its authors' script writes it)

Besides `good` (or `ok`), train/TYPE holds defective images for supervised methods; their masks lie in
ground_truth/TYPE too, so their names must differ from those in test/TYPE.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_ad.errors import DatasetLayoutError
from edge_ad.frame import list_images
from edge_ad.training.datasets.trees import folders, no_images, unknown_layout
from edge_ad.training.datasets.types import GOOD, Dataset, Saturation, TestImage

__all__ = ["is_mvtec", "open_mvtec", "pair_masks"]

NORMAL_NAMES = (GOOD, "ok")
SATURATIONS_FILE = "defects_config.json"
_MASK_SUFFIX = "_mask"  # MVTec AD's naming


def is_mvtec(root: Path) -> bool:
    """Whether the folder wants to be such a tree."""
    return any((root / part).exists() for part in ("train", "test", "ground_truth"))


def open_mvtec(root: Path, normal_class: str | None = None) -> Dataset:
    """The data set of a tree. With `normal_class`, every other class of test/ is a defect and those of train/ are not
    learnt from: the protocol of one class against the rest (SimpleNet, table 5).

    Raises:
        DatasetLayoutError: There is no normal class, or masks and images do not pair.
        TooFewImages: There is no image of it.
    """
    normal = normal_class or next((name for name in NORMAL_NAMES if (root / "train" / name).is_dir()), GOOD)
    if not (root / "train" / normal).is_dir():
        classes = [folder.name for folder in folders(root / "train")]
        fix = f"name the normal class with --normal-class: {', '.join(classes[:12])}" if classes else None
        raise unknown_layout(root, f"no train/{normal}", fix)
    if normal != GOOD and (root / "test" / GOOD).is_dir():
        raise unknown_layout(root, f"test/{GOOD} beside the normal class {normal}")
    train = _images(root / "train" / normal)
    if not train:
        raise no_images(root / "train" / normal)
    for part in ("train", "test"):
        if (root / part).is_dir() and list_images(root / part):
            raise unknown_layout(root, f"images in {part}/ that are in no {part}/TYPE folder, so without a label")
    learnt, tested = ({folder.name: _images(folder) for folder in folders(root / part)} for part in ("train", "test"))
    learnt.pop(normal)
    masks = _masks(root, learnt, {name: images for name, images in tested.items() if name != normal})
    return Dataset(
        root=root,
        train=tuple(train),
        validation=tuple(_images(root / "validation" / normal)),
        test=tuple(_labelled(tested, masks, normal)),
        defects=tuple(_labelled(learnt, masks, normal)) if normal_class is None else (),
        saturations=_saturations(root / SATURATIONS_FILE),
    )


def _images(folder: Path) -> list[Path]:
    """The images of a class; MVTec 3D-AD keeps the photographs apart from the point clouds."""
    if (folder / "rgb").is_dir():
        folder = folder / "rgb"
    return list_images(folder) if folder.is_dir() else []


def _labelled(images: dict[str, list[Path]], masks: dict[Path, tuple[Path, ...]], normal: str) -> Iterator[TestImage]:
    for name in sorted(images, key=lambda name: name != normal):
        for path in images[name]:
            yield TestImage(path=path, defect=GOOD if name == normal else name, masks=masks.get(path))


def _masks(root: Path, learnt: dict[str, list[Path]], tested: dict[str, list[Path]]) -> dict[Path, tuple[Path, ...]]:
    """Masks by image, of all types of defect."""
    truth, pairs = root / "ground_truth", {}
    for folder in folders(truth):
        if not any((root / part / folder.name).is_dir() for part in ("train", "test")) and any(folder.iterdir()):
            raise DatasetLayoutError(
                f"{folder} holds masks of images that are not there.",
                expected=f"their images in {root / 'test' / folder.name}",
                got="test types " + (", ".join(tested) or "none"),
            )
    for name in {**tested, **learnt}:
        pairs |= pair_masks([tested.get(name, []), learnt.get(name, [])], truth / name)
        for part, images in (("test", tested), ("train", learnt)):
            pairs |= pair_masks([images.get(name, [])], root / part / name / "gt")
    return pairs


def pair_masks(groups: Sequence[Sequence[Path]], folder: Path) -> dict[Path, tuple[Path, ...]]:
    """The masks in `folder` by image: NAME.png, NAME_mask.png or several, NAME/000.png.

    Every image of a group has one, or none of the group has; no mask is left over.
    """
    by_stem: dict[str, Path] = {}
    masks = list(_masks_in(folder, {path.stem for group in groups for path in group}))
    for path in (path for group in groups for path in group) if masks else ():
        if by_stem.setdefault(path.stem, path) is not path:
            raise DatasetLayoutError(
                f"{path} and {by_stem[path.stem]} have the same name, so nobody can tell whose mask it is.",
                expected=f"a name for each mask in {folder}",
                fix="rename one of them and its mask",
            )
    pairs: dict[Path, tuple[Path, ...]] = {}
    for stem, files in masks:
        image = by_stem.get(stem)
        if image is None:
            raise DatasetLayoutError(
                f"The mask {files[0]} belongs to no image.",
                expected=f"an image called {stem} among those of {folder.name}",
                got=f"{len(by_stem)} images of other names",
                fix="remove the mask or restore the image",
            )
        if image in pairs:
            raise DatasetLayoutError(
                f"{image} has two masks.",
                expected="one file, or one folder of masks to be merged",
                got=f"{pairs[image][0]} and {files[0]}",
                fix="remove one of them",
            )
        pairs[image] = files
    for group in groups:
        _check_complete(group, pairs, folder)
    return pairs


def _check_complete(images: Sequence[Path], pairs: dict[Path, tuple[Path, ...]], folder: Path) -> None:
    missing = [path for path in images if path not in pairs]
    if missing and len(missing) < len(images):
        raise DatasetLayoutError(
            f"{missing[0]} has no mask, though other images of its type do.",
            expected=str(folder / f"{missing[0].stem}{_MASK_SUFFIX}.png"),
            got=f"masks for {len(images) - len(missing)} of {len(images)} images",
            fix="add the mask, or move images without masks to a type of their own",
        )


def _masks_in(folder: Path, stems: set[str]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """(stem of the image, its masks) for each entry of a folder of masks."""
    if not folder.is_dir():
        return
    for file in list_images(folder):
        stem = file.stem if file.stem in stems else file.stem.removesuffix(_MASK_SUFFIX)
        yield stem, (file,)
    for subfolder in folders(folder):
        masks = tuple(list_images(subfolder))
        if not masks:
            raise DatasetLayoutError(
                f"{subfolder} holds no masks.", expected=f"{subfolder.name}/000.png", fix="remove the empty folder"
            )
        yield subfolder.name, masks


def _saturations(file: Path) -> dict[int, Saturation]:
    """MVTec LOCO's saturation thresholds, by the level of a mask's pixels; none where the file is not there."""
    if not file.is_file():
        return {}
    try:
        return {
            int(entry["pixel_value"]): Saturation(
                threshold=float(entry["saturation_threshold"]), relative=bool(entry["relative_saturation"])
            )
            for entry in json.loads(file.read_text())
        }
    except (ValueError, TypeError, KeyError) as exc:
        raise DatasetLayoutError(
            f"{file} is not a list of saturation thresholds.",
            expected='[{"defect_name": ..., "pixel_value": 255, "saturation_threshold": 1.0, '
            '"relative_saturation": true}, ...]',
            got=f"{type(exc).__name__}: {exc}",
        ) from exc
