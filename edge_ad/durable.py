"""Files that are what they seem: written whole and to disk, read only if they are plain files."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_ad.errors import BundleCorrupt, BundleError

__all__ = ["discard", "own_errors", "read_plain", "sha256", "write_durably"]


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


def read_plain(path: Path, most_bytes: int | None = None) -> bytes:
    """The bytes of a plain file; links and pipes are refused, since they may lead out of the bundle or never end.

    Raises:
        BundleCorrupt: It is not a plain file, or larger than `most_bytes`.
        OSError: It cannot be read.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        kind = "link" if stat.S_ISLNK(status.st_mode) else "folder or device"
        raise BundleCorrupt(f"{path} is a {kind}.", expected="a plain file", fix="copy the bundle with its contents")
    if most_bytes is not None and status.st_size > most_bytes:
        raise BundleCorrupt(f"{path} is too large.", expected=f"at most {most_bytes} bytes", got=status.st_size)
    return path.read_bytes()


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and wait for the disk; a file or link that is already there is replaced, not followed."""
    path.unlink(missing_ok=True)
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def discard(path: Path) -> None:
    """Remove a file that nothing refers to; one that cannot be removed does no harm."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


@contextmanager
def own_errors(path: Path, aftermath: str) -> Iterator[None]:
    """Turn an OSError of the block into a BundleError that names `path` and says what is left there."""
    try:
        yield
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        raise BundleError(
            f"{path} could not be written; {aftermath}.",
            expected="a writable place with enough room",
            got="the disk is full" if full else exc.strerror,
            fix="free disk space and run the command again" if full else "check the path and its permissions",
        ) from exc
