"""Pixel formats against references written out here: what the standard says, pixel by pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edge_ad.cameras.pixels import PIXEL_FORMATS, pixel_format, to_bgr
from edge_ad.errors import OptionRefused

HEIGHT, WIDTH = 14, 18
PATTERNS = {"BayerRG8": "RGGB", "BayerGR8": "GRBG", "BayerGB8": "GBRG", "BayerBG8": "BGGR"}
"""GenICam names a pattern by its first row's two colours; the second row follows from them."""


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def convert(name: str, sent: npt.NDArray[np.uint8], padding: int = 0) -> npt.NDArray[np.uint8]:
    return to_bgr(sent.reshape(-1), PIXEL_FORMATS[name], HEIGHT, WIDTH, padding)


def bilinear(mosaic: npt.NDArray[np.uint8], pattern: str) -> npt.NDArray[np.uint8]:
    """Each missing colour is the mean of its nearest neighbours of that colour, rounded half up; inner pixels."""
    image = np.zeros((*mosaic.shape, 3), np.uint8)
    for y in range(1, mosaic.shape[0] - 1):
        for x in range(1, mosaic.shape[1] - 1):
            for channel, colour in enumerate("BGR"):
                near = [
                    (abs(dy) + abs(dx), int(mosaic[y + dy, x + dx]))
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                    if pattern[2 * ((y + dy) % 2) + (x + dx) % 2] == colour
                ]
                closest = [value for distance, value in near if distance == min(near)[0]]
                image[y, x, channel] = (2 * sum(closest) + len(closest)) // (2 * len(closest))
    return image


@pytest.mark.parametrize("name", PATTERNS)
def test_bayer_is_demosaiced_bilinearly(name: str) -> None:
    mosaic = noise(HEIGHT, WIDTH)
    converted = convert(name, mosaic)
    np.testing.assert_array_equal(converted[1:-1, 1:-1], bilinear(mosaic, PATTERNS[name])[1:-1, 1:-1])
    assert converted.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_colour_comes_out_of_a_mosaic_as_it_went_in(name: str) -> None:
    colour = {"B": 40, "G": 120, "R": 200}
    tile = np.array([colour[letter] for letter in PATTERNS[name]], np.uint8).reshape(2, 2)
    converted = convert(name, np.tile(tile, (HEIGHT // 2, WIDTH // 2)))
    np.testing.assert_array_equal(converted, np.broadcast_to(np.uint8([40, 120, 200]), (HEIGHT, WIDTH, 3)))


def test_the_packed_formats_are_exact() -> None:
    three, four = noise(HEIGHT, WIDTH, 3), noise(HEIGHT, WIDTH, 4)
    np.testing.assert_array_equal(convert("BGR8", three), three)
    np.testing.assert_array_equal(convert("RGB8", three), three[..., ::-1])
    np.testing.assert_array_equal(convert("BGRa8", four), four[..., :3])
    np.testing.assert_array_equal(convert("RGBa8", four), four[..., 2::-1])
    mono = noise(HEIGHT, WIDTH)
    np.testing.assert_array_equal(convert("Mono8", mono), np.stack([mono] * 3, axis=2))


def planes_of(sent: npt.NDArray[np.uint8], order: str) -> dict[str, npt.NDArray[np.float64]]:
    """Y, Cb and Cr of each pixel from groups of four bytes; two pixels share a pair of Cb and Cr."""
    found = {letter: sent[..., [at for at, other in enumerate(order) if other == letter]] for letter in "YUV"}
    planes = {letter: np.repeat(found[letter][..., 0], 2, axis=1).astype(float) for letter in "UV"}
    return planes | {"Y": found["Y"].reshape(HEIGHT, WIDTH).astype(float)}


def bgr_of(luma: npt.NDArray[np.float64], blue: npt.NDArray[np.float64], red: npt.NDArray[np.float64]) -> object:
    """ITU-R BT.601-7, 2.5.1 and 2.5.2 solved for B, G and R; Cb and Cr from -0.5 to 0.5, all times 255."""
    green = luma - (1.772 * 0.114 * blue + 1.402 * 0.299 * red) / 0.587
    return np.clip(np.stack([luma + 1.772 * blue, green, luma + 1.402 * red], axis=2), 0, 255)


@pytest.mark.parametrize(
    ("name", "order"),
    [("YUV422_8", "YUYV"), ("YUV422_8_UYVY", "UYVY"), ("YCbCr422_8", "YUYV"), ("YCbCr422_8_CbYCrY", "UYVY")],
)
def test_yuv_of_industrial_cameras_uses_every_level(name: str, order: str) -> None:
    sent = noise(HEIGHT, WIDTH // 2, 4)
    planes = planes_of(sent, order)
    expected = bgr_of(planes["Y"], planes["U"] - 128, planes["V"] - 128)
    assert np.abs(convert(name, sent) - expected).max() <= 1
    white = np.tile(np.uint8([255 if letter == "Y" else 128 for letter in order]), (HEIGHT, WIDTH // 2, 1))
    assert convert(name, white).min() == 255


@pytest.mark.parametrize(("name", "order"), [("YCbCr601_422_8", "YUYV"), ("YCbCr601_422_8_CbYCrY", "UYVY")])
def test_yuv_with_601_in_its_name_is_in_video_range(name: str, order: str) -> None:
    """ITU-R BT.601-7, 2.5.3: Y from 16 to 235, Cb and Cr from 16 to 240."""
    sent = noise(HEIGHT, WIDTH // 2, 4)
    planes = planes_of(sent, order)
    luma = np.maximum(planes["Y"] - 16, 0) * 255 / 219  # OpenCV holds Y below black for black
    expected = bgr_of(luma, (planes["U"] - 128) * 255 / 224, (planes["V"] - 128) * 255 / 224)
    assert np.abs(convert(name, sent) - expected).max() <= 1


@pytest.mark.parametrize("name", PIXEL_FORMATS)
def test_rows_may_be_padded_and_the_image_is_our_own(name: str) -> None:
    kind = PIXEL_FORMATS[name]
    sent = noise(HEIGHT, WIDTH * kind.channels)
    padded = np.pad(sent, ((0, 0), (0, 6)), constant_values=99)
    image = convert(name, padded, padding=6)
    np.testing.assert_array_equal(image, convert(name, sent))
    before = image.copy()
    sent[:] = 0
    padded[:] = 0
    np.testing.assert_array_equal(image, before)
    assert image.flags.c_contiguous
    assert image.flags.writeable
    with pytest.raises(ValueError, match=name):
        to_bgr(sent.reshape(-1)[:-1], kind, HEIGHT, WIDTH)


def test_formats_are_found_by_name_and_by_number() -> None:
    for name, kind in PIXEL_FORMATS.items():
        assert pixel_format(name) is pixel_format(kind.code) is kind
        assert kind.code >> 16 & 0xFF == kind.channels * 8  # PFNC: the third byte is bits a pixel
    for unknown in ("Mono12", 0x01100005):
        with pytest.raises(OptionRefused, match="cannot be converted") as caught:
            pixel_format(unknown)
        assert "BayerRG8" in str(caught.value)
