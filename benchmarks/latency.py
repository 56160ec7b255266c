"""Latency of every way to a verdict, side by side: our backends and precisions, PyTorch, and with --peers others.

Each contender has a process of its own and they take turns. A verdict is timed from a frame in memory to its score.
Networks have their full size and random weights, unless --bundle names trained ones: speed does not depend on what was
learnt. "slim" has the ranks that `calibrate --slim` chose for a trained network. Peers come from `make peers`, and take
part where they have the method; ours then has the peers' backbone.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.environment import METHODS_OF_PEERS, peer_contenders
from benchmarks.speed import options_of
from benchmarks.speed.bars import bars
from benchmarks.speed.contenders import Contender, of_bundle, of_torch
from benchmarks.speed.race import Rules, race
from benchmarks.speed.slim import chosen_ranks, slim_graph
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleMismatch
from edge_ad.report.machine import describe_machine
from edge_ad.training.registry import METHODS

FULL = Rules()
QUICK = Rules(rounds=6, verdicts=10, cold_starts=2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="efficientad-s", choices=tuple(METHODS), help="(default: efficientad-s)")
    parser.add_argument("--bundle", nargs="+", type=Path, default=[], help="trained bundles, all of one camera size")
    parser.add_argument("--peers", action="store_true", help="with the peers that `make peers` installs")
    parser.add_argument("--quick", action="store_true", help="fewer contenders and turns: at most five minutes")


def result_name(arguments: argparse.Namespace) -> str:
    return f"latency-{arguments.method}{'-quick' if arguments.quick else ''}"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """A row per contender, and the ratios of the best of ours to the best peer, also without the slim ones."""
    rules = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory() as name:
        bundles = _bundles(arguments, Path(name))
        size = _common_size(list(bundles.values()))
        contenders = [*_ours(bundles, quick=arguments.quick), *_torch(arguments)]
        if arguments.peers:
            contenders += _peers(arguments)
        rows = race(contenders, size, rules)
    result = {
        "machine": describe_machine(),
        "command": _command(arguments),
        "method": arguments.method,
        "size": list(size),
        "rules": vars(rules),
        "weights": "of the bundles" if arguments.bundle else "random",
        "remarks": _remarks(arguments),
        "contenders": rows,
        **_ratios(rows),
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / f"{result_name(arguments)}.svg").write_text(bars(rows, _title(result)))
    return result


def _bundles(arguments: argparse.Namespace, folder: Path) -> dict[str, Bundle]:
    """By what tells them apart in a contender's name."""
    if arguments.bundle:
        alone = len(arguments.bundle) == 1
        return {"" if alone else path.name.removesuffix(".bundle"): Bundle(path) for path in arguments.bundle}
    from benchmarks.random_bundle import bundle_of_graph, drawn_frames, graph_of, random_network

    method = arguments.method
    network = random_network(method, **options_of(method))
    frames = drawn_frames(network.camera)
    graphs, left_out = {"": graph_of(network)}, {}
    for ranks in chosen_ranks(method)[: 1 if arguments.quick else None]:
        label = f"slim as on {ranks.data}" if "slim" in graphs else "slim"
        graphs[label], left_out[label] = slim_graph(graphs[""], ranks, frames[0]), ranks.left_out
    if not arguments.quick:
        graphs["plain"] = graph_of(network, exact_passes=False)
    return {
        label: bundle_of_graph(
            folder / f"{method}{label.replace(' ', '-')}.bundle",
            method,
            graph,
            frames,
            ("int8",) if " on " in label else ("fp32", "int8"),
            left_out.get(label, ()),
        )
        for label, graph in graphs.items()
    }


def _common_size(bundles: list[Bundle]) -> tuple[int, int]:
    sizes = {(bundle.manifest.input.height, bundle.manifest.input.width) for bundle in bundles}
    if len(sizes) > 1:
        raise BundleMismatch("The bundles take frames of different sizes.", expected="one size", got=sorted(sizes))
    return sizes.pop()


def _ours(bundles: dict[str, Bundle], *, quick: bool) -> list[Contender]:
    backends = [name for name in ("openvino", "onnxruntime") if importlib.util.find_spec(name)]
    return [
        of_bundle(str(bundle.path.resolve()), precision, backend, label)
        for label, bundle in bundles.items()
        for precision in bundle.manifest.precisions
        for backend in _backends(bundle, precision, backends)
        if precision == "int8" or not quick
    ]


def _backends(bundle: Bundle, precision: str, on_the_cpu: list[str]) -> list[str]:
    has_engine = any(engine.precision == precision for engine in bundle.manifest.engines)
    return [*(["tensorrt"] if has_engine else []), *on_the_cpu]


def _torch(arguments: argparse.Namespace) -> list[Contender]:
    """PyTorch knows the method, not the bundle; it needs a C++ compiler to compile."""
    if arguments.bundle:
        return []
    options = options_of(arguments.method)
    eager = of_torch(arguments.method, options, compiled=False)
    if arguments.quick or not shutil.which("c++"):
        return [eager]
    return [eager, of_torch(arguments.method, options, compiled=True)]


def _peers(arguments: argparse.Namespace) -> list[Contender]:
    if arguments.method not in METHODS_OF_PEERS:
        return []
    return peer_contenders(arguments.method, quick=arguments.quick)


