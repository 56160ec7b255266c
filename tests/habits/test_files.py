"""Files a person can read in one sitting, that hold no leftovers and no place on somebody's machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.habits.repository import PACKAGES, ROOT, python_files

MOST_LINES = 400
MODULES = python_files(*PACKAGES, "benchmarks", "tests")
LEFTOVERS = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b|breakpoint\(\)")
MACHINE_PATHS = re.compile(r"""["'(\s](?:/home/|/root/|/Users/|/work/)\w""")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_is_no_longer_than_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_nothing_is_left_over(path: Path) -> None:
    content = path.read_text(encoding="utf-8")
    assert LEFTOVERS.findall(content) == []
    assert MACHINE_PATHS.findall(content) == []


def test_what_would_be_found() -> None:
    assert LEFTOVERS.search("# TO" + "DO: later")
    assert MACHINE_PATHS.search('open("/ho' + 'me/someone/a.png")')
    assert not MACHINE_PATHS.search('"/etc/passwd"')
