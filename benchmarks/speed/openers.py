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


def efficientad_step(method: str, bf16: bool) -> Verdict:
    """A training step of ours with the pretraining penalty; without bf16 in float32, whatever the hardware has."""
    import contextlib

    import torch

    import edge_ad.training.fit_efficientad as fit
    from edge_ad.training.images import normalise
    from edge_ad.training.registry import METHODS

    if not bf16:
        fit.half_precision = lambda device: contextlib.nullcontext()
    entry = METHODS[method].load()
    options = entry.options()
    network = entry.empty(options).to(memory_format=torch.channels_last).train()
    network.teacher.eval().requires_grad_(False)
    trained = [one for one in network.parameters() if one.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=options.learning_rate, weight_decay=options.weight_decay)
    rng = np.random.default_rng(0)

    def step(frame: npt.NDArray[np.uint8]) -> float:
        rgb = torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1).float() / 255
        inputs = [normalise(one) for one in (rgb, fit.recolour(rgb, rng), rgb.flip(2))]
        return fit.training_step(network, optimiser, inputs, options.hard_fraction)

    return step


def _torch(method: str, options: dict[str, Any], then: Callable[[Any], Any]) -> Verdict:
    import torch

    from benchmarks.random_bundle import random_network

    graph = then(random_network(method, **options))

    def verdict(frame: npt.NDArray[np.uint8]) -> float:
        with torch.inference_mode():
            _, scores = graph(torch.from_numpy(frame[None]))
        return float(scores[0])

    return verdict
