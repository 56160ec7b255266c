"""The slowest verdicts: percentiles to p99.9 over many, and what happened during those that were late.

One inspector of the fastest backend and precision, random weights unless --bundle names trained ones, frame after frame
without a pause. Late is more than 1.5 times the median. Of every verdict it is known how much CPU time it took, in how
many of the machine's ticks another guest had the core (steal), and whether the process was put off a core, met a page
fault, or collected garbage meanwhile; and of all verdicts together what Python and NumPy allocate.
"""

from __future__ import annotations

import argparse
import gc
import resource
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad.inspector import Inspector
from edge_ad.progress import Progress
from edge_ad.report.machine import describe_machine
from edge_ad.training.registry import METHODS

PERCENTILES = (50, 90, 99, 99.9)
LATE = 1.5  # medians
WARM_UP, TRACED = 20, 50
COUNTED = ("put off a core", "page faults", "garbage collections", "steal")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="efficientad-s", choices=tuple(METHODS), help="(default: efficientad-s)")
    parser.add_argument("--bundle", type=Path, help="a trained bundle")
    parser.add_argument("--verdicts", type=int, default=10_000, help="(default: %(default)s)")


def result_name(arguments: argparse.Namespace) -> str:
    return f"tail-{arguments.method}"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Percentiles in milliseconds, the late verdicts by what met them, and bytes allocated for each verdict."""
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.bundle or _random(Path(folder) / "random.bundle", arguments.method)
        with Inspector(path, precision="int8") as inspector:
            frames = np.random.default_rng(0).integers(0, 256, (4, *inspector.size, 3), dtype=np.uint8)
            milliseconds, cpu_ms, counts = _timed(inspector, frames, arguments.verdicts)
            peak, kept = _allocated(inspector, frames)
            answer_bytes = inspector.inspect(frames[0]).anomaly_map.nbytes
            backend = inspector.backend
    return {
        "machine": describe_machine(),
        "method": arguments.method,
        "weights": "of the bundle" if arguments.bundle else "random, slim ranks where there are any",
        "backend": backend,
        "precision": "int8",
        "verdicts": arguments.verdicts,
        "percentiles_ms": {f"p{one:g}": round(float(np.percentile(milliseconds, one)), 2) for one in PERCENTILES},
        "slowest_ms": round(float(milliseconds.max()), 2),
        **_explained(milliseconds, cpu_ms, counts),
        "allocated_bytes": {"at most, during a verdict": peak, "the map of a verdict": answer_bytes, "kept": kept},
    }


def _random(path: Path, method: str) -> Path:
    from benchmarks.speed.slim import bundle_of_method, chosen_ranks

    return bundle_of_method(path, method, "int8", next(iter(chosen_ranks(method)), None)).path


def _timed(
    inspector: Inspector, frames: npt.NDArray[np.uint8], count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Milliseconds, and of CPU time, (count,); what happened meanwhile (count, 4), in the order of COUNTED."""
    milliseconds, cpu_ms = np.zeros(count), np.zeros(count)
    counts = np.zeros((count, len(COUNTED)), np.int64)
    for index in range(WARM_UP):
        inspector.inspect(frames[index % len(frames)])
    with Progress("verdicts", count) as progress:
        for index in range(count):
            before, of_cpu, start = _happened(), time.process_time_ns(), time.perf_counter_ns()
            inspector.inspect(frames[index % len(frames)])
            milliseconds[index] = (time.perf_counter_ns() - start) / 1e6
            cpu_ms[index] = (time.process_time_ns() - of_cpu) / 1e6
            counts[index] = _happened() - before
            progress.step()
    return milliseconds, cpu_ms, counts


def _happened() -> npt.NDArray[np.int64]:
    """So far, to all threads of the process, and of steal to the machine, in the order of COUNTED."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    collections = sum(generation["collections"] for generation in gc.get_stats())
    faults = usage.ru_minflt + usage.ru_majflt
    return np.array([usage.ru_nivcsw, faults, collections, _stolen_ticks()], np.int64)


def _stolen_ticks() -> int:
    """Of all cores since the machine started; 0 where the system does not tell."""
    try:
        with open("/proc/stat") as file:
            return int(file.readline().split()[8])
    except (OSError, IndexError):
        return 0


def _explained(
    milliseconds: npt.NDArray[np.float64], cpu_ms: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Of late verdicts and of the others: how many, how long, and in how many of them each thing happened."""
    late = milliseconds > LATE * np.median(milliseconds)

    def of(these: npt.NDArray[np.bool_]) -> dict[str, Any]:
        met = counts[these] > 0
        row: dict[str, Any] = {"verdicts": int(these.sum())}
        medians = (float(np.median(of[these])) if these.any() else 0.0 for of in (milliseconds, cpu_ms))
        row |= dict(zip(("median ms", "median ms of CPU time"), (round(one, 2) for one in medians), strict=True))
        return row | {what: int(met[:, column].sum()) for column, what in enumerate(COUNTED)}

    return {"late": of(late), "in_time": of(~late)}


def _allocated(inspector: Inspector, frames: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Bytes that Python and NumPy hold at most during a verdict, and that are left of one on average."""
    peaks = []
    tracemalloc.start()
    try:
        inspector.inspect(frames[0])
        first = tracemalloc.get_traced_memory()[0]
        for index in range(TRACED):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            inspector.inspect(frames[index % len(frames)])
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
        left = tracemalloc.get_traced_memory()[0] - first
    finally:
        tracemalloc.stop()
    return max(peaks), max(0, left) // TRACED


def as_text(result: dict[str, Any]) -> str:
    """Markdown."""
    machine, columns = result["machine"], ("verdicts", "median ms", "median ms of CPU time", *COUNTED)
    percentiles = ", ".join(f"{name} {value:g} ms" for name, value in result["percentiles_ms"].items())
    lines = [
        f"# The slowest verdicts of {result['method']}",
        "",
        f"`python -m benchmarks tail --method {result['method']}` on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['system']}: {result['verdicts']} verdicts, {result['precision']} on {result['backend']}, weights "
        f"{result['weights']}.",
        "",
        f"{percentiles}, the slowest {result['slowest_ms']:g} ms.",
        "",
        f"Late is more than {LATE:g} times the median; from the fifth column on, verdicts during which it happened.",
        "",
        f"| | {' | '.join(columns)} |",
        "| --- " * (len(columns) + 1) + "|",
    ]
    for kind, label in (("late", "late"), ("in_time", "in time")):
        lines.append(f"| {label} | {' | '.join(str(result[kind][column]) for column in columns)} |")
    allocated = "; ".join(f"{what} {count:,}" for what, count in result["allocated_bytes"].items())
    return "\n".join([*lines, "", f"Bytes that Python and NumPy allocate: {allocated}."])
