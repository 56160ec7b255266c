"""Options of a method: one dataclass that is the command line's flags, their defaults, their help and options.json.

Every field is declared with `option`, so that what a paper calls a setting is written down once.
"""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["option"]


def option(default: Any, help: str, *, choices: tuple[Any, ...] | None = None, metavar: str | None = None) -> Any:
    """A field of an options dataclass.

    Args:
        default: The paper's value, unless the help says otherwise. A tuple becomes a flag with several values.
        help: A phrase for `edge-ad train METHOD --help`, with the paper's section, table or figure.
        choices: The values there are.
        metavar: What stands for the value in the help: FILE, FOLDER, or the name of a unit.
    """
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, "metavar": metavar})
