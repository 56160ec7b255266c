"""The repository as files: what the tests of habits read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge_ad", "build_engines", "calibration")

HEAVY = ("torch", "onnx", "tensorrt", "tensorrt_rtx", "cuda", "pycuda", "scipy", "sklearn", "polygraphy", "onnxscript")
"""Packages that a station may lack, and that no runtime import may load."""

TRAINING_ROOMS = (
    "edge_ad.algebra",
    "edge_ad.cli",
    "edge_ad.compare",
    "edge_ad.demo",
    "edge_ad.methods",
    "edge_ad.report",
    "edge_ad.training",
)
"""What is not the runtime: these import what they need, when they need it."""


def python_files(*folders: str) -> list[Path]:
    """Every module of the folders, in order."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """edge_ad/bundle.py to edge_ad.bundle, edge_ad/__init__.py to edge_ad."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def runtime_modules() -> list[str]:
    """Every module of edge_ad that a station loads."""
    names = [module_name(path) for path in python_files("edge_ad")]
    return [name for name in names if not name.startswith(TRAINING_ROOMS)]


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
