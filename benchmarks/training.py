"""Training steps per second of EfficientAD, ours beside anomalib's with --peers.

A step is one image of 256 x 256, one recoloured and one for the pretraining penalty: forward, backward and Adam, on
random weights. Data loading is left out on both sides. Each contender has a process of its own and they take turns.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.peers.environment import peers_python
from benchmarks.speed.contenders import Contender
from benchmarks.speed.race import Rules, race
from edge_ad.report.machine import describe_machine

RULES = Rules(rounds=3, verdicts=4, cold_starts=1)
SIZES = {"efficientad-s": "small", "efficientad-m": "medium"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="efficientad-s", choices=tuple(SIZES), help="(default: efficientad-s)")
    parser.add_argument("--peers", action="store_true", help="with anomalib, which `make peers` installs")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """A row per contender, with steps per second."""
    contenders = [_ours(arguments.method, bf16=True), _ours(arguments.method, bf16=False)]
    contenders += [_peer(arguments.method)] if arguments.peers else []
    rows = race(contenders, (256, 256), RULES)
    return {
        "machine": describe_machine(),
        "command": f"python -m benchmarks training --method {arguments.method}{' --peers' * arguments.peers}",
        "method": arguments.method,
        "rules": vars(RULES),
        "contenders": [row | {"steps_per_s": round(1e3 / row["p50_ms"], 3)} for row in rows if "failure" not in row],
        "failures": {row["name"]: row["failure"] for row in rows if "failure" in row},
    }


def result_name(arguments: argparse.Namespace) -> str:
    return f"training-{arguments.method}"


def _ours(method: str, *, bf16: bool) -> Contender:
    return Contender(
        name=f"edge-ad {'bf16 where the hardware has it' if bf16 else 'float32'}",
        family="ours",
        opener="benchmarks.speed.openers:efficientad_step",
        arguments={"method": method, "bf16": bf16},
        packages=("torch", "numpy", "opencv-python-headless"),
    )


def _peer(method: str) -> Contender:
    return Contender(
        name="anomalib",
        family="peer",
        opener="benchmarks.peers.openers:efficientad_step",
        arguments={"size": SIZES[method]},
        packages=("anomalib", "torch", "torchvision"),
        python=peers_python(),
    )


def as_text(result: dict[str, Any]) -> str:
    """Markdown."""
    machine, rules = result["machine"], result["rules"]
    lines = [
        f"# Training steps of {result['method']}",
        "",
        f"`{result['command']}` on {machine['processor']}, {machine['cores']} cores, {machine['system']}. A step is "
        f"one image of 256 x 256 with the pretraining penalty; {rules['rounds']} turns of {rules['verdicts']} steps.",
        "",
        "| | steps per s | ms per step | of the quietest turn | peak MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in sorted(result["contenders"], key=lambda row: row["p50_ms"]):
        cells = (row["steps_per_s"], row["p50_ms"], row["quietest_p50_ms"], row["peak_mb"])
        lines.append(f"| {' | '.join([row['name'], *(f'{cell:g}' for cell in cells)])} |")
    lines += [f"\n{name} failed: {why.splitlines()[-1]}" for name, why in result["failures"].items()]
    return "\n".join(lines)
