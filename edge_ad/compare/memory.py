"""Work that is not done twice: what came out is kept in a file, with what it was made from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_ad.training.checkpoint import write_whole

__all__ = ["fingerprint", "remembered"]


def remembered(file: Path, made_from: Any, make: Callable[[], Any]) -> Any:
    """What `make` returns, or returned when it was last made from the same; a damaged file is made anew.

    Args:
        file: Holds both, as JSON.
        made_from: All that the outcome depends on, as JSON.
    """
    try:
        memory = json.loads(file.read_text())
        if memory["made_from"] == made_from:
            return memory["outcome"]
    except (OSError, ValueError, TypeError, KeyError):
        pass
    outcome = json.loads(json.dumps(make()))  # the same, made or remembered
    write_whole(file, json.dumps({"made_from": made_from, "outcome": outcome}).encode())
    return outcome


def fingerprint(value: Any) -> str:
    """sha256 of a value; paths in it stand for the contents of their files, wherever these lie."""
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Path):
        yield value.read_bytes()
    elif dataclasses.is_dataclass(value):
        yield from _parts([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, Mapping):
        yield from _parts(sorted(value.items()))
    elif isinstance(value, tuple | list):
        yield f"{len(value)} values".encode()
        for one in value:
            yield from _parts(one)
    else:
        yield repr(value).encode()
