"""What the install guides tell people to type and to write is what the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from edge_ad.cli import _parser
from edge_ad.station.settings import read_settings
from tests.habits.repository import ROOT

GUIDES = ("install-rtx.md", "install-jetson.md")
PROGRAM = re.compile(r"(?:^|[\s/])edge-ad (?P<rest>[^|]+)")


def blocks(guide: str, language: str) -> list[str]:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_is_one_that_the_program_takes(guide: str) -> None:
    lines = [line for block in blocks(guide, "sh") for line in block.splitlines()]
    commands = [match["rest"] for line in lines if (match := PROGRAM.search(line))]
    taken = [shlex.split(command) for command in commands if not command.startswith("/")]
    assert {words[0] for words in taken} >= {"doctor", "build", "verify", "station"}
    for words in taken:
        assert _parser().parse_args(words).run, words


@pytest.mark.parametrize("guide", GUIDES)
def test_the_settings_are_taken(guide: str, tmp_path: Path) -> None:
    (text,) = blocks(guide, "toml")
    path = tmp_path / "station.toml"
    path.write_text(text, encoding="utf-8")
    settings = read_settings(path)
    assert settings.record.folder == Path("/var/lib/edge-ad/record")
    assert settings.http is not None and settings.http.token is None


@pytest.mark.parametrize("guide", [*GUIDES, "station-page.md", "station-api.md"])
def test_what_is_linked_is_there(guide: str) -> None:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
