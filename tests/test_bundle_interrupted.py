"""Writing bundles on full disks and across a kill: the old bundle, the new one, or damage that is detected."""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_ad import durable
from edge_ad.bundle import Bundle, create_bundle, sha256
from edge_ad.errors import BundleCorrupt, BundleError
from tests.golden_bundle import contents, golden_bundle, snapshot

resource = pytest.importorskip("resource", reason="file size limits exist on Unix only")


class FullDisk:
    """Writes go through until the disk is full: then half of the bytes are taken and the rest is refused."""

    def __init__(self, fails_at: int) -> None:
        self.countdown = fails_at

    def open(self, path: Path, mode: str) -> Any:
        file = builtins.open(path, mode)  # noqa: SIM115  # whoever asked for it closes it
        self.countdown -= 1
        return file if self.countdown else _HalfWritten(file)

    def fsync(self, descriptor: int) -> None:
        self.countdown -= 1
        if not self.countdown:
            raise OSError(errno.ENOSPC, "No space left on device")


class _HalfWritten:
    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def __enter__(self) -> _HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def fill_at_write(monkeypatch: pytest.MonkeyPatch, count: int) -> FullDisk:
    disk = FullDisk(count)
    monkeypatch.setattr(durable, "open", disk.open, raising=False)
    return disk


def fill_at_fsync(monkeypatch: pytest.MonkeyPatch, count: int) -> FullDisk:
    disk = FullDisk(count)
    monkeypatch.setattr(durable.os, "fsync", disk.fsync)
    return disk


FILL = [fill_at_write, fill_at_fsync]


@pytest.mark.parametrize("fill", FILL)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_full_disk_leaves_the_edited_bundle_as_it_was(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    fill: Callable[[pytest.MonkeyPatch, int], FullDisk],
    count: int,
) -> None:
    before, manifest = snapshot(tiny_bundle.path), tiny_bundle.manifest
    disk = fill(monkeypatch, count)
    with pytest.raises(BundleError) as caught, tiny_bundle.edit() as edit:
        edit.write("model.onnx", b"another graph")
        edit.write("engines/a.engine", b"engine")
    assert caught.value.got == "the disk is full"
    assert disk.countdown == 0
    assert snapshot(tiny_bundle.path) == before
    assert tiny_bundle.manifest == manifest


@pytest.mark.parametrize("fill", FILL)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_no_half_bundle(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fill: Callable[[pytest.MonkeyPatch, int], FullDisk],
    count: int,
    force: bool,
) -> None:
    before = snapshot(tmp_path)
    place = tiny_bundle.path if force else tmp_path / "new"
    files = {"model.onnx": b"another graph", "golden.npz": b"other"}
    disk = fill(monkeypatch, count)
    with pytest.raises(BundleError, match="could not be written") as caught:
        create_bundle(place, tiny_bundle.manifest, files, force=force)
    assert caught.value.fix == "free disk space and run the command again"
    assert disk.countdown == 0
    assert snapshot(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.bundle"]


@contextmanager
def file_size_limit(most_bytes: int) -> Iterator[None]:
    """The operating system itself refuses larger files, as it does on a full disk or quota."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_write_refused_by_the_system_leaves_the_bundle_as_it_was(tiny_bundle: Bundle) -> None:
    before = snapshot(tiny_bundle.path)
    with file_size_limit(1 << 16), pytest.raises(BundleError, match="as it was before"), tiny_bundle.edit() as edit:
        edit.write("report.json", b"{}")
        edit.write("model.onnx", bytes(1 << 17))
    assert snapshot(tiny_bundle.path) == before


def test_a_failed_replacement_brings_the_old_bundle_back(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, replace = snapshot(tmp_path), os.replace

    def refuse_the_new(source: Path, target: Path) -> None:
        if source.name == "tiny.bundle.partial":
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    files = {**contents(tiny_bundle), "model.onnx": b"other"}
    monkeypatch.setattr(os, "replace", refuse_the_new)
    with pytest.raises(BundleError, match="what was there before still is"):
        create_bundle(tiny_bundle.path, tiny_bundle.manifest, files, force=True)
    assert snapshot(tmp_path) == before


KILL = """
import os, sys
from edge_ad.bundle import Bundle, create_bundle
from edge_ad import bundle as module
path, action, countdown = sys.argv[1], sys.argv[2], int(sys.argv[3])
replace = os.replace
def kill(source, target):
    global countdown
    countdown -= 1
    if countdown == 0:
        os._exit(9)
    replace(source, target)
os.replace = kill
bundle = Bundle(path)
if action == "edit":
    with bundle.edit() as edit:
        edit.write("model.onnx", b"another graph")
        edit.write("golden.npz", b"other")
else:
    create_bundle(path, bundle.manifest, {"model.onnx": b"another graph", "golden.npz": b"other"}, force=True)
"""


def run_and_kill(path: Path, action: str, countdown: int) -> None:
    status = subprocess.run([sys.executable, "-c", KILL, str(path), action, str(countdown)], check=False).returncode
    assert status == 9


def is_old(bundle: Bundle) -> bool:
    return bundle.manifest.files["model.onnx"] != sha256(b"another graph")


def test_a_kill_before_the_first_rename_leaves_the_old_bundle(tmp_path: Path) -> None:
    for action in ("edit", "create"):
        path = golden_bundle(tmp_path / action).path
        run_and_kill(path, action, 1)
        Bundle(path).verify()
        assert is_old(Bundle(path))
        with Bundle(path).edit() as edit:
            edit.write("model.onnx", b"another graph")
            edit.write("golden.npz", b"other")
        Bundle(path).verify()
        assert not list(path.rglob("*.partial")), "the same edit, done again, takes over what the kill left"


@pytest.mark.parametrize("countdown", [2, 3])
def test_a_kill_between_the_renames_of_an_edit_is_detected(tiny_bundle: Bundle, countdown: int) -> None:
    run_and_kill(tiny_bundle.path, "edit", countdown)
    with pytest.raises(BundleCorrupt, match="not the file the manifest describes"):
        Bundle(tiny_bundle.path).verify()


def test_a_kill_between_the_renames_of_a_replacement_is_detected(tiny_bundle: Bundle) -> None:
    run_and_kill(tiny_bundle.path, "create", 2)
    with pytest.raises(BundleCorrupt, match="is not a bundle"):
        Bundle(tiny_bundle.path)
    Bundle(tiny_bundle.path.with_name("tiny.bundle.old.partial")).verify()
