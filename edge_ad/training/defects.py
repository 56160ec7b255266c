"""Synthetic defects on real images: CutPaste and its scar (Li et al., CutPaste, CVPR 2021, sec. 2.2).

Activation ranges measured on normal images alone clip what real defects cause; these widen them.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge_ad.frame import Image

__all__ = ["cut_paste"]

PATCH_AREA = (0.02, 0.15)  # of the image; CutPaste, sec. 2.2
PATCH_ASPECT = (0.3, 3.3)
SCAR_WIDTH = (2, 16)  # pixels of a 256-pixel image; CutPaste, appendix A
SCAR_LENGTH = (10, 25)
SCAR_ANGLE_DEG = (-45, 45)
COLOUR_JITTER = 0.1


def cut_paste(image: Image, rng: np.random.Generator) -> Image:
    """A copy of (H, W, 3) uint8 with a jittered patch, or a thin rotated scar, of itself pasted elsewhere."""
    height, width = image.shape[:2]
    scar = bool(rng.random() < 0.5)
    patch_height, patch_width = _scar_size(rng, height, width) if scar else _patch_size(rng, height, width)
    patch = _jittered(_cut(image, patch_height, patch_width, rng), rng)
    mask = np.full(patch.shape[:2], 255, np.uint8)
    if scar:
        patch, mask = _rotated(patch, mask, float(rng.uniform(*SCAR_ANGLE_DEG)))
    return _pasted(image, patch, mask, rng)


def _patch_size(rng: np.random.Generator, height: int, width: int) -> tuple[int, int]:
    area = rng.uniform(*PATCH_AREA) * height * width
    aspect = np.exp(rng.uniform(*np.log(PATCH_ASPECT)))
    return _within(np.sqrt(area / aspect), np.sqrt(area * aspect), height, width)


def _scar_size(rng: np.random.Generator, height: int, width: int) -> tuple[int, int]:
    scale = min(height, width) / 256
    return _within(rng.uniform(*SCAR_LENGTH) * scale, rng.uniform(*SCAR_WIDTH) * scale, height, width)


def _within(patch_height: float, patch_width: float, height: int, width: int) -> tuple[int, int]:
    return int(np.clip(patch_height, 1, max(1, height // 2))), int(np.clip(patch_width, 1, max(1, width // 2)))


def _cut(image: Image, patch_height: int, patch_width: int, rng: np.random.Generator) -> Image:
    top = int(rng.integers(image.shape[0] - patch_height + 1))
    left = int(rng.integers(image.shape[1] - patch_width + 1))
    return image[top : top + patch_height, left : left + patch_width].copy()


def _jittered(patch: Image, rng: np.random.Generator) -> Image:
    gain, offset = rng.uniform(1 - COLOUR_JITTER, 1 + COLOUR_JITTER), rng.uniform(-COLOUR_JITTER, COLOUR_JITTER) * 255
    return np.clip(patch * gain + offset, 0, 255).astype(np.uint8)


def _rotated(patch: Image, mask: Image, angle_deg: float) -> tuple[Image, Image]:
    height, width = mask.shape
    side = int(np.ceil(np.hypot(height, width)))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle_deg, 1.0)
    turn[:, 2] += (side - width) / 2, (side - height) / 2
    turned = cv2.warpAffine(patch, turn, (side, side)), cv2.warpAffine(mask, turn, (side, side))
    return turned  # type: ignore[return-value]


def _pasted(image: Image, patch: Image, mask: Image, rng: np.random.Generator) -> Image:
    height, width = min(patch.shape[0], image.shape[0]), min(patch.shape[1], image.shape[1])
    top = int(rng.integers(image.shape[0] - height + 1))
    left = int(rng.integers(image.shape[1] - width + 1))
    result = image.copy()
    window = result[top : top + height, left : left + width]
    window[mask[:height, :width] > 127] = patch[:height, :width][mask[:height, :width] > 127]
    return result
