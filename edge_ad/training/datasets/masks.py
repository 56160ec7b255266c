"""Ground truth: which pixels of a test image are defective. Masks are decoded as images are, so EXIF turns both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_ad.errors import DatasetLayoutError
from edge_ad.frame import read_pixels
from edge_ad.training.datasets.types import Saturation, TestImage

__all__ = ["GroundTruth", "read_mask", "read_truth"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GroundTruth:
    """What is marked in one image.

    Attributes:
        defects: (D, H, W) bool, one mask for each marked defect, which may be several spots (MVTec LOCO) and may
            overlap others; D = 0 in a good image.
        saturations: D numbers of pixels: finding as many of a defect's counts as finding all of it.
    """

    defects: npt.NDArray[np.bool_]
    saturations: tuple[int, ...]

    @staticmethod
    def of(mask: npt.NDArray[np.generic]) -> GroundTruth:
        """One defect, the non-zero pixels of an (H, W) mask, to be found whole; none where there is no such pixel."""
        marked = mask != 0
        area = int(marked.sum())
        return GroundTruth(defects=marked[None][: min(area, 1)], saturations=(area,) if area else ())

    @property
    def merged(self) -> npt.NDArray[np.uint8]:
        """(H, W), 1 where any defect is."""
        return self.defects.any(axis=0).astype(np.uint8)


def read_truth(
    image: TestImage, size: tuple[int, int], saturations: Mapping[int, Saturation] | None = None
) -> GroundTruth | None:
    """The ground truth of a test image, defect by defect: each mask file is one.

    Args:
        image: A test image; a good one has no defective pixel.
        size: (height, width) of the image itself.
        saturations: By the level of a mask's pixels (`Dataset.saturations`); without, a defect's area.

    Returns:
        None where the image is defective and nobody marked where: leave it out of pixel metrics.

    Raises:
        UnreadableImage: A mask cannot be decoded.
        DatasetLayoutError: A mask is not of the image's size, or of a level without a saturation.
    """
    if image.masks is None and image.is_defective:
        return None
    files = image.masks or ()
    defects, needed = np.zeros((len(files), *size), bool), []
    for defect, file in zip(defects, files, strict=True):
        blue, green, red = np.moveaxis(read_pixels(file), 2, 0)
        levels = np.maximum(np.maximum(blue, green), red)  # ten times as fast as a maximum over an axis of three
        if levels.shape != size:
            raise DatasetLayoutError(
                f"The mask {file} does not fit {image.path}.",
                expected=f"{size[0]}x{size[1]} (height x width of the image)",
                got=f"{levels.shape[0]}x{levels.shape[1]}",
                fix="export the mask at the image's size, without interpolation",
            )
        np.not_equal(levels, 0, out=defect)
        needed.append(_saturation(file, int(levels.max()), int(defect.sum()), saturations or {}))
    marked = [index for index, pixels in enumerate(needed) if pixels]
    if len(marked) < len(needed):  # an empty mask marks no defect
        defects = defects[marked]
    return GroundTruth(defects=defects, saturations=tuple(needed[index] for index in marked))


def read_mask(image: TestImage, size: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
    """The ground truth of a test image, (H, W) uint8, 1 where it is defective; as `read_truth`, all masks merged."""
    truth = read_truth(image, size)
    return None if truth is None else truth.merged


def _saturation(file: Path, level: int, area: int, saturations: Mapping[int, Saturation]) -> int:
    if not saturations or not area:
        return area
    if level not in saturations:
        raise DatasetLayoutError(
            f"The mask {file} has a level that defects_config.json does not know.",
            expected=f"one of {sorted(saturations)}",
            got=level,
        )
    return saturations[level].pixels(area)
