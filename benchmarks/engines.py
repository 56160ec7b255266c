"""Every method's engines: how many compile, how large they are, how long the compiler takes. No GPU is needed.

Networks have their default size and random weights, behind a camera of 480x640: sizes and times do not depend on what
was learnt. INT8 quantises every convolution, FP16 halves the whole trunk, so no precision falls back on another.
Trained bundles are compiled instead with --bundles; they are copied and stay as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from build_engines.builder import BuildOptions
from build_engines.fleet import FleetEngine, build_fleet, default_jobs
from build_engines.fleet_file import FleetTarget
from edge_ad.backends.flavours import load_flavour
from edge_ad.report.machine import describe_machine
from edge_ad.training.registry import METHODS

# One per generation of GPU that stands in plants, and the one engine for those from Ampere on: T4 and RTX 20; A2, A10
# and RTX 30; L4 and RTX 40; RTX 50 and RTX PRO.
TARGETS = ("sm75", "sm86", "sm89", "sm120", "portable")
PRECISIONS = ("fp32", "fp16", "int8")
CAMERA = (480, 640)
FRAMES = 2  # to measure ranges on, each with and without a defect


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
    import cv2
    import numpy as np

    from edge_ad.demo.parts import draw_part
    from edge_ad.progress import Progress

    rng = np.random.default_rng(0)
    frames = [folder / f"{index}.png" for index in range(FRAMES)]
    for frame in frames:
        cv2.imwrite(str(frame), draw_part(rng, size=CAMERA)[0])
    made = []
    with Progress("networks", len(METHODS)) as progress:
        for method in METHODS:
            made.append(_random_bundle(folder / f"{method}.bundle", method, frames))
            progress.step(method=method)
    return tuple(made)


def _random_bundle(path: Path, method: str, frames: Sequence[Path]) -> Path:
    """A bundle of a method's network as it is before training, in every precision."""
    import torch

    from edge_ad.bundle import create_bundle
    from edge_ad.manifest import Manifest, PrecisionEntry, Size
    from edge_ad.methods.graph import InspectionGraph
    from edge_ad.training.export import onnx_from_graph

    entry = METHODS[method].load()
    options = _without_files(entry.options())
    torch.manual_seed(options.seed)
    network = entry.empty(options).eval()
    graphs = _precisions(onnx_from_graph(InspectionGraph(network, CAMERA, options.image_size).eval()), frames)
    size = Size(height=CAMERA[0], width=CAMERA[1])
    names = {precision: f"{precision}.onnx" for precision in graphs}
    entries = {
        precision: PrecisionEntry(
            graph=names[precision],
            threshold=0.0,
            threshold_version=1,
            false_reject_rate=0.0,
            normal_images=1,
            score_spread=1.0,
        )
        for precision in graphs
    }
    manifest = Manifest(name=method, method=method, input=size, map=size, precisions=entries)
    create_bundle(path, manifest, {names[precision]: content for precision, content in graphs.items()})
    return path


def _without_files(options: Any) -> Any:
    """A pretrained trunk's weights would be overwritten anyway."""
    names = {field.name for field in dataclasses.fields(options)}
    return dataclasses.replace(options, pretrained=False) if "pretrained" in names else options


def _precisions(content: bytes, frames: Sequence[Path]) -> dict[str, bytes]:
    """The graph, its trunk in float16, and all its convolutions in INT8 with the ranges of a few frames."""
    from calibration.fp16 import trunk_tensors
    from calibration.half import halve
    from calibration.observe import observe
    from calibration.qdq import INT8, convolutions, quantise
    from calibration.trunk import load_named, trunk_of

    model = load_named(content)
    seen = observe(model, trunk_tensors(model), frames, seed=0)
    layers = convolutions(model)
    clips = {name: seen[name].largest or 1.0 for node in layers for name in (node.input[0], node.output[0])}
    return {
        "fp32": content,
        "fp16": halve(model, trunk_of(model.graph)).SerializeToString(),
        "int8": quantise(model, [node.name for node in layers], clips, INT8).SerializeToString(),
    }


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
