"""What TensorRT says of a build: the errors it logs.

One logger hears every build of the process, since TensorRT 8 and 10 keep to the logger of the oldest object alive: a
failed build, still held by its exception, would otherwise take the next one's errors with it. An error recorder of each
builder's own would be the way, but with one TensorRT-RTX 1.7.1 crashes when a parsed network is freed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from edge_ad.backends.flavours import capturing_logger

__all__ = ["build_logger", "fatal", "telling"]

# Without a GPU TensorRT-RTX logs this as it compiles for other GPUs.
_NO_GPU = "checkMacros.cpp::catchCudaError"
# One of many candidates for a layer did not run and TensorRT took another; all the same it logs an error
# (microsoft/onnxruntime issue 22164, NVIDIA/TensorRT issue 2643).
_ONE_TACTIC = re.compile(r"skipping tactic|insuff?icient memory|out ?of ?memory", re.IGNORECASE)


@functools.cache
def build_logger(trt: Any) -> Any:
    """The logger of every build with a TensorRT, one at a time: its list `problems` is cleared as a build begins."""
    return capturing_logger(trt)


def telling(problems: Sequence[str]) -> list[str]:
    """Errors, each once, without those that only say that there is no GPU."""
    return list(dict.fromkeys(problem for problem in problems if _NO_GPU not in problem))


def fatal(errors: Sequence[str]) -> list[str]:
    """Those after which a built engine is not to be trusted: all but TensorRT's remarks on candidates it dropped."""
    return [error for error in errors if not _ONE_TACTIC.search(error)]
