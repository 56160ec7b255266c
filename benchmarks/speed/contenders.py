"""Who takes part, and how much disk each needs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from typing import Any

__all__ = ["Contender", "installed_mb", "of_bundle", "of_torch"]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to get a verdict.

    Attributes:
        family: "ours", "slim" (ours too, of lower ranks), "torch" or "peer".
        opener: `module:function` for benchmarks.speed.worker, with its arguments.
        python: The interpreter of its environment.
        packages: What must be installed for it; their dependencies count as well.
    """

    name: str
    family: str
    opener: str
    arguments: dict[str, Any]
    packages: tuple[str, ...]
    python: str = field(default=sys.executable)

    def command(self, size: tuple[int, int]) -> list[str]:
        given = {"opener": self.opener, "arguments": self.arguments, "size": size}
        return [self.python, "-m", "benchmarks.speed.worker", json.dumps(given)]


RUNTIME = ("numpy", "opencv-python-headless", "tqdm")
OF_BACKEND = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime",), "tensorrt": ("tensorrt-rtx-cu13",)}


def of_bundle(path: str, precision: str, backend: str, label: str = "") -> Contender:
    """A precision of a bundle on a backend, through an Inspector; the label "slim" says that its ranks are lower."""
    return Contender(
        name=" ".join(filter(None, ("edge-ad", backend, precision, label))),
        family="slim" if label.startswith("slim") else "ours",
        opener="benchmarks.speed.openers:inspector",
        arguments={"bundle": path, "precision": precision, "backend": backend},
        packages=(*RUNTIME, *OF_BACKEND[backend]),
    )


def of_torch(method: str, options: dict[str, Any], *, compiled: bool) -> Contender:
    """The method's network in PyTorch, with these options instead of the defaults."""
    name = "torch_compiled" if compiled else "torch_eager"
    return Contender(
        name="torch.compile" if compiled else "torch eager",
        family="torch",
        opener=f"benchmarks.speed.openers:{name}",
        arguments={"method": method, "options": options},
        packages=("torch", *RUNTIME),
    )


@cache
def installed_mb(python: str, packages: tuple[str, ...]) -> float:
    """Megabytes of the packages and all they depend on, as installed in an interpreter's environment."""
    command = [python, "-m", "benchmarks.speed.install_size", *packages]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
