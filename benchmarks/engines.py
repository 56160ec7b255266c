"""Every method's engines: how many compile, how large they are, how long the compiler takes. No GPU is needed.

Networks have their default size and random weights, behind a camera of 480x640: sizes and times do not depend on what
was learnt. INT8 quantises every convolution, FP16 halves the whole trunk, so no precision falls back on another.
Trained bundles are compiled instead with --bundles; they are copied and stay as they are.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.random_bundle import PRECISIONS, bundle_of_graph, drawn_frames, graph_of, random_network
from build_engines.builder import BuildOptions
from build_engines.fleet import FleetEngine, build_fleet, default_jobs
from build_engines.fleet_file import FleetTarget
from edge_ad.backends.flavours import load_flavour
from edge_ad.progress import Progress
from edge_ad.report.machine import describe_machine
from edge_ad.training.registry import METHODS

# One per generation of GPU that stands in plants, and the one engine for those from Ampere on: T4 and RTX 20; A2, A10
# and RTX 30; L4 and RTX 40; RTX 50 and RTX PRO.
TARGETS = ("sm75", "sm86", "sm89", "sm120", "portable")
CAMERA = (480, 640)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundles", nargs="+", type=Path, metavar="BUNDLE", help="compile these instead")
    parser.add_argument("--targets", nargs="+", default=TARGETS, help=f"(default: {' '.join(TARGETS)})")
    parser.add_argument("--quick", action="store_true", help="sm89 alone")
    parser.add_argument("--jobs", type=int, help="engines compiled at once (default: one for each core)")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Counts, and a row per engine."""
    targets = ("sm89",) if arguments.quick else tuple(arguments.targets)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = _copies(arguments.bundles, folder) if arguments.bundles else _random_bundles(folder)
        fleet = [
            FleetTarget(
                name=target,
                bundles=bundles,
                options=BuildOptions(targets=(target,), precisions=PRECISIONS, flavour="rtx"),
            )
            for target in targets
        ]
        rows = build_fleet(fleet, jobs=arguments.jobs, force=True)
    flavour = load_flavour("rtx")
    return {
        "machine": describe_machine(),
        "tensorrt": f"{flavour.title} {flavour.version}",
        "jobs": arguments.jobs or default_jobs(),
        "weights": "of the bundles" if arguments.bundles else "random",
        "compiled": sum(row.state == "built" for row in rows),
        "failed": sum(row.state == "failed" for row in rows),
        "engines": [_row(row) for row in rows],
    }


def _row(engine: FleetEngine) -> dict[str, Any]:
    return {
        "method": Path(engine.bundle).stem,
        "precision": engine.precision,
        "target": engine.target,
        "bytes": engine.bytes,
        "seconds": round(engine.seconds, 2),
        "failure": engine.reason if engine.state == "failed" else None,
    }


def _copies(bundles: Sequence[Path], folder: Path) -> tuple[Path, ...]:
    return tuple(Path(shutil.copytree(bundle, folder / bundle.resolve().name)) for bundle in bundles)


def _random_bundles(folder: Path) -> tuple[Path, ...]:
    frames = drawn_frames(CAMERA)
    made = []
    with Progress("networks", len(METHODS)) as progress:
        for method in METHODS:
            graph = graph_of(random_network(method, CAMERA))
            made.append(bundle_of_graph(folder / f"{method}.bundle", method, graph, frames).path)
            progress.step(method=method)
    return tuple(made)


def as_text(result: dict[str, Any]) -> str:
    """Markdown: megabytes by method, precision and target, and the compiler's seconds."""
    machine, engines = result["machine"], result["engines"]
    targets = list(dict.fromkeys(row["target"] for row in engines))
    lines = [
        "# Engines",
        "",
        f"{result['tensorrt']} compiled {result['compiled']} engines, and failed at {result['failed']}, on "
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, {result['jobs']} at once; weights: "
        f"{result['weights']}. Megabytes of each engine; seconds of compiling are means over the targets. "
        "`python -m benchmarks engines --help` says more; engines.json holds every figure.",
        "",
        f"| method | precision | {' | '.join(targets)} | seconds |",
        "|---" * (len(targets) + 3) + "|",
    ]
    for method, precision in dict.fromkeys((row["method"], row["precision"]) for row in engines):
        rows = {row["target"]: row for row in engines if (row["method"], row["precision"]) == (method, precision)}
        sizes = [f"{rows[target]['bytes'] / 1e6:.1f}" if rows[target]["bytes"] else "failed" for target in targets]
        seconds = sum(row["seconds"] for row in rows.values()) / len(rows)
        lines.append(f"| {method} | {precision} | {' | '.join(sizes)} | {seconds:.1f} |")
    lines += [
        f"\n{row['method']} in {row['precision']} for {row['target']}: {row['failure']}"
        for row in engines
        if row["failure"]
    ]
    return "\n".join(lines)
