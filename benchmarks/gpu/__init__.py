"""Latency, throughput and distance to the chip's limit on this machine's GPU; needs no network and under 8 minutes.

Finds out what is installed (TensorRT, TensorRT-RTX, cuda-python, pycuda, torch), compiles EfficientAD-S at 256x256 with
random weights in fp32, fp16 and int8, proves every engine with golden vectors, and measures: each stage, each way to
run the engine (CUDA graph or not, zero copy or not), throughput in batches of 1 to 64, the same network in torch (eager
in half precision, and compiled), and what the chip reaches when it does nothing but convolutions, matrix products or
copies. Writes results/<gpu>.json and .md. With --bundle your own bundles are verified, and measured in its place.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.gpu.measure import Measurement
from benchmarks.gpu.probe import require_gpu
from benchmarks.gpu.report import as_text
from benchmarks.gpu.timing import Settings
from build_engines import BuildOptions, build
from build_engines.targets import PORTABLE, known_targets
from edge_ad.backends import standin
from edge_ad.backends.cuda import compute_capability, open_device
from edge_ad.backends.flavours import load_flavour, target_of
from edge_ad.bundle import Bundle

__all__ = ["add_arguments", "as_text", "measure", "result_name"]

REHEARSAL = Settings(
    image_size=128,
    batches=(1, 2),
    warm_up_s=0.0,
    samples=2,
    most_s=0.01,
    most_s_throughput=0.01,
    queued=2,
    budget_s=300.0,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", nargs="+", type=Path, default=[], help="verify and measure these instead")
    parser.add_argument("--budget-s", type=float, default=Settings.budget_s, help="(default: %(default)s)")
    parser.add_argument(
        "--dry-run", action="store_true", help="rehearse on the stand-in: shows what is printed, no more"
    )


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """See Measurement.run.

    Raises:
        NoGpu: There is none; the message says what is missing and what to run where it is not.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if arguments.dry_run:
            stack.enter_context(standin.gpu())
            return Measurement(REHEARSAL, _stand_in_engine, folder, stand_in=True).run(arguments.bundle)
        require_gpu()
        settings = Settings(budget_s=arguments.budget_s)
        return Measurement(settings, _engine_for_this_gpu, folder, stand_in=False).run(arguments.bundle)


def result_name(arguments: argparse.Namespace) -> str:
    """The GPU's name, for the files; empty for a rehearsal, which is not kept."""
    return "" if arguments.dry_run else re.sub(r"[^a-z0-9]+", "-", open_device().name.lower()).strip("-")


def _engine_for_this_gpu(bundle: Bundle, precision: str, flavour: str, batch: int) -> None:
    here = target_of(compute_capability())
    target = here if here in known_targets(load_flavour(flavour)) else PORTABLE
    build(bundle, BuildOptions(targets=(target,), precisions=(precision,), flavour=flavour, max_batch=batch))


def _stand_in_engine(bundle: Bundle, precision: str, flavour: str, batch: int) -> None:
    standin.add_engine(bundle, precision, flavour=flavour, max_batch=batch)
