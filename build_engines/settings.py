"""Options that change an engine: how the command line asks for them, and when each is of use."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from edge_ad.manifest import MOST_FRAMES, EngineSettings

__all__ = ["Batch", "add_settings", "batch_from_text", "settings_from_arguments"]

_MOST_WORKSPACE_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How many frames an engine takes at once: from `least` to `most`, fastest at `best`."""

    least: int = 1
    best: int = 1
    most: int = 1


def batch_from_text(text: str) -> Batch:
    """ "4" is exactly 4 frames, "1:4:16" is 1 to 16, fastest at 4.

    Raises:
        ValueError: It is neither.
    """
    numbers = text.split(":")
    if len(numbers) in (1, 3) and all(number.isdecimal() for number in numbers):
        least, best, most = (int(number) for number in (numbers * 3 if len(numbers) == 1 else numbers))
        if 1 <= least <= best <= most <= MOST_FRAMES:
            return Batch(least=least, best=best, most=most)
    raise ValueError(f"{text!r} is neither a number of frames nor LEAST:BEST:MOST, from 1 to {MOST_FRAMES}")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `settings_from_arguments` reads."""
    group = parser.add_argument_group(
        "engine settings",
        "An engine built with other settings replaces the bundle's engine of the same precision and target. What the "
        "installed TensorRT does not have is refused, never ignored.",
    )
    group.add_argument(
        "--batch",
        type=_batch,
        default=Batch(),
        metavar="N|LEAST:BEST:MOST",
        help="frames at once. One camera: leave it at 1, exactly one frame, which is fastest. N: always N frames, for "
        "cameras that are triggered together (fewer are padded). 1:4:16: for frames that come in changing numbers; a "
        "range costs some speed (default: 1)",
    )
    group.add_argument(
        "--optimization-level",
        type=int,
        choices=range(6),
        help="5 for an engine that is built once and runs for years: minutes more to build; 0 to 2 while trying things "
        "out (default: TensorRT's own, 3); TensorRT 8.6 and later",
    )
    group.add_argument(
        "--workspace",
        type=_mib,
        metavar="MIB",
        help="limit of the memory a layer may use while it runs: for a Jetson whose memory the cameras need too, or "
        "after out of memory during a build (default: all there is)",
    )
    group.add_argument(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="keep TensorRT's measurements here and reuse them: for the second and later builds on one kind of GPU, "
        "which then take seconds. It may lead to other kernels: run edge-ad verify on the engine",
    )
    group.add_argument(
        "--sparsity",
        action="store_true",
        help="use 2:4 sparse weights as such: for networks that were pruned and trained on, on GPUs from sm80 on; "
        "refused where no convolution has the pattern",
    )
    group.add_argument(
        "--version-compatible",
        action="store_true",
        help="later versions of the same major TensorRT can load it: for stations whose TensorRT is updated without "
        "building again; somewhat slower (8.6 and later)",
    )
    group.add_argument(
        "--hardware-compatible",
        action="store_true",
        help="one engine for every GPU from sm80 on, built on one of them: for stations with different cards; slower "
        "than an engine of each (8.6 and later, not on a Jetson; TensorRT-RTX has --target portable instead)",
    )
    group.add_argument(
        "--dla",
        type=int,
        choices=range(2),
        metavar="CORE",
        help="EXPERIMENTAL: run on this deep learning accelerator of a Jetson, with the GPU for what it cannot do: "
        "frees the GPU for other work; fp16 or int8, fixed batch",
    )


def settings_from_arguments(arguments: argparse.Namespace) -> EngineSettings:
    """All but the largest batch and the timing cache, which `arguments` holds as they are."""
    batch: Batch = arguments.batch
    return EngineSettings(
        min_batch=batch.least,
        opt_batch=None if batch.best == batch.most else batch.best,
        optimization_level=arguments.optimization_level,
        workspace_mib=arguments.workspace,
        sparsity=arguments.sparsity,
        version_compatible=arguments.version_compatible,
        hardware_compatible=arguments.hardware_compatible,
        dla_core=arguments.dla,
    )


def _batch(text: str) -> Batch:
    try:
        return batch_from_text(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _mib(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_WORKSPACE_MIB:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of MiB from 1 to {_MOST_WORKSPACE_MIB:,}")
    return int(text)
