"""Reading a bundle that may be damaged or hostile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_ad.bundle import Bundle
from edge_ad.errors import BundleCorrupt, BundleMismatch
from tests.golden_bundle import spoil_manifest, swap_file


def test_a_sound_bundle_gives_its_files(tiny_bundle: Bundle) -> None:
    again = Bundle(str(tiny_bundle.path))
    again.verify()
    assert again.manifest == tiny_bundle.manifest
    assert again.read("model.onnx") == (tiny_bundle.path / "model.onnx").read_bytes()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def turn_into_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def turn_into_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def turn_into_link(file: Path) -> None:
    moved = file.with_name("moved")
    file.rename(moved)
    file.symlink_to(moved)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "cannot be read"),
    "truncated": (cut, "not the file the manifest describes"),
    "altered": (flip_a_bit, "not the file the manifest describes"),
    "empty": (lambda file: file.write_bytes(b"") and None, "not the file the manifest describes"),
    "a folder": (turn_into_folder, "folder or device"),
    "a pipe, which would block": (turn_into_pipe, "folder or device"),
    "a link to the right bytes": (turn_into_link, "is a link"),
}


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_not_given(tiny_bundle: Bundle, name: str, damage: str) -> None:
    spoil, complaint = DAMAGE[damage]
    spoil(tiny_bundle.path / name)
    for attempt in (lambda: tiny_bundle.read(name), tiny_bundle.verify):
        with pytest.raises(BundleCorrupt, match=complaint) as caught:
            attempt()
        assert name in caught.value.what


def test_a_wrong_hash_shows_both(tiny_bundle: Bundle) -> None:
    expected = tiny_bundle.manifest.files["model.onnx"]
    spoil_manifest(tiny_bundle.path, lambda tree: tree["files"].update({"model.onnx": "0" * 64}))
    with pytest.raises(BundleCorrupt) as caught:
        Bundle(tiny_bundle.path).read("model.onnx")
    assert caught.value.expected == "sha256 " + "0" * 64
    assert caught.value.got == "sha256 " + expected


def test_a_linked_subfolder_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.engine").write_bytes(b"engine")
    (tiny_bundle.path / "engines").mkdir()
    (tiny_bundle.path / "engines" / "a.engine").write_bytes(b"")
    swap_file(tiny_bundle.path, "engines/a.engine", b"engine")
    shutil.rmtree(tiny_bundle.path / "engines")
    (tiny_bundle.path / "engines").symlink_to(elsewhere)
    with pytest.raises(BundleCorrupt, match="engines is a link"):
        Bundle(tiny_bundle.path).read("engines/a.engine")


def test_a_link_to_the_bundle_itself_is_fine(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Stations point `current` at the version in use."""
    current = tmp_path / "current"
    current.symlink_to(tiny_bundle.path)
    Bundle(current).verify()


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "manifest.json", "unlisted.bin"])
def test_only_listed_files_are_read(tiny_bundle: Bundle, name: str) -> None:
    (tiny_bundle.path.parent / "outside").write_bytes(b"secret")
    (tiny_bundle.path / "unlisted.bin").write_bytes(b"x")
    with pytest.raises(BundleMismatch, match="has no file"):
        tiny_bundle.read(name)


@pytest.mark.parametrize("damage", [Path.unlink, cut, turn_into_folder, turn_into_pipe, turn_into_link])
def test_a_damaged_manifest_is_not_opened(tiny_bundle: Bundle, damage: Callable[[Path], None]) -> None:
    # Cutting one byte only takes the last line break away, so cut more.
    for _ in range(2 if damage is cut else 1):
        damage(tiny_bundle.path / "manifest.json")
    with pytest.raises(BundleCorrupt, match=str(tiny_bundle.path)):
        Bundle(tiny_bundle.path)


def test_a_huge_manifest_is_not_read(tiny_bundle: Bundle) -> None:
    with open(tiny_bundle.path / "manifest.json", "r+b") as file:
        file.truncate(8 << 30)  # sparse: takes no room
    with pytest.raises(BundleCorrupt, match="too large"):
        Bundle(tiny_bundle.path)


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    packed = tmp_path / "bottle.zip"
    packed.write_bytes(b"PK")
    with pytest.raises(BundleCorrupt, match="is a file") as caught:
        Bundle(packed)
    assert caught.value.fix == "unpack it first"
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(BundleCorrupt, match="is not a bundle"):
            Bundle(path)


def test_a_precision_that_is_not_there(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleMismatch, match="has no int8 graph") as caught:
        tiny_bundle.precision("int8")
    assert caught.value.expected == "fp32"
    assert "python -m calibration" in (caught.value.fix or "")
