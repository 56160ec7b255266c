"""CutPaste: a piece of an image, or a thin scar of it, pasted elsewhere (Li et al., CutPaste, CVPR 2021, sec. 2.2).

`paste_patch` and `paste_scar` are the paper's augmentations, which the method learns to tell from normal images.
`cut_paste` gives calibration synthetic defects: activation ranges measured on normal images alone clip what real
defects cause. It jitters more coarsely, and outlines its scars.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.frame import Image

__all__ = ["colour_jitter", "cut_paste", "paste_patch", "paste_scar"]

PATCH_AREA = (0.02, 0.15)  # of the image; CutPaste, sec. 2.2
PATCH_ASPECT = (0.3, 3.3)  # appendix A: (0.3, 1) and (1, 3.3), both as likely
SCAR_WIDTH = (2, 16)  # pixels of a 256-pixel image; CutPaste, appendix A
SCAR_LENGTH = (10, 25)
SCAR_ANGLE_DEG = (-45, 45)
COLOUR_JITTER = 0.1  # largest change of each property; appendix A
LUMA_BGR = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R BT.601

FloatImage = npt.NDArray[np.float32]


def cut_paste(image: Image, rng: np.random.Generator) -> Image:
    """A copy of (H, W, 3) uint8 with a jittered patch, or a thin rotated scar, of itself pasted elsewhere."""
    height, width = image.shape[:2]
    scar = bool(rng.random() < 0.5)
    wanted = _scar_size(rng, min(height, width) / 256) if scar else _patch_size(rng, height, width)
    size = _within(wanted, max(1, height // 2), max(1, width // 2))
    patch = _gain_and_offset(_cut(image, size, rng), rng)
    mask = np.full(size, 255, np.uint8)
    if scar:
        patch, mask = _rotated(patch, mask, float(rng.uniform(*SCAR_ANGLE_DEG)), cv2.BORDER_CONSTANT)
    return _pasted(image, patch, mask, rng)


def paste_patch(image: Image, rng: np.random.Generator) -> Image:
    """CutPaste: a copy of (H, W, 3) uint8 BGR with a colour-jittered rectangle of itself pasted elsewhere."""
    height, width = image.shape[:2]
    size = _within(_patch_size(rng, height, width), height, width)
    patch = colour_jitter(_cut(image, size, rng), rng)
    return _pasted(image, patch, np.full(size, 255, np.uint8), rng)


def paste_scar(image: Image, rng: np.random.Generator) -> Image:
    """CutPaste-Scar: a copy of (H, W, 3) uint8 BGR with a thin, colour-jittered, rotated piece of itself elsewhere.

    Its length and width are pixels of the image as it is: the paper's images are 256 pixels wide, its patches 64.
    """
    size = _within(_scar_size(rng, 1.0), *image.shape[:2])
    patch = colour_jitter(_cut(image, size, rng), rng)
    angle_deg = float(rng.uniform(*SCAR_ANGLE_DEG))
    patch, mask = _rotated(patch, np.full(size, 255, np.uint8), angle_deg, cv2.BORDER_REPLICATE)
    return _pasted(image, patch, mask, rng)


def colour_jitter(image: Image, rng: np.random.Generator, strength: float = COLOUR_JITTER) -> Image:
    """Change brightness, contrast, saturation and hue, in random order, of (H, W, 3) uint8 BGR.

    The first three by factors of 1 - strength to 1 + strength (towards or away from black, the mean grey level, and
    each pixel's grey level), the hue by up to `strength` of the full circle, as torchvision's ColorJitter does.
    """
    x = image.astype(np.float32) / 255
    for change in rng.permutation(4):
        amount = float(rng.uniform(-strength, strength))
        x = _hue_shifted(x, 360 * amount) if change == 3 else _blended(x, _anchor(x, change), 1 + amount)
    return np.rint(x * 255).astype(np.uint8)


def _anchor(x: FloatImage, change: int) -> FloatImage:
    """What a factor of 0 would make of the image: black, its mean grey level, or grey."""
    if change == 0:
        return np.zeros((1, 1, 1), np.float32)
    grey: FloatImage = (x @ LUMA_BGR)[..., None]
    return grey.mean(keepdims=True) if change == 1 else grey


def _blended(x: FloatImage, anchor: FloatImage, factor: float) -> FloatImage:
    return np.clip(anchor + (x - anchor) * np.float32(factor), 0, 1)


def _hue_shifted(x: FloatImage, angle_deg: float) -> FloatImage:
    hsv = cv2.cvtColor(x, cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0] + angle_deg) % 360
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), 0, 1)


def _patch_size(rng: np.random.Generator, height: int, width: int) -> tuple[float, float]:
    area = rng.uniform(*PATCH_AREA) * height * width
    aspect = np.exp(rng.uniform(*np.log(PATCH_ASPECT)))
    return np.sqrt(area / aspect), np.sqrt(area * aspect)


def _scar_size(rng: np.random.Generator, scale: float) -> tuple[float, float]:
    return rng.uniform(*SCAR_LENGTH) * scale, rng.uniform(*SCAR_WIDTH) * scale


def _within(size: tuple[float, float], height: int, width: int) -> tuple[int, int]:
    return int(np.clip(size[0], 1, height)), int(np.clip(size[1], 1, width))


def _cut(image: Image, size: tuple[int, int], rng: np.random.Generator) -> Image:
    top = int(rng.integers(image.shape[0] - size[0] + 1))
    left = int(rng.integers(image.shape[1] - size[1] + 1))
    return image[top : top + size[0], left : left + size[1]].copy()


def _gain_and_offset(patch: Image, rng: np.random.Generator) -> Image:
    gain, offset = rng.uniform(1 - COLOUR_JITTER, 1 + COLOUR_JITTER), rng.uniform(-COLOUR_JITTER, COLOUR_JITTER) * 255
    return np.clip(patch * gain + offset, 0, 255).astype(np.uint8)


def _rotated(patch: Image, mask: Image, angle_deg: float, border: int) -> tuple[Image, Image]:
    height, width = mask.shape
    side = int(np.ceil(np.hypot(height, width)))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle_deg, 1.0)
    turn[:, 2] += (side - width) / 2, (side - height) / 2
    turned = cv2.warpAffine(patch, turn, (side, side), borderMode=border), cv2.warpAffine(mask, turn, (side, side))
    return turned  # type: ignore[return-value]


def _pasted(image: Image, patch: Image, mask: Image, rng: np.random.Generator) -> Image:
    height, width = min(patch.shape[0], image.shape[0]), min(patch.shape[1], image.shape[1])
    top = int(rng.integers(image.shape[0] - height + 1))
    left = int(rng.integers(image.shape[1] - width + 1))
    result = image.copy()
    window = result[top : top + height, left : left + width]
    window[mask[:height, :width] > 127] = patch[:height, :width][mask[:height, :width] > 127]
    return result
