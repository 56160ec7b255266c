"""What this machine can run and, for what it cannot, the line that mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from dataclasses import dataclass

from edge_ad.backends.cuda import compute_capability
from edge_ad.backends.flavours import installed_flavours, load_flavour, target_of
from edge_ad.errors import EdgeAdError

__all__ = ["Finding", "examine"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One ability of this machine.

    Attributes:
        required: Nothing works without it.
        fix: The command that gives the ability; empty where it is there.
    """

    what: str
    works: bool
    detail: str
    fix: str = ""
    required: bool = False


def examine() -> list[Finding]:
    """Look at Python, the packages and the GPU; changes nothing."""
    return [
        _python(),
        _packages("verdicts on the CPU", ("onnxruntime", "cv2", "numpy"), "pip install edge-ad", required=True),
        _packages("faster verdicts on the CPU", ("openvino",), _extra("openvino")),
        _packages("training and export", ("torch", "onnx", "onnxscript", "safetensors", "sklearn"), _extra("train")),
        _packages("calibration to FP16 and INT8", ("onnx", "sklearn", "scipy"), _extra("build")),
        _compiler(),
        _gpu(),
        _packages("CUDA through Python", ("cuda",), _extra("tensorrt")),
    ]


def _extra(name: str) -> str:
    return f"pip install 'edge-ad[{name}]'"


def _python() -> Finding:
    return Finding(
        what="Python 3.10 or newer",
        works=sys.version_info >= (3, 10),
        detail=f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        fix="" if sys.version_info >= (3, 10) else "install Python 3.10 or newer",
        required=True,
    )


_DISTRIBUTIONS = {"cv2": "opencv-python-headless", "sklearn": "scikit-learn", "cuda": "cuda-python"}


def _packages(what: str, modules: tuple[str, ...], fix: str, *, required: bool = False) -> Finding:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(_version(name) for name in modules)
    return Finding(what=what, works=not missing, detail=detail, fix=fix if missing else "", required=required)


def _version(module: str) -> str:
    distribution = _DISTRIBUTIONS.get(module, module)
    try:
        return f"{module} {importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:  # installed under another name, such as opencv-python
        return module


def _compiler() -> Finding:
    what = "compiling engines"
    if not installed_flavours():
        return Finding(what=what, works=False, detail="neither TensorRT-RTX nor TensorRT", fix=_extra("tensorrt"))
    try:
        flavour = load_flavour()
    except EdgeAdError as error:
        return Finding(what=what, works=False, detail=error.what, fix=error.fix or _extra("tensorrt"))
    return Finding(what=what, works=True, detail=f"{flavour.title} {flavour.version}")


def _gpu() -> Finding:
    try:
        capability = compute_capability()
    except EdgeAdError as error:
        return Finding(
            what="running engines on a GPU",
            works=False,
            detail=f"{error.what} Verdicts come from the CPU; engines can be compiled for other machines.",
            fix=error.fix or "",
        )
    return Finding(what="running engines on a GPU", works=True, detail=target_of(capability))
