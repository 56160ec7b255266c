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
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_ad.errors import BundleCorrupt, BundleError, BundleMismatch
from edge_ad.manifest import Manifest, PrecisionEntry

__all__ = ["Bundle", "BundleEdit", "create_bundle", "sha256"]

MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 4 << 20


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Bundle:
    """An opened bundle. Files are read, and proven, one by one when they are needed.

    Raises:
        BundleCorrupt: The manifest is missing, damaged or unsafe.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = Manifest.from_json(self._read_manifest(), str(self.path / MANIFEST))

    def _read_manifest(self) -> bytes:
        file = self.path / MANIFEST
        if self.path.is_file():
            raise BundleCorrupt(f"{self.path} is a file.", expected="a bundle directory", fix="unpack it first")
        try:
            if file.stat().st_size > _MAX_MANIFEST_BYTES:
                raise BundleCorrupt(f"{file} is too large.", expected=f"at most {_MAX_MANIFEST_BYTES} bytes")
            return file.read_bytes()
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
        if file.is_symlink() or file.parent.is_symlink():
            raise BundleCorrupt(f"{file} is a link.", expected="a plain file", fix="copy the bundle with its contents")
        try:
            content = file.read_bytes()
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

        Afterwards this object describes the new bundle. Engines whose graph changed are dropped.
        """
        edit = BundleEdit(self.path, self.manifest)
        try:
            yield edit
            edit._commit()
        finally:
            edit._discard()
        self.manifest = edit.manifest


class BundleEdit:
    """New files written beside the old ones until the edit commits.

    Attributes:
        manifest: Replace it (`dataclasses.replace`) to change what the bundle says; `files` is kept for you.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self._written: dict[str, Path] = {}
        self._removed: set[str] = set()

    def write(self, name: str, content: bytes) -> None:
        """Stage a file."""
        scratch = self.path / (name + ".partial")
        with _own_errors(self.path / name):
            scratch.parent.mkdir(parents=True, exist_ok=True)
            self._written[name] = scratch
            _write_durably(scratch, content)
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

    def _commit(self) -> None:
        self._drop_stale_engines()
        manifest = self.path / (MANIFEST + ".partial")
        with _own_errors(self.path / MANIFEST):
            _write_durably(manifest, self.manifest.to_json())
            for name, scratch in self._written.items():
                if name in self.manifest.files:
                    os.replace(scratch, self.path / name)
            os.replace(manifest, self.path / MANIFEST)
        for name in self._removed - set(self.manifest.files):
            (self.path / name).unlink(missing_ok=True)

    def _discard(self) -> None:
        for scratch in [*self._written.values(), self.path / (MANIFEST + ".partial")]:
            scratch.unlink(missing_ok=True)


def create_bundle(path: str | Path, manifest: Manifest, files: dict[str, bytes], *, force: bool = False) -> Bundle:
    """Write a new bundle; it appears whole or not at all.

    Args:
        manifest: Its `files` are filled in here.
        files: Contents by name.
        force: Replace a bundle that is already there (and nothing else: another folder is refused).

    Raises:
        BundleError: The place is taken, or the disk is full.
    """
    path = Path(path)
    _check_place(path, force)
    scratch = path.with_name(path.name + ".partial")
    manifest = dataclasses.replace(manifest, files={name: sha256(content) for name, content in files.items()})
    Manifest.from_json(manifest.to_json(), str(path / MANIFEST))
    try:
        with _own_errors(path):
            shutil.rmtree(scratch, ignore_errors=True)
            for name, content in [*files.items(), (MANIFEST, manifest.to_json())]:
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                _write_durably(scratch / name, content)
            if path.exists():
                shutil.rmtree(path)
            os.replace(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle(path)


def _check_place(path: Path, force: bool) -> None:
    if not path.exists():
        return
    if not force:
        raise BundleError(f"{path} already exists.", expected="a new path", fix="choose another -o, or add --force")
    if not (path / MANIFEST).is_file() and (path.is_file() or any(path.iterdir())):
        raise BundleError(
            f"{path} exists and is not a bundle, so --force will not delete it.",
            expected=f"a directory with {MANIFEST}",
            fix="choose another -o",
        )


def _write_durably(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _own_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        raise BundleError(
            f"{path} could not be written; the bundle is as it was before.",
            expected="a writable place with enough room",
            got="the disk is full" if full else exc.strerror,
            fix="free disk space and run the command again" if full else "check the path and its permissions",
        ) from exc
