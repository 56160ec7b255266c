"""Where the parts lie in the data sets' images: regions of interest, seen on their good training images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["REGIONS", "draw_region"]

REGIONS = {
    "cookie": ("rectangle", 0.17, 0.03, 0.85, 0.97),
    "juice_bottle": ("rectangle", 0.05, 0.20, 0.96, 0.77),
    "metal_nut": ("ellipse", 0.04, 0.04, 0.96, 0.96),
}
"""Shape, and top, left, bottom and right as shares of the image."""


def draw_region(name: str, size: tuple[int, int], path: Path) -> Path:
    """The data set's region as an image of `size` (height, width), white where the part may be; returns the path."""
    shape, *edges = REGIONS[name]
    top, left, bottom, right = (
        round(edge * size[axis]) for edge, axis in zip(map(float, edges), (0, 1, 0, 1), strict=True)
    )
    image: npt.NDArray[np.uint8] = np.zeros(size, np.uint8)
    if shape == "rectangle":
        image[top:bottom, left:right] = 255
    else:
        cv2.ellipse(image, (((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top), 0), 255, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return path
