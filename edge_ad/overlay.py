"""Draw an inspection over its image: heat where it matters, an outline of what exceeds the threshold, a verdict strip.

Heat is scaled by the threshold, not by the image's own maximum: a normal part stays as the camera saw it,
and two overlays of one bundle can be compared. A score may come from more than the map shows, such as the map before
its blur or a head of its own: then the hottest place of a rejected part stands for its score.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.errors import DataError
from edge_ad.frame import Frame, Image, check_image
from edge_ad.inspection import Inspection, Region

__all__ = ["draw_heat", "draw_overlay", "save_overlay"]

QUIET, FULL = 0.55, 2.2  # levels where colour begins and where it is strongest; 1.0 is the threshold
STRONGEST = 0.55  # share of colour at FULL: the part stays visible underneath
RAMP = ((QUIET, (70, 205, 255)), (1.0, (40, 150, 255)), (1.5, (45, 70, 245)), (FULL, (35, 20, 215)))  # BGR by level
LINE, HALO = (255, 255, 255), (25, 20, 20)
MARKED, SMALL = 5, 0.25  # this many regions, up to this share of the image, get marks; the rest are plain to see
SMALLEST = 480  # pixels of width a verdict strip needs to be legible
INK, MUTED, PAPER = (245, 242, 240), (176, 168, 162), (32, 27, 24)
VERDICTS = {False: ("GOOD", (88, 138, 30)), True: ("ANOMALOUS", (52, 44, 200))}
FONT = cv2.FONT_HERSHEY_DUPLEX


def save_overlay(folder: Path, frame: Frame, inspection: Inspection) -> Path:
    """Write the overlay of a frame as `folder`/<source's name>_<sequence>.jpg; returns the path.

    Raises:
        DataError: It could not be written; nothing is left of it.
    """
    path = folder / f"{Path(frame.camera).stem}_{frame.sequence:06d}.jpg"
    _, encoded = cv2.imencode(".jpg", draw_overlay(frame.image, inspection), [cv2.IMWRITE_JPEG_QUALITY, 92])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as exc:
        if path.is_file():
            path.unlink()
        raise DataError(
            f"{path} could not be written.", expected="a writable folder with room", got=exc.strerror or exc
        ) from exc
    return path


def draw_overlay(image: Image, inspection: Inspection) -> Image:
    """The image with its heat, and a strip with verdict, score and threshold below it.

    Args:
        image: (H, W, 3) uint8 BGR that was inspected; it is not changed.
        inspection: Its inspection.

    Returns:
        A new image of the same width with the strip added at its foot, so that nothing is hidden. Images narrower
        than 480 pixels are enlarged by a whole factor first: the strip would not be legible otherwise.
    """
    height, width = check_image(image).shape[:2]
    factor = -(-SMALLEST // width)
    if factor > 1:
        enlarged = cv2.resize(image, (width * factor, height * factor), interpolation=cv2.INTER_NEAREST)
        image = np.asarray(enlarged, np.uint8)
        inspection = replace(inspection, regions=tuple(_enlarge(region, factor) for region in inspection.regions))
    return np.vstack([draw_heat(image, inspection), _strip(width * factor, height * factor, inspection)])


def _enlarge(region: Region, factor: int) -> Region:
    return Region(
        x=region.x * factor,
        y=region.y * factor,
        width=region.width * factor,
        height=region.height * factor,
        score=region.score,
    )


def draw_heat(image: Image, inspection: Inspection) -> Image:
    """A copy of the image with heat, outline and corner marks; same size, and untouched where the map is quiet."""
    drawn = check_image(image).copy()
    levels = _levels(inspection)
    if levels.max() <= QUIET:
        return drawn
    levels = cv2.resize(levels, drawn.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
    _blend_heat(drawn, levels)
    _outline(drawn, levels)
    for region in inspection.regions[:MARKED]:
        if max(region.width, region.height) < SMALL * min(drawn.shape[:2]):
            _mark_corners(drawn, region)
    return drawn


def _levels(inspection: Inspection) -> npt.NDArray[np.float32]:
    """The map with its typical value at 0 and the threshold at 1, whatever its unit and sign; above 1 if rejected."""
    anomaly_map, threshold = inspection.anomaly_map, inspection.threshold
    typical = float(np.median(anomaly_map))
    if typical >= threshold:
        typical = float(anomaly_map.min())
    if typical >= threshold:
        return np.full(anomaly_map.shape, FULL, np.float32)
    levels = (anomaly_map - np.float32(typical)) / np.float32(threshold - typical)
    highest = float(levels.max())
    if inspection.is_anomalous and 0 < highest <= 1:
        levels = levels * np.float32((inspection.score - typical) / (threshold - typical) / highest)
    return np.asarray(levels, np.float32)


def _palette() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Colour (256, 3) and opacity (256,) for levels 0 to FULL."""
    levels = np.linspace(0, FULL, 256)
    stops = [level for level, _ in RAMP]
    channels = [np.interp(levels, stops, [colour[channel] for _, colour in RAMP]) for channel in range(3)]
    rise = np.clip((levels - QUIET) / (FULL - QUIET), 0, 1)
    return np.stack(channels, axis=1).astype(np.float32), (STRONGEST * rise**0.7).astype(np.float32)


