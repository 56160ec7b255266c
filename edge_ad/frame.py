"""A camera's image and what is known about its capture."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.errors import FrameError, UnreadableImage

__all__ = ["IMAGE_SUFFIXES", "Frame", "Image", "check_image", "list_images", "natural_key", "read_image", "read_pixels"]

Image: TypeAlias = npt.NDArray[np.uint8]
"""(height, width, 3) uint8, channels in BGR order."""

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One image from a source.

    Attributes:
        image: (H, W, 3) uint8 BGR. Borrowed from the source until its next read; `copy()` owns.
        sequence: The source's running number; a gap is a dropped frame.
        timestamp_ns: Capture time, nanoseconds since the epoch.
        camera: The source's name (a URI or a file name).
    """

    image: Image
    sequence: int
    timestamp_ns: int
    camera: str

    def copy(self) -> Frame:
        """The same frame with an image of its own."""
        return replace(self, image=self.image.copy())


def check_image(image: object, size: tuple[int, int] | None = None) -> Image:
    """Return `image` if it is (H, W, 3) uint8, of `size` (height, width) where given; FrameError otherwise."""
    height, width = size or ("H", "W")
    expected = f"numpy uint8 array of shape ({height}, {width}, 3), BGR"
    if not isinstance(image, np.ndarray):
        raise FrameError("The frame is not a numpy array.", expected=expected, got=type(image).__name__)
    right_shape = image.ndim == 3 and image.shape[2] == 3 and image.size > 0
    if size is not None:
        right_shape = right_shape and image.shape[:2] == size
    if image.dtype != np.uint8 or not right_shape:
        raise FrameError(
            "The frame does not fit the input contract.",
            expected=expected,
            got=f"{image.dtype} array of shape {image.shape}",
            fix=_fix_for(image, size),
        )
    return image


def _fix_for(image: npt.NDArray[np.generic], size: tuple[int, int] | None) -> str:
    if image.ndim == 2:
        return "cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)"
    if image.dtype != np.uint8:
        return "convert the frame to 8 bits per channel, 0 to 255"
    if size is not None and image.ndim == 3 and image.shape[2] == 3:
        height, width = image.shape[:2]
        return f"set the camera to {size[0]}x{size[1]}, or export again with --camera {height}x{width}"
    return "give one image of height x width x 3"


def read_image(path: str | Path) -> Image:
    """Decode an image file to (H, W, 3) uint8 BGR, as `read_pixels` does; 16 bits are scaled to 8 (65535 to 255).

    A file does not say how many of its 16 bits the camera used: 10 or 12 of them make a dark image, so have the camera
    write them left-aligned or scaled.

    Raises:
        UnreadableImage: The file is missing, is not an image OpenCV can decode, or is of neither 8 nor 16 bits.
    """
    pixels = read_pixels(path)
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
    if pixels.dtype != np.uint8:
        raise UnreadableImage(
            f"{path} has pixels of an unknown range.",
            expected="8 or 16 bits per channel, unsigned",
            got=f"{pixels.dtype} from {pixels.min():.6g} to {pixels.max():.6g}",
            fix="export it with 8 or 16 bits per channel",
        )
    return check_image(pixels)


def read_pixels(path: str | Path) -> npt.NDArray[np.integer[Any] | np.floating[Any]]:
    """Decode an image file to (H, W, 3) BGR of its own depth.

    Grey becomes three equal channels, a palette its colours; an alpha channel is dropped, so what is transparent shows
    the colour that lies under it; EXIF rotation is applied; of several pages or frames the first is read.

    Raises:
        UnreadableImage: The file is missing, or is not an image OpenCV can decode.
    """
    path = Path(path)
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as exc:
        raise UnreadableImage(f"{path} cannot be read.", expected="an image file", got=exc.strerror or exc) from exc
    got, fix = f"{encoded.size} bytes that do not decode", "remove the file or export it again"
    pixels = None
    try:
        if encoded.size:
            pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as exc:
        if "CV_IO_MAX_IMAGE" in str(exc):
            got = "more pixels than OpenCV takes unless told to"
            fix = "set OPENCV_IO_MAX_IMAGE_PIXELS to as many pixels, before the program starts"
    if pixels is None:
        raise UnreadableImage(
            f"{path} is not a readable image.",
            expected="a whole " + "/".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES)) + " file",
            got=got,
            fix=fix,
        )
    return pixels


def natural_key(path: Path) -> tuple[list[tuple[bool, int, str]], str]:
    """Sorts names as people count: part2 before part10."""
    runs = re.findall(r"([0-9]+)|([^0-9]+)", path.name)
    return [(not digits, int(digits or 0), text.lower()) for digits, text in runs], path.name


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder (IMAGE_SUFFIXES; hidden files left out), in natural order; not of its subfolders."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((file for file in files if not file.name.startswith(".") and file.is_file()), key=natural_key)
