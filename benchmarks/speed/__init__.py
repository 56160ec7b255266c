"""Contenders side by side: each in a process of its own, taking turns."""

from __future__ import annotations

from typing import Any

__all__ = ["options_of"]

_OPTIONS: dict[str, dict[str, Any]] = {
    "simplenet": {"backbone": "resnet18"},
    "supersimplenet": {"backbone": "resnet18"},
}


def options_of(method: str) -> dict[str, Any]:
    """What ours has where its defaults are not what others have: PDN-S is a backbone of this package alone."""
    return _OPTIONS.get(method, {})
