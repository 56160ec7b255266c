"""What cameras send, as BGR bytes. Names are GenICam's (Pixel Format Naming Convention, PFNC 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.errors import OptionRefused
from edge_ad.frame import Image

__all__ = ["PIXEL_FORMATS", "PixelFormat", "pixel_format", "to_bgr"]


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """One way of sending pixels.

    Attributes:
        name: GenICam's.
        code: PFNC's number, as cameras send it with each image.
        channels: Bytes a pixel.
        conversion: OpenCV's conversion to BGR, or None where the bytes are BGR as they are.
    """

    name: str
    code: int
    channels: int
    conversion: int | None


_FORMATS = (
    PixelFormat(name="Mono8", code=0x01080001, channels=1, conversion=cv2.COLOR_GRAY2BGR),
    PixelFormat(name="BayerGR8", code=0x01080008, channels=1, conversion=cv2.COLOR_BayerGRBG2BGR),
    PixelFormat(name="BayerRG8", code=0x01080009, channels=1, conversion=cv2.COLOR_BayerRGGB2BGR),
    PixelFormat(name="BayerGB8", code=0x0108000A, channels=1, conversion=cv2.COLOR_BayerGBRG2BGR),
    PixelFormat(name="BayerBG8", code=0x0108000B, channels=1, conversion=cv2.COLOR_BayerBGGR2BGR),
    PixelFormat(name="RGB8", code=0x02180014, channels=3, conversion=cv2.COLOR_RGB2BGR),
    PixelFormat(name="BGR8", code=0x02180015, channels=3, conversion=None),
    PixelFormat(name="RGBa8", code=0x02200016, channels=4, conversion=cv2.COLOR_RGBA2BGR),
    PixelFormat(name="BGRa8", code=0x02200017, channels=4, conversion=cv2.COLOR_BGRA2BGR),
    PixelFormat(name="YUV422_8_UYVY", code=0x0210001F, channels=2, conversion=cv2.COLOR_YUV2BGR_UYVY),
    PixelFormat(name="YUV422_8", code=0x02100032, channels=2, conversion=cv2.COLOR_YUV2BGR_YUYV),
)

PIXEL_FORMATS = {item.name: item for item in _FORMATS}
"""Name to format. Bayer is demosaiced bilinearly; YUV is BT.601 in video range, as cameras send it."""

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


def to_bgr(pixels: npt.NDArray[np.uint8], kind: PixelFormat, height: int, width: int, padding: int = 0) -> Image:
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
    if kind.conversion is None:
        return rows.copy()
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows), kind.conversion), np.uint8)
