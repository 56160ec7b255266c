"""HTML and SVG from Python values. What is not Markup is text, and is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["Markup", "element", "join"]

VOID = frozenset({"img", "input", "meta"})


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """An element; children are Markup or text. `class_` is class, `stroke_width` is stroke-width; None is left out."""
    pairs = [(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value is not None]
    opening = "".join(f' {name}="{html.escape(str(value))}"' for name, value in pairs)
    if tag in VOID:
        return Markup(f"<{tag}{opening}>")
    return Markup(f"<{tag}{opening}>{join(children)}</{tag}>")


def join(children: Iterable[object]) -> Markup:
    """Children one after the other; what is not Markup is escaped."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(str(child)) for child in children))
