"""How near a graph's convolutions come to the machine's own limit, layer by layer.

The limit is measured too: the highest rate of multiply-accumulates that any installed library reaches here in each
precision, and the bandwidth of memory. A convolution's share of the limit is the time that its multiply-accumulates
would take at the peak of the graph's precision, over the time it takes; `fraction_of_limit` is that of all of them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.roofline.peaks import Peaks, measure_peaks
from benchmarks.roofline.runtimes import LayerTime, aliases_of, onnxruntime_layers, openvino_layers
from benchmarks.speed.slim import RANKS_FILE, ChosenRanks, bundle_of_method, chosen_ranks
from edge_ad.algebra import Work, work_by_node
from edge_ad.bundle import Bundle
from edge_ad.errors import CalibrationError
from edge_ad.report.machine import describe_machine
from edge_ad.training.registry import METHODS

PROFILERS = {"openvino": openvino_layers, "onnxruntime": onnxruntime_layers}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="efficientad-s", choices=tuple(METHODS), help="(default: efficientad-s)")
    graph = parser.add_mutually_exclusive_group()
    graph.add_argument("--bundle", type=Path, help="a trained bundle instead of random weights")
    graph.add_argument("--slim", action="store_true", help="random weights in the ranks that `calibrate --slim` chose")
    parser.add_argument("--precision", default="int8", choices=("int8", "fp32"), help="(default: int8)")
    parser.add_argument("--quick", action="store_true", help="OpenVINO alone")


def result_name(arguments: argparse.Namespace) -> str:
    form = "-slim" if arguments.slim else ""
    return f"limit-{arguments.method}{form}{'-quick' if arguments.quick else ''}"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The machine's peaks; per runtime the layers and their sum; `fraction_of_limit` of the best runtime."""
    with tempfile.TemporaryDirectory() as name:
        bundle = Bundle(arguments.bundle) if arguments.bundle else _random(arguments, Path(name))
        graph = bundle.read(bundle.precision(arguments.precision).graph)
    size = bundle.manifest.input
    frame = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3), dtype=np.uint8)
    model = onnx.load_from_string(graph)
    work = work_by_node(model)
    aliases = aliases_of(model)
    layers = set(aliases.values())
    peaks = measure_peaks(os.cpu_count() or 1)
    runtimes = {}
    for backend in ["openvino"] if arguments.quick else PROFILERS:
        times = PROFILERS[backend](graph, {"image": frame}, aliases)
        runtimes[backend] = _against_limit(times, work, layers, peaks, arguments.precision)
    best = max(runtimes.values(), key=lambda runtime: runtime["fraction_of_limit"])
    return {
        "machine": describe_machine(),
        "method": arguments.method,
        "precision": arguments.precision,
        "weights": "of the bundle" if arguments.bundle else "random",
        "slim": arguments.slim,
        "fraction_of_limit": best["fraction_of_limit"],
        "gmacs_of_convolutions": round(sum(work[layer].macs for layer in layers) / 1e9, 3),
        "gmacs": round(sum(one.macs for one in work.values()) / 1e9, 3),
        "megabytes": round(sum(one.bytes for one in work.values()) / 1e6, 1),
        "peaks": vars(peaks),
        "runtimes": runtimes,
    }


def _random(arguments: argparse.Namespace, folder: Path) -> Bundle:
    ranks = _ranks_of(arguments.method) if arguments.slim else None
    return bundle_of_method(folder / f"{arguments.method}.bundle", arguments.method, arguments.precision, ranks)


def _ranks_of(method: str) -> ChosenRanks:
    ranks = chosen_ranks(method)
    if not ranks:
        raise CalibrationError(
            f"No ranks are kept for {method}.",
            expected=RANKS_FILE,
            got="nothing about it",
            fix="name a bundle of yours that was calibrated with --slim: --bundle BUNDLE",
        )
    return ranks[0]


def _against_limit(
    times: list[LayerTime], work: dict[str, Work], layers: set[str], peaks: Peaks, precision: str
) -> dict[str, Any]:
    rows, elsewhere = [], 0.0
    for label, milliseconds, kernel in times:
        names = [name for name in label.split("+") if name in layers]
        if not names:
            elsewhere += milliseconds
            continue
        macs, moved = (sum(getattr(work[name], key) for name in names) for key in ("macs", "bytes"))
        at_peak = macs / peaks.gmacs[precision] / 1e6
        rows.append(
            {
                "layer": label,
                "kernel": kernel,
                "gmacs": round(macs / 1e9, 4),
                "ms": round(milliseconds, 3),
                "ms_at_peak": round(at_peak, 3),
                "ms_of_memory": round(moved / peaks.gigabytes / 1e6, 3),
                "fraction": round(at_peak / milliseconds, 3) if milliseconds else None,
            }
        )
    in_convolutions = sum(row["ms"] for row in rows)
    at_peak = sum(row["ms_at_peak"] for row in rows)
    return {
        "fraction_of_limit": round(at_peak / in_convolutions, 3) if in_convolutions else 0.0,
        "fraction_in_all": round(at_peak / (in_convolutions + elsewhere), 3) if rows else 0.0,
        "ms_in_convolutions": round(in_convolutions, 2),
        "ms_elsewhere": round(elsewhere, 2),
        "layers": sorted(rows, key=lambda row: -row["ms"]),
    }


def as_text(result: dict[str, Any]) -> str:
    """Markdown: the machine's peaks, then a table of layers for every runtime."""
    peaks, machine = result["peaks"], result["machine"]
    lines = [
        f"# How near {result['method']} comes to the limit",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {result['precision']}, "
        f"{result['weights']} weights{' in lower ranks (slim)' if result['slim'] else ''}: {result['gmacs']} GMAC, "
        f"{result['gmacs_of_convolutions']} of them convolutions.",
        "",
        "| precision | peak GMAC/s | reached by |",
        "| --- | --- | --- |",
        *(f"| {name} | {rate:g} | {peaks['reached_by'][name]} |" for name, rate in peaks["gmacs"].items()),
        "",
        f"Memory: {peaks['gigabytes']:g} GB/s read and written.",
    ]
    for name, runtime in result["runtimes"].items():
        lines += [
            "",
            f"## {name}",
            "",
            f"{runtime['fraction_of_limit']:.1%} of the limit over the convolutions, which take "
            f"{runtime['ms_in_convolutions']:g} ms; {runtime['fraction_in_all']:.1%} in all, with "
            f"{runtime['ms_elsewhere']:g} ms elsewhere.",
            "",
            "| layer | kernel | GMAC | ms | ms at peak | ms of memory | fraction |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in runtime["layers"]:
            cells = [row[key] for key in ("layer", "kernel", "gmacs", "ms", "ms_at_peak", "ms_of_memory", "fraction")]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
