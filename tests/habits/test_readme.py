"""What the README tells people to type exists."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.habits.repository import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(?:sh|bash|console|shell)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.removeprefix("$ ").partition("#")[0].strip()
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
PROGRAMS = {
    "edge-ad": ["-c", "import sys; from edge_ad.cli import main; sys.exit(main())"],
    "python -m build_engines": ["-m", "build_engines"],
    "python -m calibration": ["-m", "calibration"],
}


def calls(program: str) -> list[str]:
    """The lines of the README that call a program, without what stands before it (.venv/bin/)."""
    found = [re.search(rf"(?:^|[\s/]){re.escape(program)}\b(?P<rest>.*)", line) for line in COMMANDS]
    return [match["rest"].strip() for match in found if match]


def test_the_two_commands_are_there() -> None:
    assert {"make demo", "make test"} <= set(COMMANDS)


def test_every_make_target_of_the_readme_exists() -> None:
    assert {name for rest in calls("make") for name in rest.split() if "=" not in name} <= TARGETS


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_option_of_the_readme_exists(program: str) -> None:
    """Subcommands and options are looked up in the program's own help."""
    lines = calls(program)
    assert lines, f"the README shows {program}"
    for line in lines:
        words = line.split()
        depth = 2 if words[:1] == ["train"] else 1  # train's methods have options of their own
        subcommand = words[:depth] if program == "edge-ad" else []
        done = subprocess.run(
            [sys.executable, *PROGRAMS[program], *subcommand, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program} {line}\n{done.stderr}"
        offered = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout))
        asked = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
        assert asked <= offered, line
