"""What cameras send, as BGR bytes. Names are GenICam's (Pixel Format Naming Convention, PFNC 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.errors import OptionRefused
from edge_ad.frame import Image

__all__ = ["PIXEL_FORMATS", "PixelFormat", "pixel_format", "to_bgr"]


Bytes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """One way of sending pixels.

    Attributes:
        name: GenICam's.
        code: PFNC's number, as cameras send it with each image.
        channels: Bytes a pixel.
        convert: (height, width, channels) as sent, to a new BGR image.
    """

    name: str
    code: int
    channels: int
    convert: Callable[[Bytes], Image]


def _by_opencv(conversion: int) -> Callable[[Bytes], Image]:
    return lambda rows: np.asarray(cv2.cvtColor(np.ascontiguousarray(rows), conversion), np.uint8)


def _full_range(luma: int) -> Callable[[Bytes], Image]:
    """4:2:2 of which all 256 levels are used; `luma` is Y's place in a pixel's two bytes. Pixels share Cb and Cr."""

    def convert(rows: Bytes) -> Image:
        height, width = rows.shape[:2]
        planes = cv2.split(np.ascontiguousarray(rows))
        pairs = planes[1 - luma].reshape(height, width // 2, 2)
        blue, red = cv2.split(cv2.resize(pairs, (width, height), interpolation=cv2.INTER_NEAREST))
        return np.asarray(cv2.cvtColor(cv2.merge([planes[luma], red, blue]), cv2.COLOR_YCrCb2BGR), np.uint8)

    return convert


_FORMATS = (
    PixelFormat(name="Mono8", code=0x01080001, channels=1, convert=_by_opencv(cv2.COLOR_GRAY2BGR)),
    PixelFormat(name="BayerGR8", code=0x01080008, channels=1, convert=_by_opencv(cv2.COLOR_BayerGRBG2BGR)),
    PixelFormat(name="BayerRG8", code=0x01080009, channels=1, convert=_by_opencv(cv2.COLOR_BayerRGGB2BGR)),
    PixelFormat(name="BayerGB8", code=0x0108000A, channels=1, convert=_by_opencv(cv2.COLOR_BayerGBRG2BGR)),
    PixelFormat(name="BayerBG8", code=0x0108000B, channels=1, convert=_by_opencv(cv2.COLOR_BayerBGGR2BGR)),
    PixelFormat(name="RGB8", code=0x02180014, channels=3, convert=_by_opencv(cv2.COLOR_RGB2BGR)),
    PixelFormat(name="BGR8", code=0x02180015, channels=3, convert=lambda rows: rows.copy()),
    PixelFormat(name="RGBa8", code=0x02200016, channels=4, convert=_by_opencv(cv2.COLOR_RGBA2BGR)),
    PixelFormat(name="BGRa8", code=0x02200017, channels=4, convert=_by_opencv(cv2.COLOR_BGRA2BGR)),
    PixelFormat(name="YUV422_8_UYVY", code=0x0210001F, channels=2, convert=_full_range(luma=1)),
    PixelFormat(name="YUV422_8", code=0x02100032, channels=2, convert=_full_range(luma=0)),
    PixelFormat(name="YCbCr422_8", code=0x0210003B, channels=2, convert=_full_range(luma=0)),
    PixelFormat(name="YCbCr422_8_CbYCrY", code=0x02100043, channels=2, convert=_full_range(luma=1)),
    PixelFormat(name="YCbCr601_422_8", code=0x0210003E, channels=2, convert=_by_opencv(cv2.COLOR_YUV2BGR_YUYV)),
    PixelFormat(name="YCbCr601_422_8_CbYCrY", code=0x02100044, channels=2, convert=_by_opencv(cv2.COLOR_YUV2BGR_UYVY)),
)

PIXEL_FORMATS = {item.name: item for item in _FORMATS}
"""Name to format. Bayer is demosaiced bilinearly. YUV is BT.601; only the names with 601 leave room above and below
(Y from 16 to 235), the others use every level, as industrial cameras do (Basler scout, 11.3.6; Allied Vision Pike,
"Color conversion")."""

_BY_CODE = {item.code: item for item in _FORMATS}


def pixel_format(name_or_code: str | int) -> PixelFormat:
    """The format of that name or PFNC number.

    Raises:
        OptionRefused: It is none that can be converted.
    """
    known = PIXEL_FORMATS.get(name_or_code) if isinstance(name_or_code, str) else _BY_CODE.get(name_or_code)
    if known is None:
        raise OptionRefused(
            "This pixel format cannot be converted to BGR.",
            expected=", ".join(PIXEL_FORMATS),
            got=name_or_code if isinstance(name_or_code, str) else f"{name_or_code:#010x}",
            fix="set the option pixel_format to one of these",
        )
    return known


def to_bgr(pixels: Bytes, kind: PixelFormat, height: int, width: int, padding: int = 0) -> Image:
    """Convert to a new (height, width, 3) uint8 BGR image.

    Args:
        pixels: The bytes as sent, in one dimension; more than needed are left alone.
        kind: How they are meant.
        height: Pixels.
        width: Pixels.
        padding: Bytes at the end of each row that are no pixels.

    Raises:
        ValueError: There are too few bytes.
    """
    stride = width * kind.channels + padding
    if pixels.size < stride * height - padding:
        raise ValueError(f"{pixels.size} bytes for {width}x{height} {kind.name}, which needs {stride * height}")
    rows = np.lib.stride_tricks.as_strided(
        pixels, (height, width, kind.channels), (stride, kind.channels, 1), writeable=False
    )
    return kind.convert(rows)
