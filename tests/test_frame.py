"""Images from files, and their order."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad.errors import UnreadableImage
from edge_ad.frame import IMAGE_SUFFIXES, Frame, list_images, natural_key, read_image
from tests.image_files import chunk, png, with_exif

# Odd sizes and a different level per channel, so that swapped axes or channels show.
IMAGE = np.dstack([np.full((5, 7), level, np.uint8) for level in (10, 120, 250)])


def test_bgr_comes_back(tmp_path: Path) -> None:
    for suffix in (".png", ".BMP", ".tiff"):
        cv2.imwrite(str(tmp_path / f"a{suffix}"), IMAGE)
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), IMAGE)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    for suffix in (".png", ".tiff", ".bmp"):
        cv2.imwrite(str(tmp_path / f"a{suffix}"), IMAGE[:, :, 1])
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), np.full((5, 7, 3), 120, np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_become_8_over_their_whole_range(tmp_path: Path, suffix: str, channels: int) -> None:
    levels = np.array([0, 128, 129, 1000, 32639, 32640, 65278, 65406, 65407, 65535], np.uint16)
    pixels = np.dstack([np.roll(levels, shift) for shift in range(channels)])
    cv2.imwrite(str(tmp_path / f"a{suffix}"), pixels)
    expected = [[round(int(level) / 257) for level in pixel] * (3 // channels) for pixel in pixels[0]]
    assert read_image(tmp_path / f"a{suffix}").tolist() == [expected]


def test_12_bits_in_16_stay_dark(tmp_path: Path) -> None:
    """The file does not tell them from a dark image of 16 bits."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((2, 2), 4095, np.uint16))
    assert read_image(tmp_path / "a.png").max() == 16


def test_transparency_is_dropped(tmp_path: Path) -> None:
    alpha = np.arange(35, dtype=np.uint8).reshape(5, 7)
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([IMAGE, alpha]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), IMAGE)


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    palette = chunk(b"PLTE", bytes([1, 2, 3, 10, 20, 30, 200, 100, 50]))
    for transparency in (b"", chunk(b"tRNS", bytes([0, 128]))):
        (tmp_path / "a.png").write_bytes(png(4, 1, 8, 3, [bytes([0, 1, 2, 1])], palette + transparency))
        assert read_image(tmp_path / "a.png").tolist() == [[[3, 2, 1], [30, 20, 10], [50, 100, 200], [30, 20, 10]]]


CORNERS = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}
CORNERS |= {5: "top left", 6: "top right", 7: "bottom right", 8: "bottom left"}


@pytest.mark.parametrize("orientation", CORNERS)
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    """The stored image is 32 wide, and white in its top left corner; orientations from 5 on swap the axes."""
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16] = 255
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(cv2.imencode(".jpg", stored)[1].tobytes(), orientation))
    image = read_image(path)
    assert image.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))
    bright = {
        f"{vertical} {horizontal}"
        for vertical, y in (("top", 2), ("bottom", -3))
        for horizontal, x in (("left", 2), ("right", -3))
        if image[y, x].min() > 200
    }
    assert bright == {CORNERS[orientation]}


def test_108_megapixels(tmp_path: Path) -> None:
    rows = [bytes(12000)] * 8999 + [bytes(11999) + b"\xff"]
    (tmp_path / "a.png").write_bytes(png(12000, 9000, 8, 0, rows))
    image = read_image(tmp_path / "a.png")
    assert image.shape == (9000, 12000, 3)
    assert image[-1, -1].tolist() == [255] * 3 and not image[:-1].any()


def test_more_pixels_than_opencv_takes_name_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(40_000, 40_000, 8, 2, []))
    with pytest.raises(UnreadableImage, match=r"a\.png is not a readable image") as caught:
        read_image(tmp_path / "a.png")
    assert "OPENCV_IO_MAX_IMAGE_PIXELS" in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_pixels_of_an_unknown_range_are_refused(tmp_path: Path, dtype: type) -> None:
    cv2.imwrite(str(tmp_path / "a.tiff"), (IMAGE / 255 * 2).astype(dtype))
    with pytest.raises(UnreadableImage, match="unknown range") as caught:
        read_image(tmp_path / "a.tiff")
    assert str(np.dtype(dtype)) in str(caught.value.got)


def test_names_with_spaces_and_umlauts(tmp_path: Path) -> None:
    path = tmp_path / "Prüf teil.png"
    path.write_bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
    assert read_image(path).shape == (5, 7, 3)


NOT_IMAGES = {
    "empty": b"",
    "text": b"hello",
    "the first bytes only": cv2.imencode(".png", IMAGE)[1].tobytes()[:20],
    "a header of terapixels": png(1 << 21, 1 << 21, 8, 2, []),
}


@pytest.mark.parametrize("case", NOT_IMAGES)
def test_what_does_not_decode_is_named(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(NOT_IMAGES[case])
    with pytest.raises(UnreadableImage, match=r"a\.png is not a readable image") as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.got == f"{len(NOT_IMAGES[case])} bytes that do not decode"


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableImage, match="cannot be read"):
        read_image(tmp_path / name)


def test_a_copied_frame_owns_its_image() -> None:
    frame = Frame(image=IMAGE.copy(), sequence=4, timestamp_ns=5, camera="a")
    copy = frame.copy()
    frame.image[:] = 0
    np.testing.assert_array_equal(copy.image, IMAGE)
    assert (copy.sequence, copy.timestamp_ns, copy.camera) == (4, 5, "a")


def test_natural_order() -> None:
    names = ["1.png", "02.png", "10.png", "a2b10.png", "a2b9.png", "a10.png", "B1.png", "part 3.png", "part 20.png"]
    ordered = ["1.png", "02.png", "10.png", "a2b9.png", "a2b10.png", "a10.png", "B1.png", "part 3.png", "part 20.png"]
    assert sorted(names, key=lambda name: natural_key(Path(name))) == ordered
    assert natural_key(Path("a1")) != natural_key(Path("a01")), "so that the order never depends on the file system"


def test_listing_takes_images_only(tmp_path: Path) -> None:
    for name in ("b10.jpg", "b9.JPG", ".hidden.png", "notes.txt", "Thumbs.db", "c.webp"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["b9.JPG", "b10.jpg", "c.webp"]
    assert {".png", ".jpg", ".bmp", ".tif"} <= IMAGE_SUFFIXES
