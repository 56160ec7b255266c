"""Images from files, and their order."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad.errors import UnreadableImage
from edge_ad.frame import IMAGE_SUFFIXES, Frame, list_images, natural_key, read_image

# Odd sizes and a different level per channel, so that swapped axes or channels show.
IMAGE = np.dstack([np.full((5, 7), level, np.uint8) for level in (10, 120, 250)])


def test_bgr_comes_back(tmp_path: Path) -> None:
    for suffix in (".png", ".BMP", ".tiff"):
        cv2.imwrite(str(tmp_path / f"a{suffix}"), IMAGE)
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), IMAGE)


@pytest.mark.parametrize("pixels", [IMAGE[:, :, 0], np.dstack([IMAGE, IMAGE[:, :, 0]]), IMAGE.astype(np.uint16) * 257])
def test_grey_transparent_and_16_bit_files_become_8_bit_bgr(tmp_path: Path, pixels: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    image = read_image(tmp_path / "a.png")
    assert (image.shape, image.dtype) == ((5, 7, 3), np.uint8)
    np.testing.assert_allclose(image[0, 0], IMAGE[0, 0] if pixels.ndim == 3 else [10] * 3, atol=1)


def test_names_with_spaces_and_umlauts(tmp_path: Path) -> None:
    path = tmp_path / "Prüf teil.png"
    path.write_bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
    assert read_image(path).shape == (5, 7, 3)


def png_that_promises(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


NOT_IMAGES = {
    "empty": b"",
    "text": b"hello",
    "the first bytes only": cv2.imencode(".png", IMAGE)[1].tobytes()[:20],
    "a header of terapixels": png_that_promises(1 << 20, 1 << 20),
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
