"""TensorRT's two flavours behind one door. `tensorrt_rtx` ("rtx") mirrors the Python API of `tensorrt` ("trt").

What differs is asked of the module with `hasattr`, never concluded from a version.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_ad.backends import vendor
from edge_ad.errors import MissingDependency

__all__ = [
    "INPUT",
    "MODULES",
    "TITLES",
    "Flavour",
    "capturing_logger",
    "explain",
    "installed_flavours",
    "load_flavour",
    "target_of",
]

MODULES = {"rtx": "tensorrt_rtx", "trt": "tensorrt"}
"""Python module by flavour."""

TITLES = {"rtx": "TensorRT-RTX", "trt": "TensorRT"}
"""The products' own names, for messages."""

INPUT = "image"
"""Name of the one input of every graph and engine."""

# TensorRT-RTX 1.4 to 1.6 compile float graphs and fail on INT8 convolutions (tensorrt-rtx release 1.7, tried here).
_OLDEST = {"rtx": (1, 7), "trt": (8, 5)}
_KEPT_PROBLEMS = 100
_INSTALL = {
    "rtx": "pip install 'edge-ad[tensorrt]'",
    "trt": "pip install tensorrt --extra-index-url https://pypi.nvidia.com, or use JetPack's own",
}


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """An imported TensorRT.

    Attributes:
        name: "rtx" or "trt".
        version: Of the library, in full ("1.7.1.116"): an engine belongs to exactly one.
        trt: The module itself.
    """

    name: str
    version: str
    trt: Any

    @property
    def title(self) -> str:
        return TITLES[self.name]


def installed_flavours() -> tuple[str, ...]:
    """Names of the flavours installed here, the preferred first; imports nothing."""
    # TensorRT-RTX exists for x86-64 alone, so elsewhere (Jetson) the full TensorRT comes first.
    preferred = ("rtx", "trt") if platform.machine() in ("x86_64", "AMD64") else ("trt", "rtx")
    return tuple(name for name in preferred if vendor.is_installed(MODULES[name]))


def load_flavour(name: str | None = None) -> Flavour:
    """Import a flavour; without a name, the preferred one that is installed.

    Raises:
        MissingDependency: Not installed, not loadable, or too old.
    """
    installed = installed_flavours()
    if name is None:
        if not installed:
            raise MissingDependency(
                "Neither TensorRT-RTX nor TensorRT is installed.",
                expected=" or ".join(MODULES.values()),
                got="neither module",
                fix=_INSTALL["rtx"],
            )
        name = installed[0]
    try:
        trt = vendor.load(MODULES[name])
    except (ImportError, OSError) as exc:  # OSError: the module is there and a library it loads is not
        raise MissingDependency(f"{TITLES[name]} cannot be loaded.", got=exc, fix=_INSTALL[name]) from exc
    flavour = Flavour(name=name, version=trt.__version__, trt=trt)
    _check_age(flavour)
    return flavour


def _check_age(flavour: Flavour) -> None:
    oldest = _OLDEST[flavour.name]
    if tuple(int(part) for part in re.findall(r"\d+", flavour.version)[:2]) < oldest:
        raise MissingDependency(
            f"This {flavour.title} is too old for the graphs of a bundle.",
            expected=f"{oldest[0]}.{oldest[1]} or newer",
            got=flavour.version,
            fix=_INSTALL[flavour.name],
        )


def target_of(capability: tuple[int, int]) -> str:
    """The target of a compute capability: (8, 9) is "sm89", (12, 0) is "sm120"."""
    major, minor = capability
    return f"sm{major}{minor}"


def capturing_logger(trt: Any) -> Any:
    """A TensorRT logger that keeps the last errors in its list `problems` and prints nothing.

    It must outlive every TensorRT object made with it.
    """

    class CapturingLogger(trt.ILogger):  # type: ignore[misc]  # the base class exists only once trt is imported
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.problems: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.problems.append(message)
                del self.problems[:-_KEPT_PROBLEMS]  # a station runs for months

    return CapturingLogger()


def explain(problems: Sequence[str]) -> str:
    """TensorRT's messages as one text, each once, without the echo it adds to every error where there is no GPU."""
    lines = [line.strip() for problem in problems for line in problem.splitlines() if line.strip()]
    telling = [line for line in lines if "checkMacros.cpp::catchCudaError" not in line] or lines
    return "\n            ".join(dict.fromkeys(telling)) or "nothing in TensorRT's log"
