"""Help is instant and needs nothing that is heavy, for the command and for each of its subcommands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from tests.habits.repository import HEAVY, ROOT

SUBCOMMANDS = ("train", "distill", "export", "calibrate", "build", "inspect", "evaluate", "verify", "doctor", "demo")
INSTANT_S = 1.5  # a few tenths on an idle machine; the rest is for busy ones

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


def ask(*arguments: str) -> tuple[str, dict[str, object], float]:
    """What is printed, what was loaded, and the seconds it took (the better of two)."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", HELP, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        seconds.append(time.perf_counter() - start)
    return done.stdout, json.loads(done.stderr.splitlines()[-1]), min(seconds)


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
def test_help_is_instant(command: tuple[str, ...]) -> None:
    text, report, seconds = ask(*command, "--help")
    assert report["code"] in (0, None)
    assert text.lower().startswith("usage:")
    loaded = report["loaded"]
    assert isinstance(loaded, list)
    assert set(loaded).isdisjoint({*HEAVY, "onnxruntime"})
    assert seconds < INSTANT_S


def test_the_list_of_subcommands_is_whole() -> None:
    text, _, _ = ask("edge_ad.cli", "--help")
    offered = re.findall(r"^    ([a-z]+)(?:\s|$)", text, re.MULTILINE)
    assert sorted(offered) == sorted(SUBCOMMANDS)
