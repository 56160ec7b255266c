"""The measurement: every flavour, precision and way to run, within the budget of time."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.bundles import METHOD, default_bundle, limit_bundle
from benchmarks.gpu.probe import probe, read_clocks
from benchmarks.gpu.timing import (
    Deadline,
    Settings,
    copy_bandwidth,
    gpu_times,
    latency,
    queued_throughput,
    served_throughput,
    stage_times,
    summary,
    wall_times_ms,
)
from benchmarks.gpu.torch_peer import TorchPeer, gemm_flops_per_s, torch_without_gpu
from benchmarks.gpu.work import Work, count_work
from benchmarks.random_bundle import random_network
from edge_ad.backends.cuda import open_device
from edge_ad.backends.execution import ExecutionOptions
from edge_ad.backends.flavours import TITLES, installed_flavours, load_flavour
from edge_ad.backends.tensorrt import TensorRtBackend
from edge_ad.bundle import Bundle
from edge_ad.errors import EdgeAdError
from edge_ad.golden import check_golden
from edge_ad.inspector import Inspector
from edge_ad.progress import Progress
from edge_ad.verify import verify

Compile = Callable[[Bundle, str, str, int], None]
"""(bundle, precision, flavour, largest batch): put an engine for this GPU into a bundle."""

# What issue and README promise, of EfficientAD-S at 256x256 on a data-centre card.
AIM_LATENCY_MS, AIM_IMAGES_PER_S, AIM_OVER_EAGER = 0.30, 10_000, 5.0

# Seconds that one of these may take: TensorRT measures kernels while it compiles.
_RESERVE_S = {"rtx": 40.0, "trt": 120.0, "torch.compile": 60.0}

WAYS = {
    "CUDA graph": ExecutionOptions(),
    "kernel by kernel": ExecutionOptions(cuda_graph=False),
    "CUDA graph, zero copy": ExecutionOptions(zero_copy=True),
    "kernel by kernel, zero copy": ExecutionOptions(cuda_graph=False, zero_copy=True),
}


class Measurement:
    """One run of the benchmark.

    Args:
        compile_engine: Makes an engine for the GPU that is there.
        folder: For bundles and engines; what is given stays as it is.
        stand_in: Rehearse: the figures are the stand-in's and mean nothing.
    """

    def __init__(self, settings: Settings, compile_engine: Compile, folder: Path, *, stand_in: bool) -> None:
        self._settings, self._compile, self._folder, self._stand_in = settings, compile_engine, folder, stand_in
        self._deadline = Deadline(settings.budget_s)

    def run(self, given: list[Path]) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        result: dict[str, Any] = {"stand_in": self._stand_in, "machine": probe()}
        network: Any = None if given else random_network(METHOD, image_size=self._settings.image_size)
        bundles = [Bundle(path) for path in given] or [default_bundle(self._folder, network)]
        result["verified"] = [self._verify(path) for path in given]
        result["limits"] = limits = self._limits()
        rows = [
            (bundle, flavour, precision)
            for bundle in bundles
            for flavour in installed_flavours()
            for precision in bundle.manifest.precisions
        ]
        result["torch"] = self._torch_eager(network)
        result["engines"] = []
        with Progress("engines", len(rows)) as progress:
            for bundle, flavour, precision in rows:
                name = f"{bundle.manifest.name} in {precision} with {TITLES[flavour]}"
                if self._deadline.allows(name, reserve_s=_RESERVE_S[flavour]):
                    result["engines"].append(self._engine(bundle, flavour, precision, limits))
                progress.step(engine=name)
        if "eager" in result["torch"]:
            result["torch"]["compiled"] = self._torch_compiled(network)
        result["aims"] = {} if given else _aims(result)  # they are of the default network
        return result | {
            "clocks_at_the_end": read_clocks(),
            "left_out": self._deadline.left_out,
            "seconds": round(self._deadline.spent_s, 1),
        }

    def _verify(self, path: Path) -> dict[str, Any]:
        return {"bundle": path.name, "proofs": [dataclasses.asdict(proof) for proof in verify(path)]}

    def _limits(self) -> dict[str, Any]:
        """What the chip reaches when nothing else is asked of it."""
        with closing(open_device()) as device:
            size_bytes = (1 if self._stand_in else 256) << 20
            limits: dict[str, Any] = {"copy_gb_per_s": copy_bandwidth(device, self._settings, size_bytes=size_bytes)}
        size = {"layers": 1, "channels": 8, "side": 16} if self._stand_in else {}
        bundle = limit_bundle(self._folder, **size)
        why_not = torch_without_gpu()
        for precision in bundle.manifest.precisions:
            rates = {}
            if self._deadline.allows(f"the limit in {precision}", reserve_s=10):
                try:
                    rates["convolutions"] = self._convolution_rate(bundle, precision)
                except EdgeAdError as error:
                    limits.setdefault("failures", []).append(f"{precision}: {error}")
            if why_not is None:
                rates["matrix product in torch"] = gemm_flops_per_s(precision, self._settings)
            limits[precision] = {name: round(rate / 1e12, 2) for name, rate in rates.items()}
        return limits

    def _convolution_rate(self, bundle: Bundle, precision: str) -> float:
        work, batch = count_work(bundle.read(bundle.precision(precision).graph)), self._settings.batches[-1]
        self._compile(bundle, precision, installed_flavours()[0], batch)
        with closing(TensorRtBackend(bundle, precision)) as backend:
            return queued_throughput(backend, batch, self._settings) * work.flops

    def _engine(self, given: Bundle, flavour: str, precision: str, limits: dict[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {"bundle": given.manifest.name, "flavour": flavour, "precision": precision}
        row["version"] = load_flavour(flavour).version
        work = count_work(given.read(given.precision(precision).graph))
        row["work"] = dataclasses.asdict(work) | {"flops": work.flops}
        try:
            single = self._compiled(given, flavour, precision, 1, row)
            row |= self._single(single, precision)
            row["distance"] = self._distance(work, row["gpu"]["p50_ms"], 1, precision, limits)
            many = self._compiled(given, flavour, precision, self._settings.batches[-1], row)
            row["throughput"] = self._throughput(many, precision, work, limits)
        except EdgeAdError as error:
            row["failure"] = str(error)
        return row

    def _compiled(self, given: Bundle, flavour: str, precision: str, batch: int, row: dict[str, Any]) -> Bundle:
        """A copy of the bundle with one engine."""
        path = self._folder / f"{given.path.stem}-{flavour}-{precision}-{batch}.bundle"
        shutil.copytree(given.path, path)
        bundle = Bundle(path)
        bundle.manifest = dataclasses.replace(bundle.manifest, engines=())
        start = time.perf_counter()
        self._compile(bundle, precision, flavour, batch)
        entry = bundle.manifest.engines[-1]
        row[f"engine_batch_{batch}"] = {
            "bytes": (bundle.path / entry.file).stat().st_size,
            "build_s": round(time.perf_counter() - start, 2),
            "precision_confirmed": entry.precision_confirmed,
        }
        bundle.manifest = dataclasses.replace(bundle.manifest, engines=(entry,))
        return bundle

    def _frames(self, bundle: Bundle, batch: int) -> Any:
        size = bundle.manifest.input
        return np.random.default_rng(0).integers(0, 256, (batch, size.height, size.width, 3), dtype=np.uint8)

    def _single(self, bundle: Bundle, precision: str) -> dict[str, Any]:
        """Batch 1: proof, stages, each way to run it, and from bytes to verdict."""
        frames, settings = self._frames(bundle, 1), self._settings
        row: dict[str, Any] = {}
        start = time.perf_counter()
        with Inspector(bundle, precision=precision, backend="tensorrt") as inspector:
            row["first_load_s"] = round(time.perf_counter() - start, 3)
            row["golden_error_spreads"] = check_golden(bundle, precision, inspector.backend, inspector.answer)
            row["verdict"] = summary(wall_times_ms(lambda: inspector.inspect(frames[0]), settings))
        start = time.perf_counter()
        with Inspector(bundle, precision=precision, backend="tensorrt"):
            row["next_load_s"] = round(time.perf_counter() - start, 3)
        row["ways"] = {}
        for name, options in WAYS.items():
            with closing(TensorRtBackend(bundle, precision, options)) as backend:
                row["ways"][name] = latency(backend, frames, settings) | {"graph": backend.graph_state}
                if name == "CUDA graph":
                    row["gpu"] = gpu_times(backend, 1, settings)
                    row["graph"] = backend.graph_state
                if name == "kernel by kernel":
                    row["stages"] = stage_times(backend, frames, settings)
        row["stages"]["host"] = _difference(row["verdict"], row["ways"]["CUDA graph"])
        return row

    def _throughput(self, bundle: Bundle, precision: str, work: Work, limits: dict[str, Any]) -> list[dict[str, Any]]:
        rows = []
        with (
            closing(TensorRtBackend(bundle, precision)) as backend,
            closing(TensorRtBackend(bundle, precision)) as second,
        ):
            check_golden(bundle, precision, backend.name, backend.run)
            for batch in self._settings.batches:
                if not self._deadline.allows(f"{precision} in batches of {batch}"):
                    break
                frames = self._frames(bundle, batch)
                queued = queued_throughput(backend, batch, self._settings)
                rows.append(
                    {
                        "batch": batch,
                        "gpu_images_per_s": queued,
                        "images_per_s": served_throughput([backend], frames, self._settings),
                        "images_per_s_two_threads": served_throughput([backend, second], frames, self._settings),
                        **self._distance(work, 1e3 * batch / queued, batch, precision, limits),
                    }
                )
        return rows

    def _distance(
        self, work: Work, measured_ms: float, batch: int, precision: str, limits: dict[str, Any]
    ) -> dict[str, float]:
        """How far from what the chip was measured to reach; empty where that was not measured."""
        rates = limits.get(precision, {})
        if not rates:
            return {}
        rate = max(rates.values()) * 1e12
        bound = work.bound_ms(batch, flops_per_s=rate, bytes_per_s=limits["copy_gb_per_s"] * 1e9)
        return {
            "tflops": round(batch * work.flops / measured_ms / 1e9, 3),
            "bound_ms": round(bound, 5),
            "share_of_limit": round(bound / measured_ms, 4),
        }

    def _torch_eager(self, network: Any) -> dict[str, Any]:
        """The peer; why not, where it cannot take part."""
        if network is None:
            return {"why_not": "only the default network is known in torch"}
        why_not = None if self._stand_in else torch_without_gpu()
        return {"why_not": why_not} if why_not else {"eager": self._torch_rows(self._peer(network))}

    def _torch_compiled(self, network: Any) -> dict[str, Any]:
        if not self._deadline.allows("torch.compile", reserve_s=_RESERVE_S["torch.compile"]):
            return {"why_not": "no time was left"}
        peer = self._peer(network)
        try:
            if not self._stand_in:
                peer.compile()
            return self._torch_rows(peer)
        except Exception as exc:  # it needs a C compiler, Triton and luck
            return {"why_not": f"{type(exc).__name__}: {str(exc)[:300]}"}

    def _peer(self, network: Any) -> TorchPeer:
        return TorchPeer(network, "cpu" if self._stand_in else "cuda")

    def _torch_rows(self, peer: TorchPeer) -> dict[str, Any]:
        side, most = self._settings.image_size, self._settings.batches[-1]
        frames = np.zeros((1, side, side, 3), np.uint8)
        batch = peer.as_the_papers_time(most, self._settings)
        return {
            "as the papers time": peer.as_the_papers_time(1, self._settings),
            "from host bytes": peer.from_host(frames, self._settings),
            f"images_per_s_batch_{most}": round(1e3 * most / batch["p50_ms"], 1),
        }


def _difference(whole: dict[str, float], part: dict[str, float]) -> dict[str, float]:
    """Medians only: percentiles of a difference are not differences of percentiles."""
    return {"p50_ms": round(max(whole["p50_ms"] - part["p50_ms"], 0.0), 4)}


def _aims(result: dict[str, Any]) -> dict[str, Any]:
    """What was aimed at, what came, of the fastest engine; None where it was not measured."""
    verdicts = [row["verdict"]["p50_ms"] for row in result["engines"] if "verdict" in row]
    rates = [batch["gpu_images_per_s"] for row in result["engines"] for batch in row.get("throughput", [])]
    eager = result["torch"].get("eager", {}).get("from host bytes", {}).get("p50_ms")
    fastest = min(verdicts, default=None)
    return {
        "verdict_ms": {"aim": AIM_LATENCY_MS, "got": fastest},
        "images_per_s": {"aim": AIM_IMAGES_PER_S, "got": max(rates, default=None)},
        "times_torch_eager": {
            "aim": AIM_OVER_EAGER,
            "got": round(eager / fastest, 2) if eager and fastest else None,
        },
    }
