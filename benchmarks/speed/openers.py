"""How this package's contenders are opened, for benchmarks.speed.worker. Each imports what it needs and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Verdict = Callable[[npt.NDArray[np.uint8]], object]


def inspector(bundle: str, precision: str, backend: str) -> Verdict:
    """As on a station: hashes and golden vectors are checked first."""
    from edge_ad import Inspector

    return Inspector(bundle, precision=precision, backend=backend).inspect


def torch_eager(method: str, options: dict[str, Any]) -> Verdict:
    """The method in PyTorch, layer by layer, as in the papers' repositories."""
    return _torch(method, options, lambda graph: graph)


def torch_compiled(method: str, options: dict[str, Any]) -> Verdict:
    """The method through torch.compile."""
    import torch

    return _torch(method, options, torch.compile)


def _torch(method: str, options: dict[str, Any], then: Callable[[Any], Any]) -> Verdict:
    import torch

    from benchmarks.random_bundle import random_network

    graph = then(random_network(method, **options))

    def verdict(frame: npt.NDArray[np.uint8]) -> float:
        with torch.inference_mode():
            _, scores = graph(torch.from_numpy(frame[None]))
        return float(scores[0])

    return verdict