def _blend_heat(drawn: Image, levels: npt.NDArray[np.float32]) -> None:
    """Blend the palette into `drawn`, within the box around what is not quiet."""
    left, top, width, height = cv2.boundingRect((levels > QUIET).astype(np.uint8))
    window = np.s_[top : top + height, left : left + width]
    place = np.clip(levels[window] * (255 / FULL), 0, 255).astype(np.uint8)
    colour, opacity = _palette()
    under, cover = drawn[window].astype(np.float32), opacity[place][..., None]
    drawn[window] = np.rint(under + cover * (colour[place] - under)).astype(np.uint8)


def _outline(drawn: Image, levels: npt.NDArray[np.float32]) -> None:
    contours, _ = cv2.findContours((levels > 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width = _line_width(drawn)
    cv2.drawContours(drawn, contours, -1, HALO, width + 2, cv2.LINE_AA)
    cv2.drawContours(drawn, contours, -1, LINE, width, cv2.LINE_AA)


def _line_width(drawn: Image) -> int:
    return max(1, round(int(min(drawn.shape[:2])) / 450))


def _mark_corners(drawn: Image, region: Region) -> None:
    """Corner marks a little outside a region's box, so that a small region is found at first glance."""
    height, width = drawn.shape[:2]
    gap, arm, line = min(height, width) // 40, max(4, min(height, width) // 30), _line_width(drawn)
    left, right = max(line, region.x - gap), min(width - 1 - line, region.x + region.width + gap)
    top, bottom = max(line, region.y - gap), min(height - 1 - line, region.y + region.height + gap)
    for x, inward in ((left, arm), (right, -arm)):
        for y, down in ((top, arm), (bottom, -arm)):
            corner = np.array([[x + inward, y], [x, y], [x, y + down]], np.int32)
            cv2.polylines(drawn, [corner], False, HALO, line + 2, cv2.LINE_AA)
            cv2.polylines(drawn, [corner], False, LINE, line, cv2.LINE_AA)


def _strip(width: int, height: int, inspection: Inspection) -> Image:
    """Verdict in its colour, score and threshold, and where there is room, how it was obtained."""
    tall = max(36, min(width, height) // 14)
    strip = np.full((tall, width, 3), PAPER, np.uint8)
    verdict, colour = VERDICTS[inspection.is_anomalous]
    pad = tall // 3
    end = 2 * pad + _text_width(verdict, tall)
    strip[:, :end] = colour
    _write(strip, verdict, pad, INK)
    place = end + pad
    score, threshold = _figures(inspection.score, inspection.threshold)
    for text, ink in ((f"score {score}", INK), (f"threshold {threshold}", MUTED)):
        _write(strip, text, place, ink)
        place += _text_width(text, tall) + pad
    note = f"{inspection.precision} {inspection.latency_ms:.1f} ms"
    start = width - pad - _text_width(note, tall)
    if start > place:
        _write(strip, note, start, MUTED)
    return strip


def _figures(score: float, threshold: float) -> tuple[str, str]:
    """Both numbers with the same decimals: three digits of the larger, more where they would look equal."""
    size = max(abs(score), abs(threshold))
    if size and not 1e-4 <= size < 1e7:
        return f"{score:.3g}", f"{threshold:.3g}"
    first = max(0, 2 - math.floor(math.log10(size))) if size else 0
    for decimals in range(first, first + 6):
        figures = f"{score:.{decimals}f}", f"{threshold:.{decimals}f}"
        if figures[0] != figures[1]:
            break
    return figures


def _scale(tall: int) -> float:
    """Font scale at which capitals fill 42 % of a strip's height."""
    return 0.42 * tall / cv2.getTextSize("H", FONT, 1.0, 1)[0][1]


def _text_width(text: str, tall: int) -> int:
    return int(cv2.getTextSize(text, FONT, _scale(tall), max(1, tall // 36))[0][0])


def _write(strip: Image, text: str, x: int, ink: tuple[int, int, int]) -> None:
    tall = strip.shape[0]
    cv2.putText(strip, text, (x, round(tall * 0.69)), FONT, _scale(tall), ink, max(1, tall // 36), cv2.LINE_AA)
