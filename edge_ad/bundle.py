"""The bundle: one directory that travels to a station, that any language can read, safe to receive.

    manifest.json             see edge_ad/manifest.py; holds the sha256 of every file below
    model.onnx                the one graph in float32; model.fp16.onnx, model.int8.onnx beside it
    engines/<precision>-<flavour>-<version>-<target>.engine
    golden.npz                frames with the maps and scores every precision must reproduce
    report.json               what each precision costs

Safety rules: only files the manifest lists are read; a name cannot leave the directory; links are refused; bytes
are hashed before anything parses or runs them, and the hashed bytes are the ones used; no pickles.
An edit writes new files beside the old, then the manifest last: a bundle is the old one or the new one.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_ad.durable import discard, own_errors, read_plain, sha256, write_durably
from edge_ad.errors import BundleCorrupt, BundleError, BundleMismatch
from edge_ad.manifest import MANIFEST, Manifest, PrecisionEntry, check_file_name

__all__ = ["REPORT_FILE", "Bundle", "BundleEdit", "create_bundle", "sha256"]

REPORT_FILE = "report.json"  # what export and calibration say of the bundle

_MAX_MANIFEST_BYTES = 4 << 20
_UNCHANGED = "the bundle is as it was before"
_HALF_CHANGED = "the bundle may be half changed: check it with edge-ad verify, or copy it again"


class Bundle:
    """An opened bundle. Files are read, and proven, one by one when they are needed.

    Attributes:
        sha256: Of its manifest as it was when it was opened, and so of all of the bundle.

    Raises:
        BundleCorrupt: The manifest is missing, damaged or unsafe.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        content = self._read_manifest()
        self.sha256 = sha256(content)
        self.manifest = Manifest.from_json(content, str(self.path / MANIFEST))

    def _read_manifest(self) -> bytes:
        file = self.path / MANIFEST
        if self.path.is_file():
            raise BundleCorrupt(f"{self.path} is a file.", expected="a bundle directory", fix="unpack it first")
        try:
            return read_plain(file, _MAX_MANIFEST_BYTES)
        except OSError as exc:
            raise BundleCorrupt(
                f"{self.path} is not a bundle.",
                expected=f"a directory with {MANIFEST}",
                got=exc.strerror,
                fix="edge-ad export RUN -o BUNDLE",
            ) from exc

    def precision(self, name: str) -> PrecisionEntry:
        """The entry of a precision.

        Raises:
            BundleMismatch: The bundle does not have it.
        """
        try:
            return self.manifest.precisions[name]
        except KeyError:
            raise BundleMismatch(
                f"{self.path} has no {name} graph.",
                expected=" or ".join(self.manifest.precisions),
                got=name,
                fix=f"python -m calibration {self.path} --images FOLDER --precision {name}",
            ) from None

    def read(self, name: str) -> bytes:
        """A file's bytes, proven against the manifest.

        Raises:
            BundleCorrupt: Missing, a link, truncated or altered.
        """
        expected = self.manifest.files.get(name)
        file = self.path / name
        if expected is None:
            raise BundleMismatch(f"{self.path} has no file {name}.", expected=" or ".join(self.manifest.files))
        _refuse_linked_folder(self.path, file)
        try:
            content = read_plain(file)
        except OSError as exc:
            raise BundleCorrupt(
                f"{file} cannot be read.",
                expected="a file of the bundle",
                got=exc.strerror,
                fix="copy the bundle again",
            ) from exc
        got = sha256(content)
        if got != expected:
            raise BundleCorrupt(
                f"{file} is not the file the manifest describes ({len(content)} bytes).",
                expected=f"sha256 {expected}",
                got=f"sha256 {got}",
                fix="copy the bundle again, or export it again; do not use it",
            )
        return content

    def verify(self) -> None:
        """Prove every file; BundleCorrupt names the first that fails."""
        for name in self.manifest.files:
            self.read(name)

    @contextmanager
    def edit(self) -> Iterator[BundleEdit]:
        """Change files and manifest together: nothing changes if the block raises.

        It starts from the bundle as it is on disk now, and afterwards this object describes the new bundle.
        Engines whose graph changed are dropped.

        Raises:
            BundleError: A write failed, or another program changed the bundle meanwhile.
            BundleCorrupt: The new manifest would not be valid.
        """
        before = self._read_manifest()
        edit = BundleEdit(self.path, Manifest.from_json(before, str(self.path / MANIFEST)))
        try:
            yield edit
            edit._prepare()
            if self._read_manifest() != before:
                raise BundleError(
                    f"{self.path} was changed by another program meanwhile; this change was not made.",
                    fix="run the command again, one at a time",
                )
            edit._commit()
        finally:
            edit._discard()
        self.manifest = edit.manifest
        self.sha256 = sha256(edit.manifest.to_json())


