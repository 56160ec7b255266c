"""The same network in torch on the same GPU: eager in half precision, as the papers timed theirs, and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.gpu.timing import Settings, summary, wall_times_ms

GEMM_SIDE = 8192


def torch_without_gpu() -> str | None:
    """Why torch cannot take part; None where it can."""
    try:
        import torch
    except ImportError as exc:
        return f"torch is not installed: {exc}"
    return None if torch.cuda.is_available() else "this torch sees no GPU"


class TorchPeer:
    """A network of `random_network` in torch, its trunk in half precision and its tail in float32, as in our graphs.

    Args:
        device: "cuda"; "cpu" for a rehearsal, in float32 since processors are slow at half precision.
    """

    def __init__(self, network: Any, device: str) -> None:
        import copy

        import torch

        self._torch, self._device = torch, device
        self._kind = torch.float16 if device == "cuda" else torch.float32
        self._graph = copy.deepcopy(network).to(device)
        for part in (self._graph.network.teacher, self._graph.network.student, self._graph.network.autoencoder):
            part.to(self._kind)
        self._network: Callable[[Any], Any] = self._graph.network

    def compile(self) -> None:
        """By torch.compile with its own CUDA graphs; raises what torch raises, where it lacks a compiler say."""
        self._network = self._torch.compile(self._graph.network, mode="reduce-overhead")

    def as_the_papers_time(self, batch: int, settings: Settings) -> dict[str, float]:
        """From a normalised half-precision image on the GPU to map and score there."""
        side = self._graph.size
        image = self._torch.zeros((batch, 3, side, side), dtype=self._kind, device=self._device)

        def forward() -> None:
            self._network(image)
            self._wait()

        with self._torch.inference_mode():
            return summary(wall_times_ms(forward, settings))

    def from_host(self, frames: npt.NDArray[np.uint8], settings: Settings) -> dict[str, float]:
        """From the camera's bytes on the host to map and score on the host: what our latency is compared with."""

        def serve() -> None:
            image = self._torch.from_numpy(frames).to(self._device)
            anomaly_map, score = self._network(self._graph.prepare(image).to(self._kind))
            anomaly_map.cpu(), score.cpu()

        with self._torch.inference_mode():
            return summary(wall_times_ms(serve, settings))

    def _wait(self) -> None:
        if self._device == "cuda":
            self._torch.cuda.synchronize()


def gemm_flops_per_s(precision: str, settings: Settings, *, side: int = GEMM_SIDE) -> float:
    """The rate of one large matrix product in torch: float32 without TF32, float16, or INT8."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    if precision == "int8":
        a, b = (torch.ones((side, side), dtype=torch.int8, device="cuda") for _ in range(2))

        def product() -> None:
            torch._int_mm(a, b)
    else:
        kind = {"fp32": torch.float32, "fp16": torch.float16}[precision]
        a, b = (torch.randn((side, side), device="cuda").to(kind) for _ in range(2))

        def product() -> None:
            torch.matmul(a, b)

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    rates: list[float] = []

    def once() -> None:
        start.record()
        for _ in range(4):
            product()
        end.record()
        end.synchronize()
        rates.append(4 * 2 * side**3 / (start.elapsed_time(end) / 1e3))

    counted = len(wall_times_ms(once, settings))
    return float(np.median(rates[-counted:]))
