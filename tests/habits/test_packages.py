"""Continuous integration installs the Debian packages that tests use, and goes on without those it cannot get."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.habits.repository import ROOT

LINE = re.compile(r"(?P<name>[a-z0-9][a-z0-9.+-]+) +# \S.*")


def packages() -> list[str]:
    lines = (ROOT / ".ci" / "packages").read_text().splitlines()
    matches = [(line, LINE.fullmatch(line)) for line in lines if line and not line.startswith("#")]
    assert [line for line, match in matches if match is None] == []
    return [match["name"] for _, match in matches if match is not None]


def test_each_package_is_there_once_and_says_what_for() -> None:
    names = packages()
    assert len(set(names)) == len(names) > 0


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A checkout with a make, an apt-get, a dpkg-query and an id that write down how they are called."""
    programs = {
        "make": 'echo "make $*" >> calls.txt; exit 7',
        "apt-get": 'echo "apt-get $*" >> calls.txt; case "$*" in *absent*|*update*) exit 100;; esac',
        "dpkg-query": 'case "$*" in *present*) echo "install ok installed";; *) exit 1;; esac',
        "id": "echo ${USER_NUMBER}",
    }
    (tmp_path / "bin").mkdir()
    for name, body in programs.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / ".ci" / "packages").write_text("# the list\npresent  # a\nabsent  # b\nwanted  # c\n")
    return tmp_path


def calls(machine: Path, user: int) -> list[str]:
    environment = {"PATH": f"{machine / 'bin'}:{os.environ['PATH']}", "USER_NUMBER": str(user)}
    done = subprocess.run([machine / ".ci" / "run"], env=environment, cwd="/", capture_output=True, check=False)
    assert done.returncode == 7  # of make
    return (machine / "calls.txt").read_text().splitlines()


def test_root_installs_what_is_missing_and_survives_what_cannot_be_had(machine: Path) -> None:
    update, *installs, last = calls(machine, user=0)
    assert update == "apt-get -q update"
    assert [line.split()[-1] for line in installs] == ["absent", "wanted"]
    assert all("install -y --no-install-recommends" in line for line in installs)
    assert last == "make --no-print-directory test"


def test_others_install_nothing(machine: Path) -> None:
    assert calls(machine, user=1000) == ["make --no-print-directory test"]


def test_nothing_is_done_where_all_is_there(machine: Path) -> None:
    (machine / ".ci" / "packages").write_text("present  # a\n")
    assert calls(machine, user=0) == ["make --no-print-directory test"]
