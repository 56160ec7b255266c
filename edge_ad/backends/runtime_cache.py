"""What TensorRT-RTX compiled for this very GPU, kept between starts so that the next one need not.

A portable or ahead-of-time engine is finished on the station ("just in time"), which takes seconds. The result belongs
to one engine, driver and GPU, so its file is named after them and lies in the user's cache folder, never in a bundle.
It is a convenience: one that is missing, damaged or out of date costs its time again, and is written anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from contextlib import suppress
from pathlib import Path

from edge_ad.backends.cuda import Device
from edge_ad.durable import discard, read_plain, write_durably
from edge_ad.errors import BundleCorrupt

__all__ = ["ENVIRONMENT", "RuntimeCacheFile"]

ENVIRONMENT = "EDGE_AD_CACHE"
"""Environment variable with the folder for such files; else XDG_CACHE_HOME/edge_ad, else ~/.cache/edge_ad."""

_MOST_FILES = 64  # a new engine, driver or GPU leaves the old file behind
_MOST_BYTES = 1 << 30
_DIGEST = hashlib.sha256

_log = logging.getLogger(__name__)


class RuntimeCacheFile:
    """The file of one engine on one GPU: the content's digest, then what TensorRT-RTX serialised.

    Args:
        engine_sha256: Of the engine's file: another engine never finds this one's cache.
        version: Of TensorRT-RTX.
    """

    def __init__(self, engine_sha256: str, version: str, device: Device) -> None:
        driver, capability = (".".join(map(str, numbers)) for numbers in (device.driver, device.capability))
        machine = re.sub(r"[^A-Za-z0-9.]+", "-", f"{device.name} sm{capability} cuda{driver} rtx{version}")
        self.path = _folder() / f"{engine_sha256[:24]}-{machine}.cache"
        self._known = b""  # digest of what the file holds

    def read(self) -> bytes | None:
        """What was written last; None where there is none, or where it is damaged."""
        try:
            digest, content = _split(read_plain(self.path, _MOST_BYTES))
        except (OSError, BundleCorrupt):
            return None
        if _DIGEST(content).digest() != digest:
            return None
        self._known = digest
        return content

    def write(self, content: bytes) -> None:
        """Replace the file at once and whole, unless it holds just this.

        Where that fails, the log says so, and the next start takes longer.
        """
        digest = _DIGEST(content).digest()
        if digest == self._known:
            return
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(partial, digest + content)
            partial.replace(self.path)
        except OSError as exc:
            discard(partial)
            _log.warning("%s could not be written (%s); set %s to a writable folder", self.path, exc, ENVIRONMENT)
            return
        self._known = digest
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        with suppress(OSError):  # another process may be doing the same
            files = sorted(self.path.parent.glob("*.cache"), key=lambda file: file.stat().st_mtime, reverse=True)
            for file in files[_MOST_FILES:]:
                discard(file)


def _split(packed: bytes) -> tuple[bytes, bytes]:
    size = _DIGEST().digest_size
    return packed[:size], packed[size:]


def _folder() -> Path:
    asked = os.environ.get(ENVIRONMENT)
    if asked:
        return Path(asked)
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return (base if base.is_absolute() else Path(os.devnull)) / "edge_ad"  # relative: there is no home to write to
