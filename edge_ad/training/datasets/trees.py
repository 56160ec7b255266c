"""What is in a folder, and how to say that it should be something else."""

from __future__ import annotations

from pathlib import Path

from edge_ad.errors import DatasetLayoutError, TooFewImages
from edge_ad.frame import list_images, natural_key

__all__ = ["folders", "no_images", "unknown_layout"]

_TREE_LINES = 12
_EXPECTED = """
    DATASET/                                  or  DATASET/               or  DATASET/
      train/good/NAME.png                           NAME.png                   good/NAME.png
      train/DEFECT/NAME.png    (optional)           (good parts only)          DEFECT/NAME.png
      validation/good/NAME.png (optional)                                      masks/DEFECT/NAME.png (optional)
      test/good/NAME.png       (optional)
      test/DEFECT/NAME.png     (optional)     or  a category of VisA
      ground_truth/DEFECT/NAME_mask.png       or  LIST.csv with the columns path,label,split[,mask]"""


def folders(folder: Path) -> list[Path]:
    """The subfolders in natural order, hidden ones left out; none where `folder` is not there."""
    if not folder.is_dir():
        return []
    return sorted((sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith(".")), key=natural_key)


def no_images(folder: Path) -> TooFewImages:
    """For a folder that should hold images of good parts."""
    return TooFewImages(f"{folder} holds no images.", expected="at least one image of a good part", got=_tree(folder))


def unknown_layout(root: Path, what: str, fix: str | None = None) -> DatasetLayoutError:
    """Shows the trees that are taken beside the one that is there."""
    return DatasetLayoutError(
        f"{root} is not a data set folder: {what}.",
        expected=_EXPECTED,
        got=_tree(root),
        fix=fix or "arrange the images as above, or give the folder of good images itself",
    )


def _tree(root: Path) -> str:
    """What is there, two levels deep, a dozen lines at most."""
    lines = [f"{root.name}/ ({_count(root)})"]
    for folder in folders(root):
        lines.append(f"  {folder.name}/ ({_count(folder)})")
        lines += [f"    {sub.name}/ ({_count(sub)})" for sub in folders(folder)]
    shown = lines[:_TREE_LINES] + ([f"  ... {len(lines) - _TREE_LINES} more"] if len(lines) > _TREE_LINES else [])
    return "".join(f"\n    {line}" for line in shown)


def _count(folder: Path) -> str:
    return f"{len(list_images(folder))} images"
