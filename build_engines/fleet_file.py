"""targets.toml: which bundles are built for which stations. Read strictly: a key that is not known is an error."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_engines.builder import BuildOptions
from build_engines.settings import batch_from_text
from build_engines.targets import TARGET_PATTERN
from edge_ad.backends.flavours import MODULES
from edge_ad.errors import TargetsInvalid
from edge_ad.manifest import MANIFEST, PRECISIONS, EngineSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["EXAMPLE", "FleetTarget", "read_fleet"]

EXAMPLE = """\
# targets.toml; paths are relative to this file
bundles = ["bundles/*.bundle"]      # names or patterns
precisions = ["fp16", "int8"]       # default: all that a bundle has and a target computes

[targets.line-3]                    # a name of your own
target = "sm89"                     # as --target; default: as without it

[targets.line-4]
target = "sm86"
batch = "1:4:16"                    # settings are the options of the command line, without the dashes in front
precisions = ["int8"]               # instead of those above
bundles = ["bundles/bottle.bundle"]

[targets.cell-7]                    # built on that machine; elsewhere --trtexec FOLDER writes its scripts
flavour = "trt"
target = "sm87"
optimization-level = 5
workspace = 2048
"""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class FleetTarget:
    """One table of the file.

    Attributes:
        bundles: What is built for it, in order.
    """

    name: str
    bundles: tuple[Path, ...]
    options: BuildOptions


def read_fleet(file: Path) -> list[FleetTarget]:
    """The file's targets.

    Raises:
        TargetsInvalid: Naming the first key that is wrong, or the pattern that fits no bundle.
    """
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise TargetsInvalid(f"{file} cannot be read.", got=exc.strerror, fix="edge-ad build --help shows one") from exc
    except ValueError as exc:  # TOMLDecodeError and UnicodeDecodeError
        raise TargetsInvalid(f"{file} is not TOML.", got=exc, fix="edge-ad build --help shows one") from exc
    top = _Table(file, "", tree)
    top.refuse_unknown({"bundles", "precisions", "targets"})
    tables = top.take("targets", dict, {})
    if not tables:
        raise top.wrong("targets", "a table [targets.NAME] for each target", "none")
    return [_target(top, name, table) for name, table in tables.items()]


class _Table:
    """A TOML table; complaints name the file and the key."""

    def __init__(self, file: Path, where: str, tree: Any) -> None:
        self.file, self.where, self.tree = file, where, tree
        if not isinstance(tree, dict):
            raise self.wrong("", "a table", tree)

    def wrong(self, key: str, expected: object, got: object) -> TargetsInvalid:
        place = ".".join(part for part in (self.where, key) if part)
        return TargetsInvalid(
            f"{self.file}: {place} is wrong.", expected=expected, got=got, fix="edge-ad build --help shows a whole file"
        )

    def refuse_unknown(self, known: set[str]) -> None:
        for key in self.tree:
            if key not in known:
                raise self.wrong(key, " or ".join(sorted(known)), "an unknown key")

    def take(self, key: str, kind: type[Any], default: Any) -> Any:
        value = self.tree.get(key, default)
        if value is not default and type(value) is not kind:
            raise self.wrong(key, kind.__name__, repr(value))
        return value

    def number(self, key: str, least: int, most: int) -> int | None:
        value: int | None = self.take(key, int, None)
        if value is not None and not least <= value <= most:
            raise self.wrong(key, f"{least} to {most}", value)
        return value

    def matching(self, key: str, fits: Callable[[str], object], expected: str) -> str | None:
        value: str | None = self.take(key, str, None)
        if value is not None and not fits(value):
            raise self.wrong(key, expected, repr(value))
        return value

    def strings(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        values = self.take(key, list, list(default))
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "a list of strings", values)
        return tuple(values)


_KEYS = {
    "bundles",
    "precisions",
    "target",
    "flavour",
    "batch",
    "optimization-level",
    "workspace",
    "timing-cache",
    "sparsity",
    "version-compatible",
    "hardware-compatible",
    "dla",
}


def _target(top: _Table, name: str, tree: Any) -> FleetTarget:
    table = _Table(top.file, f"targets.{name}", tree)
    table.refuse_unknown(_KEYS)
    if not _NAME.fullmatch(name):
        raise table.wrong("", "a name of letters, digits, dots, hyphens and underscores", repr(name))
    target = table.matching("target", TARGET_PATTERN.fullmatch, "sm89 and its like, portable or this-gpu")
    flavour = table.matching("flavour", MODULES.__contains__, " or ".join(MODULES))
    precisions = _precisions(table, _precisions(top, ()))
    cache = table.take("timing-cache", str, None)
    try:
        batch = batch_from_text(table.take("batch", str, "1"))
    except ValueError as exc:
        raise table.wrong("batch", "a number of frames, or LEAST:BEST:MOST, as a string", exc) from exc
    settings = EngineSettings(
        min_batch=batch.least,
        opt_batch=None if batch.best == batch.most else batch.best,
        optimization_level=table.number("optimization-level", 0, 5),
        workspace_mib=table.number("workspace", 1, 1 << 20),
        sparsity=table.take("sparsity", bool, False),
        version_compatible=table.take("version-compatible", bool, False),
        hardware_compatible=table.take("hardware-compatible", bool, False),
        dla_core=table.number("dla", 0, 1),
    )
    options = BuildOptions(
        targets=(target,) if target else (),
        precisions=precisions,
        flavour=flavour,
        max_batch=batch.most,
        settings=settings,
        timing_cache=top.file.parent / cache if cache else None,
    )
    return FleetTarget(name=name, bundles=_bundles(table, top.strings("bundles", ())), options=options)


def _precisions(table: _Table, default: tuple[str, ...]) -> tuple[str, ...]:
    values = table.strings("precisions", default)
    for value in values:
        if value not in PRECISIONS:
            raise table.wrong("precisions", " or ".join(PRECISIONS), repr(value))
    return values


def _bundles(table: _Table, default: tuple[str, ...]) -> tuple[Path, ...]:
    """Every bundle that a pattern fits, once, in the order of patterns and of names."""
    patterns = table.strings("bundles", default)
    if not patterns:
        raise table.wrong("bundles", "names or patterns of bundles, here or at the top", "none")
    found: dict[Path, None] = {}
    for pattern in patterns:
        folder = table.file.parent
        matches = sorted(folder.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
        bundles = [match for match in matches if (match / MANIFEST).is_file()]
        if not bundles:
            raise table.wrong("bundles", f"a bundle that fits {pattern!r}", f"none in {folder}")
        found.update(dict.fromkeys(bundles))
    return tuple(found)
