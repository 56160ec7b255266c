"""The two commands of the README install what they need, once, from exact pins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.habits.repository import ROOT, project

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")

PIN = re.compile(r"(?P<name>[a-z0-9.-]+)==[0-9][0-9.]*(?:; (?P<marker>python_version (?:>=|<) \"3\.11\"))?")


def pins() -> list[re.Match[str]]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    matches = [(line, PIN.fullmatch(line)) for line in lines if not line.startswith("#")]
    assert [line for line, match in matches if match is None] == []
    return [match for _, match in matches if match is not None]


def requirement_names() -> set[str]:
    table = project()["project"]
    lines = [*table["dependencies"], *(line for extra in table["optional-dependencies"].values() for line in extra)]
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-") for line in lines}
    return names - {"edge-ad"}


def test_every_direct_requirement_is_pinned_exactly() -> None:
    assert {"numpy", "torch", "pytest"} <= requirement_names()
    assert requirement_names() <= {pin["name"] for pin in pins()}


def test_no_python_gets_two_versions_of_a_package() -> None:
    keys = [(pin["name"], pin["marker"]) for pin in pins()]
    assert len(set(keys)) == len(keys)
    everywhere = {name for name, marker in keys if marker is None}
    assert everywhere.isdisjoint(name for name, marker in keys if marker is not None)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The build files alone, with a .venv whose python is a stand-in that writes down how it is called."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "stand-in").write_text('#!/bin/sh\necho "$@" >> calls.txt\n')
    (tmp_path / "stand-in").chmod(0o755)
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name in ("python", "edge-ad"):
        shutil.copy(tmp_path / "stand-in", bin_folder / name)
    return tmp_path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


def calls(checkout: Path) -> str:
    file = checkout / "calls.txt"
    content = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    return content


INSTALL = "-m pip install -q -c constraints.txt -e .[dev]"


@pytest.mark.parametrize(
    ("target", "does"), [("demo", "demo -o demo_output"), ("test", "-m pytest -m not slow"), ("lint", "-m mypy")]
)
def test_a_target_installs_once_and_then_does_its_work(checkout: Path, target: str, does: str) -> None:
    assert make(checkout, target, "PYTHON=./stand-in").returncode == 0
    first = calls(checkout)
    assert first.index(INSTALL) < first.index(does)
    assert make(checkout, target).returncode == 0
    second = calls(checkout)
    assert INSTALL not in second
    assert does in second


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_again(checkout: Path, changed: str) -> None:
    make(checkout, "lint", "PYTHON=./stand-in")
    calls(checkout)
    stamp = (checkout / ".venv" / ".installed").stat().st_mtime
    os.utime(checkout / changed, (stamp + 10, stamp + 10))
    make(checkout, "lint", "PYTHON=./stand-in")
    assert INSTALL in calls(checkout)


def test_a_failed_installation_is_tried_again(checkout: Path) -> None:
    failing = checkout / ".venv" / "bin" / "python"
    failing.write_text('#!/bin/sh\necho "$@" >> calls.txt\ncase "$*" in *install*) exit 1;; esac\n')
    for _ in range(2):
        assert make(checkout, "lint", "PYTHON=./stand-in").returncode != 0
        content = calls(checkout)
        assert INSTALL in content
        assert "mypy" not in content


def test_an_old_or_missing_python_is_told(checkout: Path) -> None:
    old = checkout / "python3.8"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 3.8.18; else exit 1; fi\n')
    old.chmod(0o755)
    done = make(checkout, "test", "PYTHON=./python3.8")
    assert done.returncode != 0
    assert "./python3.8 is Python 3.8.18, but Python 3.10 or newer is needed" in done.stderr
    done = make(checkout, "test", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "there is no no-such-python" in done.stderr


def test_continuous_integration_runs_the_tests_and_passes_their_status_on(checkout: Path) -> None:
    (checkout / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", checkout / ".ci")
    make(checkout, "lint", "PYTHON=./stand-in")
    run = [str(checkout / ".ci" / "run")]
    assert subprocess.run(run, cwd="/", check=False, capture_output=True).returncode == 0
    assert "-m pytest -m not slow" in calls(checkout)
    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 3\n")
    assert subprocess.run(run, cwd="/", check=False, capture_output=True).returncode != 0
