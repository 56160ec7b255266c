"""Help needs nothing that is heavy, for the command and for each of its subcommands, and so it is instant."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.habits.repository import HEAVY, ROOT

SUBCOMMANDS = (
    *(
        "train",
        "distill",
        "distill-patches",
        "export",
        "calibrate",
        "build",
        "inspect",
        "camera",
        "cameras",
        "evaluate",
        "compare",
        "station",
        "history",
        "verify",
        "doctor",
        "demo",
    ),
)

HELP = """
import json, runpy, sys
module, sys.argv = sys.argv[1], sys.argv[1:]
try:
    if module == "edge_ad.cli":
        from edge_ad.cli import main
        code = main()
    else:
        code = runpy.run_module(module, run_name="__main__") and 0
except SystemExit as stopped:
    code = stopped.code
print(json.dumps({"code": code, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}), file=sys.stderr)
"""


def ask(*arguments: str) -> tuple[str, dict[str, object]]:
    """What is printed and what was loaded."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HELP, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout, json.loads(done.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    "command",
    [
        ("edge_ad.cli",),
        *(("edge_ad.cli", name) for name in SUBCOMMANDS),
        ("build_engines",),
        ("calibration",),
    ],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(command: tuple[str, ...]) -> None:
    text, report = ask(*command, "--help")
    assert report["code"] in (0, None)
    assert text.lower().startswith("usage:")
    loaded = report["loaded"]
    assert isinstance(loaded, list)
    assert set(loaded).isdisjoint({*HEAVY, "onnxruntime"})


def test_the_list_of_subcommands_is_whole() -> None:
    text, _ = ask("edge_ad.cli", "--help")
    offered = re.findall(r"^    ([a-z-]+)(?:\s|$)", text, re.MULTILINE)
    assert sorted(offered) == sorted(SUBCOMMANDS)
