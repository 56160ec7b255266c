"""A procedural camera: machined flanges in a fixture, good or with one defect, and folders of them.

Everything follows from the generator's state: the same state draws the same bytes, and a good part drawn from the
state of a defective one is its twin, equal outside the defect's mask.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from edge_ad.demo.defects import DEFECTS, SURFACE_DEFECTS, Mask
from edge_ad.demo.flange import OUTER, Pose, cut_flange, cut_seat, seats
from edge_ad.demo.surface import Field, Lamps, Surface, radiance
from edge_ad.errors import DataError
from edge_ad.frame import Image
from edge_ad.progress import Progress

__all__ = ["CAMERA", "DEFECTS", "draw_part", "write_dataset"]

CAMERA = (480, 640)
FIELD_OF_VIEW = 120.0  # mm along the camera's shorter side, taken as 4:3
NOISE = 1.3  # grey levels, standard deviation in the dark; light adds its shot noise
STAIN_ABSORBS = (1.25, 0.92, 0.68)  # blue, green, red


def draw_part(
    rng: np.random.Generator, defect: str | None = None, *, size: tuple[int, int] = CAMERA
) -> tuple[Image, Mask]:
    """Take one picture of a new part.

    Args:
        rng: Moves on by the same amount whatever the defect is.
        defect: One of DEFECTS, or None for a good part.
        size: (height, width) of the camera.

    Returns:
        The image, (height, width, 3) uint8 BGR, and the defect's mask, (height, width) uint8 of 0 and 255.

    Raises:
        DataError: An unknown defect.
    """
    if defect is not None and defect not in DEFECTS:
        raise DataError("No such defect.", expected=" or ".join(DEFECTS), got=repr(defect))
    metal_rng, capture_rng, defect_rng = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=3))
    pose = _lay_down(capture_rng, size)
    lamps = Lamps.drawn(capture_rng)
    fault = int(defect_rng.integers(6)) if defect == "missing_feature" else None
    surface, radius, cover = _machine(metal_rng, pose, size, fault)
    if defect in SURFACE_DEFECTS:
        cover = SURFACE_DEFECTS[defect](surface, defect_rng, pose)
    linear = _compose(surface, lamps, pose, radius)
    return _expose(linear, surface.stain, lamps, capture_rng), _mask(cover)


def _lay_down(rng: np.random.Generator, size: tuple[int, int]) -> Pose:
    """The nest holds a part within 1 mm and 2.5 degrees."""
    pixel = FIELD_OF_VIEW / min(size[0], size[1] * 3 / 4)
    shift_x, shift_y, turn = rng.uniform(-1, 1, 3)
    centre = (size[1] / 2 + shift_x / pixel, size[0] / 2 + shift_y / pixel)
    return Pose(centre=centre, turn=float(np.deg2rad(2.5) * turn), pixel=pixel)


def _machine(
    rng: np.random.Generator, pose: Pose, size: tuple[int, int], fault: int | None
) -> tuple[Surface, Field, Field]:
    """Turn the part and fit its seats; the cover is that of the seat numbered `fault`."""
    surface, radius = cut_flange(rng, pose, size)
    cover = np.zeros(size, np.float32)
    for index, seat in enumerate(seats(fault)):
        window, seat_cover = cut_seat(surface, rng, pose, seat)
        if index == fault:
            cover[window] = seat_cover
    return surface, radius, cover


def _compose(surface: Surface, lamps: Lamps, pose: Pose, radius: Field) -> Field:
    """Linear radiance of the part lying in its fixture, with the shadow it casts there."""
    size = (radius.shape[0], radius.shape[1])
    inside = np.clip((np.float32(OUTER) - radius) * np.float32(1 / pose.pixel) + np.float32(0.5), 0, 1)
    shadow = np.float32(1) - np.float32(0.75) * np.exp(-np.maximum(radius - np.float32(OUTER), 0) * np.float32(0.45))
    behind = _fixture(size) * shadow
    linear: Field = (behind + inside * (radiance(surface, lamps) - behind)) * np.float32(lamps.gain) * _vignette(size)
    return linear


@cache
def _fixture(size: tuple[int, int]) -> Field:
    """Radiance of the fixture, the same for every part: a black anodised plate with a nest and four tapped holes."""
    rng = np.random.default_rng(4)
    pixel = FIELD_OF_VIEW / min(size[0], size[1] * 3 / 4)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    x, y = (x - size[1] / 2) * pixel, (y - size[0] / 2) * pixel
    brushed = cv2.GaussianBlur(rng.standard_normal(size).astype(np.float32), (0, 0), sigmaX=9, sigmaY=0.5)
    plate = 0.085 + 0.028 * brushed / brushed.std() * 0.35
    radius = np.hypot(x, y) + np.float32(1e-3)
    plate *= np.where(radius < 56, 0.6, 1.0)
    plate += 0.16 * np.exp(-(((radius - 56) / 0.45) ** 2)) * (0.4 + 0.6 * np.clip((y - x) / radius, 0, 1))
    for side_x, side_y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        hole = np.hypot(x - 68 * side_x, y - 46 * side_y)
        plate *= 1 - 0.8 * np.clip((3.2 - hole) / pixel, 0, 1)
        plate += 0.07 * np.exp(-(((hole - 3.6) / 0.35) ** 2))
    return np.asarray(plate, np.float32)


@cache
def _vignette(size: tuple[int, int]) -> Field:
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    return np.asarray(1 - 0.07 * (x * x + y * y), np.float32)


def _expose(linear: Field, stain: Field | None, lamps: Lamps, rng: np.random.Generator) -> Image:
    """Lens blur, the camera's tone curve, noise and colour."""
    level = cv2.exp(cv2.GaussianBlur(linear, (0, 0), 0.6) * np.float32(-1.9)) * np.float32(-255) + np.float32(255)
    level += rng.standard_normal(linear.shape, dtype=np.float32) * (np.float32(NOISE) + np.float32(0.006) * level)
    level = np.maximum(level, 0)
    if stain is None:
        channels = [cv2.convertScaleAbs(level, alpha=tint) for tint in lamps.tint]
    else:
        film = cv2.GaussianBlur(stain, (0, 0), 0.6)
        passed = [cv2.exp(film * np.float32(-absorbs)) for absorbs in STAIN_ABSORBS]
        channels = [cv2.convertScaleAbs(level * share, alpha=t) for share, t in zip(passed, lamps.tint, strict=True)]
    return np.asarray(cv2.merge(channels), np.uint8)


