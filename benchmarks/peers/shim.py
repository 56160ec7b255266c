"""torchvision from PyPI is built for CUDA and finds its operators only there: before anomalib, in .peers.

anomalib imports torchvision, and with a CPU build of torch that fails because two operators are not declared. Declared
and never called, they cost nothing.
"""

from __future__ import annotations

import importlib.metadata

import torch

__all__ = ["declare_operators"]

_KEPT = []  # a Library takes its declarations back when it is collected


def declare_operators() -> None:
    """Make `import torchvision` work where torch has no CUDA."""
    if torch.version.cuda is None and "+cpu" not in importlib.metadata.version("torchvision") and not _KEPT:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
