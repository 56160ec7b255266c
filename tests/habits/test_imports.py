"""The runtime stays lean: what it imports, what it does without, and which way imports run."""

from __future__ import annotations

import json
import subprocess
import sys

from edge_ad import Bundle
from tests.habits.repository import HEAVY, ROOT, project, runtime_modules


def python(code: str, *arguments: str) -> str:
    """Run code in a new interpreter at the repository's root; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADED = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def test_importing_edge_ad_loads_nothing_heavy() -> None:
    loaded = json.loads(python(f"import edge_ad; {LOADED}"))
    assert "edge_ad" in loaded
    assert set(loaded).isdisjoint({*HEAVY, "onnxruntime"})


def test_no_module_of_the_runtime_loads_anything_heavy() -> None:
    modules = runtime_modules()
    assert "edge_ad.backends.tensorrt" in modules
    imports = "; ".join(f"import {name}" for name in modules)
    assert set(json.loads(python(f"{imports}; {LOADED}"))).isdisjoint(HEAVY)


WITHOUT = """
import sys
for name in sys.argv[2].split(","):
    sys.modules[name] = None  # importing it fails, as where it is not installed
import numpy as np
from edge_ad import Inspector
with Inspector(sys.argv[1]) as inspector:
    size = inspector.bundle.manifest.input
    print(inspector.inspect(np.zeros((size.height, size.width, 3), np.uint8)).score)
"""


def test_a_station_needs_none_of_it(tiny_bundle: Bundle) -> None:
    assert float(python(WITHOUT, str(tiny_bundle.path), ",".join(HEAVY))) == 0.0  # black in, nothing added: 0 out


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_the_contracts_cover_the_whole_runtime() -> None:
    """A new module of the runtime is added to the contracts, else they say nothing about it."""
    first, arrows = (contract for contract in project()["tool"]["importlinter"]["contracts"][:2])
    rooms = {".".join(name.split(".")[:2]) for name in runtime_modules()} - {"edge_ad"}
    assert set(first["source_modules"]) == rooms
    layered = {room.strip("() ") for layer in arrows["layers"] for room in layer.split("|")}
    assert rooms - layered <= {"edge_ad.progress"}


def test_what_the_check_would_catch() -> None:
    """The list of loaded packages does show a heavy one."""
    assert "sklearn" in json.loads(python(f"import edge_ad, sklearn; {LOADED}"))