def _mask(cover: Field) -> Mask:
    """Everything the defect touched, and the pixel around it that the lens blurs."""
    touched = (cover > 0.02).astype(np.uint8) * np.uint8(255)
    return np.asarray(cv2.dilate(touched, np.ones((3, 3), np.uint8)), np.uint8)


def write_dataset(
    folder: str | Path,
    *,
    train: int,
    validation: int,
    test_good: int,
    test_per_defect: int,
    seed: int = 0,
    size: tuple[int, int] = CAMERA,
) -> Path:
    """Write an MVTec AD style data set of procedural parts; it appears whole or not at all.

    `train/good`, `validation/good`, `test/good` and `test/<defect>` hold 000.png and on;
    `ground_truth/<defect>` holds 000_mask.png and on.

    Returns:
        The folder.

    Raises:
        DataError: The folder is already in use, or cannot be written.
    """
    root, rng = Path(folder), np.random.default_rng(seed)
    if root.exists():
        raise DataError(f"{root} already exists.", expected="a new path", fix="delete it or choose another folder")
    counts: list[tuple[str, str | None, int]] = [
        ("train", None, train),
        ("validation", None, validation),
        ("test", None, test_good),
        *(("test", defect, test_per_defect) for defect in DEFECTS),
    ]
    scratch = root.with_name(root.name + ".partial")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        with Progress("drawing parts", sum(count for _, _, count in counts)) as progress:
            for split, defect, count in counts:
                for index in range(count):
                    _write_part(scratch, split, defect, index, draw_part(rng, defect, size=size))
                    progress.step()
        os.replace(scratch, root)
    except OSError as exc:
        raise DataError(
            f"{root} could not be written; nothing is left there.",
            expected="a writable place with enough room",
            got=exc.strerror or exc,
            fix="free disk space or choose another folder",
        ) from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return root


def _write_part(root: Path, split: str, defect: str | None, index: int, drawn: tuple[Image, Mask]) -> None:
    image, mask = drawn
    _write_png(root / split / (defect or "good") / f"{index:03}.png", image)
    if defect is not None:
        _write_png(root / "ground_truth" / defect / f"{index:03}_mask.png", mask)


def _write_png(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())
