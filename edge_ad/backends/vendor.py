"""The vendors' Python modules, found by name: the one place where a stand-in can take theirs.

Nothing of CUDA or TensorRT is imported before it is asked for here.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["is_installed", "load", "replaced"]

_replacements: list[Mapping[str, Any]] = []  # none or one


def load(name: str) -> Any:
    """Import a vendor's module, "cuda.bindings.runtime" for example; ImportError or OSError where it cannot load."""
    if not _replacements:
        return importlib.import_module(name)
    if name not in _replacements[0]:
        raise ModuleNotFoundError(f"No module named {name!r} beside the stand-in", name=name)
    return _replacements[0][name]


def is_installed(name: str) -> bool:
    """Whether `load` would find it; imports nothing but its parent packages."""
    if _replacements:
        return name in _replacements[0]
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


@contextmanager
def replaced(modules: Mapping[str, Any]) -> Iterator[None]:
    """Until the block ends these are the vendors' modules, in all threads, and there are no others.

    Raises:
        RuntimeError: They are replaced already.
    """
    if _replacements:
        raise RuntimeError("The vendors' modules are replaced already; one stand-in at a time.")
    _replacements.append(modules)
    try:
        yield
    finally:
        _replacements.clear()