class BundleEdit:
    """New files written beside the old ones until the edit commits.

    Attributes:
        manifest: Replace it (`dataclasses.replace`) to change what the bundle says; `files` is kept for you.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self._written: dict[str, Path] = {}
        self._removed: set[str] = set()
        self._new_manifest = path / (MANIFEST + ".partial")

    def write(self, name: str, content: bytes) -> None:
        """Stage a file."""
        check_file_name(name, str(self.path / MANIFEST))
        scratch = self.path / (name + ".partial")
        with own_errors(self.path / name, _UNCHANGED):
            _refuse_linked_folder(self.path, scratch)
            scratch.parent.mkdir(exist_ok=True)
            self._written[name] = scratch
            write_durably(scratch, content)
        self.manifest = dataclasses.replace(self.manifest, files={**self.manifest.files, name: sha256(content)})

    def remove(self, name: str) -> None:
        """Drop a file."""
        files = {key: value for key, value in self.manifest.files.items() if key != name}
        self.manifest = dataclasses.replace(self.manifest, files=files)
        self._removed.add(name)

    def _drop_stale_engines(self) -> None:
        current = []
        for engine in self.manifest.engines:
            precision = self.manifest.precisions.get(engine.precision)
            if precision is not None and self.manifest.files[precision.graph] == engine.graph_sha256:
                current.append(engine)
            else:
                self.remove(engine.file)
        self.manifest = dataclasses.replace(self.manifest, engines=tuple(current))

    def _prepare(self) -> None:
        """Everything that can fail, while nothing has changed yet."""
        source = str(self.path / MANIFEST)
        Manifest.from_json(self.manifest.to_json(), source)
        self._drop_stale_engines()
        with own_errors(self.path / MANIFEST, _UNCHANGED):
            write_durably(self._new_manifest, self.manifest.to_json())

    def _commit(self) -> None:
        with own_errors(self.path, _HALF_CHANGED):
            for name, scratch in self._written.items():
                if name in self.manifest.files:
                    os.replace(scratch, self.path / name)
            os.replace(self._new_manifest, self.path / MANIFEST)
        for name in self._removed - set(self.manifest.files):
            discard(self.path / name)

    def _discard(self) -> None:
        for scratch in [*self._written.values(), self._new_manifest]:
            discard(scratch)


def create_bundle(path: str | Path, manifest: Manifest, files: dict[str, bytes], *, force: bool = False) -> Bundle:
    """Write a new bundle; it appears whole or not at all.

    Args:
        manifest: Its `files` are filled in here.
        files: Contents by name.
        force: Replace a bundle that is already there (and nothing else: another folder is refused).

    Raises:
        BundleError: The place is taken, or the disk is full.
    """
    place = Path(path).resolve()  # a link to a bundle stays a link
    _check_place(place, force)
    for name in files:
        check_file_name(name, str(place / MANIFEST))
    manifest = dataclasses.replace(manifest, files={name: sha256(content) for name, content in files.items()})
    content = manifest.to_json()
    Manifest.from_json(content, str(place / MANIFEST))
    scratch = place.with_name(place.name + ".partial")
    try:
        with own_errors(place, "what was there before still is"):
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            for name, file_content in [*files.items(), (MANIFEST, content)]:
                (scratch / name).parent.mkdir(exist_ok=True)
                write_durably(scratch / name, file_content)
            _replace_folder(scratch, place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle(path)


def _check_place(place: Path, force: bool) -> None:
    if not place.exists():
        return
    if not force:
        raise BundleError(f"{place} already exists.", expected="a new path", fix="choose another -o, or add --force")
    if not (place / MANIFEST).is_file() and (not place.is_dir() or any(place.iterdir())):
        raise BundleError(
            f"{place} exists and is not a bundle, so --force will not delete it.",
            expected=f"a directory with {MANIFEST}",
            fix="choose another -o",
        )


def _replace_folder(new: Path, place: Path) -> None:
    """Put `new` in place of what is there; the old folder is deleted only once the new one stands."""
    if not place.exists():
        os.replace(new, place)
        return
    old = place.with_name(place.name + ".old.partial")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(place, old)
    try:
        os.replace(new, place)
    except OSError:
        os.replace(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _refuse_linked_folder(bundle: Path, file: Path) -> None:
    if file.parent != bundle and file.parent.is_symlink():
        raise BundleCorrupt(
            f"{file.parent} is a link.", expected="a folder of the bundle", fix="copy the bundle with its contents"
        )
