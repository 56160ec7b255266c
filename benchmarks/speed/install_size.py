"""Megabytes of packages with all they depend on: `python -m benchmarks.speed.install_size PACKAGE ...`."""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path


def main() -> None:
    print(f"{sum(map(_size, _closure(sys.argv[1:]))) / 1e6:.0f}")


def _closure(names: list[str]) -> list[Distribution]:
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # not needed on this system
            continue
        needed = [text for text in found[name].requires or [] if "extra ==" not in text]
        waiting += [re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0] for text in needed]
    return list(found.values())


def _size(package: Distribution) -> int:
    files = (Path(str(package.locate_file(file))) for file in package.files or [])
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    main()
