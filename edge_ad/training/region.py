"""The region of interest: where in a camera's frames anomalies are looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.errors import DataError
from edge_ad.frame import Image, read_pixels
from edge_ad.training.defects import cut_paste

__all__ = ["Box", "RegionOfInterest", "defect_within", "inspected_box"]


@dataclass(frozen=True)
class Box:
    """Pixels of a camera's frame, `bottom` and `right` one past the last."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, eq=False)
class RegionOfInterest:
    """Pixels of a camera's frame that count.

    Attributes:
        mask: (H, W) bool, at least one of them True.
    """

    mask: npt.NDArray[np.bool_]

    @staticmethod
    def read(path: Path, camera: tuple[int, int]) -> RegionOfInterest:
        """From an image that is black where nothing matters.

        Args:
            camera: (height, width) of the frames.

        Raises:
            UnreadableImage: It cannot be decoded.
            DataError: It has another size, or is black all over.
        """
        mask = read_pixels(path).any(axis=2)
        if mask.shape != camera:
            raise DataError(
                f"The region of interest {path} does not fit the camera.",
                expected=f"{camera[0]}x{camera[1]} (height x width of the frames)",
                got=f"{mask.shape[0]}x{mask.shape[1]}",
                fix="paint it over one of the camera's images",
            )
        if not mask.any():
            raise DataError(
                f"The region of interest {path} is black all over.",
                expected="white where the part is, black elsewhere",
                fix="paint white what is to be inspected",
            )
        return RegionOfInterest(mask)

    @property
    def box(self) -> Box:
        """The smallest that holds it."""
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)

    def on_map(self, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """(h, w) bool of a map: pixels that lie in it by half or more; where none does, those that do most."""
        share = cv2.resize(self.mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(share >= min(0.5, float(share.max())))

    def facts(self) -> dict[str, Any]:
        """For the bundle's provenance, as `inspected_box` reads it."""
        return {"share": float(self.mask.mean()), "box": vars(self.box)}


def inspected_box(provenance: Mapping[str, Any]) -> Box | None:
    """Of a bundle that was exported with a region of interest, the box around that; else None."""
    facts = provenance.get("region_of_interest")
    return Box(**facts["box"]) if facts else None


def defect_within(image: Image, box: Box | None, rng: np.random.Generator) -> Image:
    """A copy of the image with a synthetic defect somewhere in the box; None: anywhere."""
    if box is None:
        return cut_paste(image, rng)
    result = image.copy()
    window = np.s_[box.top : box.bottom, box.left : box.right]
    result[window] = cut_paste(image[window], rng)
    return result