def _remarks(arguments: argparse.Namespace) -> list[str]:
    remarks = []
    for ranks in [] if arguments.bundle else chosen_ranks(arguments.method)[:1]:
        floats = f", and in float32 the {len(ranks.left_out)} convolutions that INT8 left out there"
        remarks.append(
            f"Slim has random weights too, in the ranks that `{ranks.command}` chose on {ranks.data}"
            f"{floats if ranks.left_out else ''}; what that costs in accuracy is in "
            "benchmarks/results/accuracy-slim.md."
        )
    if arguments.peers and arguments.method not in METHODS_OF_PEERS:
        remarks.append(
            f"There is no peer: anomalib, which `make peers` installs, does not have {arguments.method}. Methods with "
            f"peers: {', '.join(METHODS_OF_PEERS)}."
        )
    return remarks


def _command(arguments: argparse.Namespace) -> str:
    words = [f"python -m benchmarks latency --method {arguments.method}"]
    words += ["--bundle BUNDLE"] if arguments.bundle else []
    words += ["--peers"] if arguments.peers else []
    words += ["--quick"] if arguments.quick else []
    return " ".join(words)


def _ratios(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The fastest of ours against the fastest peer; where some are slim, also without those, and by their ranks."""
    by_family: dict[str, list[dict[str, Any]]] = {family: [] for family in ("ours", "slim", "torch", "peer")}
    elsewhere: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        _, _, data = row["name"].partition(" slim as on ")
        if "failure" not in row and data:
            elsewhere.setdefault(data, []).append(row)
        elif "failure" not in row:
            by_family[row["family"]].append(row)
    found = _against(by_family["ours"] + by_family["slim"], by_family["peer"])
    if by_family["slim"]:
        found["without_slim"] = _against(by_family["ours"], by_family["peer"])
    found["slim_elsewhere"] = {data: _against(those, by_family["peer"]) for data, those in elsewhere.items()}
    return found


def _against(ours: list[dict[str, Any]], peers: list[dict[str, Any]]) -> dict[str, Any]:
    if not ours:
        return {}
    fastest = min(ours, key=lambda row: row["p50_ms"])
    found = {"fastest": fastest["name"]}
    if not peers:
        return found
    alone = [row for row in ours if "onnxruntime" in row["name"]]
    best = min(peers, key=lambda row: row["p50_ms"])
    found |= {"best_peer": best["name"]}
    found |= {"ratio_to_best_peer": round(best["p50_ms"] / fastest["p50_ms"], 2)}
    if alone:
        found |= {"ratio_of_onnxruntime_alone": round(best["p50_ms"] / min(row["p50_ms"] for row in alone), 2)}
    for key in ("cold_start_s", "peak_mb", "installed_mb"):
        found |= {f"{key}_of_best_peer": best[key], f"{key}_share_of_best_peer": round(fastest[key] / best[key], 3)}
    return found


def _title(result: dict[str, Any]) -> str:
    return (
        f"{result['method']}, {result['size'][0]} x {result['size'][1]}, one frame to its verdict on "
        f"{result['machine']['processor']}, {result['machine']['cores']} cores"
    )


def as_text(result: dict[str, Any]) -> str:
    """Markdown: a table of the contenders, and the ratios."""
    machine, rules = result["machine"], result["rules"]
    lines = [
        f"# Latency of {result['method']}",
        "",
        f"`{result['command']}` on {machine['processor']}, {machine['cores']} cores, {machine['system']}. "
        f"Frames of {result['size'][0]} x {result['size'][1]}, batch 1, {result['weights']} weights; "
        f"{rules['rounds']} turns of {rules['verdicts']} verdicts each, {rules['cold_starts']} cold starts.",
        "",
        *(line for remark in result["remarks"] for line in (remark, "")),
        "| | p50 ms | of the quietest turn | p99 ms | cold start s | peak MB | installed MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(result["contenders"], key=lambda row: row.get("p50_ms", float("inf"))):
        if "failure" in row:
            lines.append(f"| {row['name']} | failed: {row['failure'].splitlines()[-1]} | | | | | |")
            continue
        keys = ("p50_ms", "quietest_p50_ms", "p99_ms", "cold_start_s", "peak_mb", "installed_mb")
        cells = [f"{row[key]:g}" for key in keys]
        lines.append(f"| {' | '.join([row['name'], *cells])} |")
    lines += _ratio_lines(result)
    for data, ratios in result["slim_elsewhere"].items():
        lines += ["", f"## In the ranks chosen on {data}", *_ratio_lines(ratios)]
    if "without_slim" in result:
        lines += ["", "## Without the slim ones", *_ratio_lines(result["without_slim"])]
    return "\n".join(lines)


def _ratio_lines(ratios: dict[str, Any]) -> list[str]:
    lines = ["", f"Fastest of ours: {ratios['fastest']}."] if "fastest" in ratios else []
    for key in ("ratio_to_best_peer", "ratio_of_onnxruntime_alone"):
        if key in ratios:
            lines += ["", f"{key.replace('_', ' ').capitalize()}: {ratios[key]:g} ({ratios['best_peer']})."]
    for key in ("cold_start_s", "peak_mb", "installed_mb"):
        share = f"{key}_share_of_best_peer"
        if share in ratios:
            lines += ["", f"{share.replace('_', ' ').capitalize()}: {ratios[share]:g}."]
    return lines
