"""A table of a TOML file, read key by key. Every complaint names the file and key, what was expected and what came."""

from __future__ import annotations

import difflib
import math
import re
import sys
from pathlib import Path
from typing import Any, TypeVar

from edge_ad.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["LOOPBACK", "NAME", "Table", "read_toml"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names that may stand in topics, addresses and paths."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Hosts that only this machine can reach."""

_MOST_BYTES = 1 << 20

D = TypeVar("D")


def read_toml(path: Path) -> Table:
    """The file's top table.

    Raises:
        SettingsError: It cannot be read, or is not TOML; the line is named.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        return Table(tomllib.loads(content.decode()), path)
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read.", got=exc.strerror, fix="check the path") from exc
    except ValueError as exc:  # of TOML, of UTF-8, and ours
        raise SettingsError(f"{path} is not TOML.", got=exc, fix="edge-ad station --example shows one") from exc


class Table:
    """Typed access to a table. What was not read by the end is unknown, and refused by `end`.

    Args:
        tree: The table as tomllib gives it.
        path: The file; relative paths in it are relative to its folder.
        where: The table's name in the file, "" at the top.
    """

    def __init__(self, tree: dict[str, Any], path: Path, where: str = "") -> None:
        self.path, self.where = path, where
        self._tree = tree
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        self._known.add(key)
        return key in self._tree

    def names(self) -> list[str]:
        """The keys of the table, all of them known from now on."""
        self._known |= self._tree.keys()
        return list(self._tree)

    def wrong(self, key: str, expected: object, got: object, fix: str | None = None) -> SettingsError:
        """The error to raise about a key."""
        return SettingsError(
            f"{self.path}: {self._place(key)} is wrong.", expected=expected, got=repr(got)[:200], fix=fix
        )

    def _place(self, key: str) -> str:
        return f"{self.where}.{key}".strip(".")

    def _get(self, key: str, kind: type, expected: str, default: Any) -> Any:
        self._known.add(key)
        value = self._tree.get(key, default)
        if value is ...:
            raise SettingsError(f"{self.path}: {self._place(key)} is missing.", expected=expected)
        if key in self._tree and type(value) is not kind:
            raise self.wrong(key, expected, value)
        return value

    def text(self, key: str, default: Any = ..., expected: str = "a text") -> Any:
        """A text that is not empty; `default` where there is none."""
        value = self._get(key, str, expected, default)
        if value == "" and key in self._tree:
            raise self.wrong(key, expected, value)
        return value

    def name(self, key: str, default: Any = ...) -> Any:
        """A text of letters, digits, dots, hyphens and underscores."""
        expected = "letters, digits, . _ and -, at most 64"
        value = self.text(key, default, expected)
        if isinstance(value, str) and not NAME.fullmatch(value):
            raise self.wrong(key, expected, value)
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: Any = ...) -> Any:
        """One of `choices`."""
        value = self.text(key, default, " or ".join(choices))
        if value not in choices:
            raise self.wrong(key, " or ".join(choices), value, _did_you_mean(value, choices))
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        return bool(self._get(key, bool, "true or false", default))

    def whole(self, key: str, least: int, most: int, default: Any = ...) -> Any:
        """A whole number within limits."""
        expected = f"a whole number from {least} to {most}"
        value = self._get(key, int, expected, default)
        if value is not None and not least <= value <= most:
            raise self.wrong(key, expected, value)
        return value

    def number(self, key: str, least: float, most: float, default: Any = ...) -> Any:
        """A number within limits."""
        expected = f"a number from {least:g} to {most:g}"
        if type(self._tree.get(key)) is int:
            self._tree[key] = float(self._tree[key])
        value = self._get(key, float, expected, default)
        if value is not None and not (math.isfinite(value) and least <= value <= most):
            raise self.wrong(key, expected, value)
        return value

    def file(self, key: str, default: Any = ...) -> Any:
        """A path, taken relative to the file's folder."""
        value = self.text(key, default, "a path")
        return self.path.parent / value if isinstance(value, str) else value

    def secret(self, key: str) -> str | None:
        """The first line of the file that `key` names: a token or password stands in no settings.

        Raises:
            SettingsError: The file cannot be read, or is empty.
        """
        path = self.file(key, None)
        if path is None:
            return None
        try:
            line = str(path.read_text(encoding="utf-8")).strip().partition("\n")[0]
        except (OSError, UnicodeError) as exc:
            raise self.wrong(key, "a file that can be read", f"{path}: {exc}") from exc
        if not line:
            raise self.wrong(key, "a file with the secret in its first line", f"{path}, which is empty")
        return line

    def table(self, key: str) -> Table:
        """A table below this one, empty where it is not there."""
        return Table(self._get(key, dict, "a table", {}), self.path, self._place(key))

    def tables(self, key: str) -> list[Table]:
        """An array of tables below this one, empty where it is not there."""
        entries = self._get(key, list, f"[[{self._place(key)}]]", [])
        for entry in entries:
            if not isinstance(entry, dict):
                raise self.wrong(key, f"[[{self._place(key)}]]", entry)
        return [Table(entry, self.path, f"{self._place(key)}[{index}]") for index, entry in enumerate(entries)]

    def named_tables(self, key: str) -> list[tuple[str, Table]]:
        """The tables [key.name] and their names."""
        parent = self.table(key)
        for name in parent.names():
            if not NAME.fullmatch(name):
                raise parent.wrong(name, "a name of letters, digits, . _ and -, at most 64", name)
        return [(name, parent.table(name)) for name in parent.names()]

    def end(self) -> None:
        """Refuse keys that nobody asked for: a setting that is misspelt would be ignored in silence."""
        for key in self._tree:
            if key not in self._known:
                fix = _did_you_mean(key, tuple(self._known))
                expected = ", ".join(sorted(self._known))
                raise SettingsError(
                    f"{self.path}: {self._place(key)} is not known.", expected=expected, got=key, fix=fix
                )


def _did_you_mean(word: str, choices: tuple[str, ...]) -> str | None:
    close = difflib.get_close_matches(word, choices, 1)
    return f"did you mean {close[0]}?" if close else None
