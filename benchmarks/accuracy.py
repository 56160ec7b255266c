"""Accuracy of every method and precision on data sets of images with labels, as `edge-ad compare` measures it.

Finished runs in RUNS, named METHOD-DATASET, are taken as they are; what is missing is trained, or left out with
--trained-only. Thresholds come from normal images that were not trained on where there are at least ten.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.plots import draw_accuracy
from benchmarks.regions import draw_region
from edge_ad.compare.cli import add_choices
from edge_ad.compare.contenders import Contender, chosen_methods, contenders, option_names, parse_settings
from edge_ad.compare.page import write_comparison
from edge_ad.compare.run import compare
from edge_ad.compare.text import LEGEND, table_cells
from edge_ad.frame import read_image
from edge_ad.report.machine import describe_machine
from edge_ad.training.dataset import open_dataset
from edge_ad.training.export import OF_PLACES

DATASETS = ("metal_nut", "cookie", "juice_bottle")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of runs, bundles and measurements")
    parser.add_argument("--datasets", nargs="+", default=DATASETS, help=f"(default: {' '.join(DATASETS)})")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="ResNet-18, for methods that take a backbone")
    parser.add_argument("--trained-only", action="store_true", help="leave out what has no finished run")
    parser.add_argument(
        "--region", action="store_true", help=f"look at the part alone ({', '.join(OF_PLACES)}); RUNS of its own"
    )
    parser.add_argument("--pages", type=Path, metavar="FOLDER", help="write the page of every data set as well")
    add_choices(parser)


def result_name(arguments: argparse.Namespace) -> str:
    return "accuracy" + "-slim" * arguments.slim + "-region" * arguments.region


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rows and failures by data set."""
    methods = [name for name in chosen_methods(arguments.methods) if not arguments.region or name in OF_PLACES]
    texts = [*_backbones(methods, arguments.weights), *arguments.settings]
    settings = parse_settings(texts, methods, arguments.steps)
    found = {}
    for dataset in arguments.datasets:
        chosen = _contenders(methods, settings, f"-{dataset}", arguments)
        if not chosen:
            continue
        found[dataset] = compare(
            arguments.data / dataset,
            chosen,
            fp16=arguments.fp16,
            budget=arguments.budget,
            slim=arguments.slim,
            region=_region(arguments, dataset),
        )
        if arguments.pages:
            write_comparison(arguments.pages / f"{dataset}.html", found[dataset])
    result = {
        "machine": describe_machine(),
        "command": _command(arguments),
        "datasets": {
            name: {"rows": one.rows, "failures": one.failures, "facts": one.facts} for name, one in found.items()
        },
    }
    draw_accuracy(arguments.results / f"{result_name(arguments)}.svg", result["datasets"])
    return result


def _backbones(methods: Sequence[str], weights: Path | None) -> list[str]:
    """The settings that give ResNet-18 to every method that takes a backbone."""
    taking = [name for name in methods if {"backbone", "weights"} <= option_names(name)] if weights else []
    return [f"{name}.{setting}" for name in taking for setting in ("backbone=resnet18", f"weights={weights}")]


def _contenders(
    methods: Sequence[str], settings: dict[str, dict[str, Any]], suffix: str, arguments: argparse.Namespace
) -> list[Contender]:
    """Finished runs as they are, whatever the settings of those that are still to be trained."""
    every = contenders(methods, arguments.runs, settings, suffix)
    finished = {one.method for one in every if (one.run / "run.json").exists()}
    if arguments.trained_only:
        every = [one for one in every if one.method in finished]
    return [dataclasses.replace(one, settings={}) if one.method in finished else one for one in every]


def _region(arguments: argparse.Namespace, dataset: str) -> Path | None:
    if not arguments.region:
        return None
    size = read_image(open_dataset(arguments.data / dataset).train[0]).shape[:2]
    return draw_region(dataset, size, arguments.runs / f"region-{dataset}.png")


def _command(arguments: argparse.Namespace) -> str:
    """As it was typed, with names in place of this machine's folders."""
    words = ["python -m benchmarks accuracy --data DATA --runs RUNS"]
    words += ["--weights RESNET18"] if arguments.weights else []
    words += ["--trained-only"] if arguments.trained_only else []
    words += [f"--budget {arguments.budget:g}"] if arguments.budget else []
    words += ["--slim"] if arguments.slim else []
    words += ["--region"] if arguments.region else []
    words += ["--fp16"] if arguments.fp16 else []
    words += [f"--datasets {' '.join(arguments.datasets)}"] if tuple(arguments.datasets) != DATASETS else []
    words += [f"--methods {' '.join(arguments.methods)}"] if arguments.methods != ["all"] else []
    words += [f"--steps {arguments.steps}"] if arguments.steps else []
    return " ".join(words)


def as_text(result: dict[str, Any]) -> str:
    """Markdown: a table per data set."""
    machine = result["machine"]
    lines = [
        "# Accuracy",
        "",
        f"`{result['command']}` on {machine['processor']}, {machine['cores']} cores, {machine['system']}, ONNX Runtime "
        f"{machine['onnxruntime']}. `python -m benchmarks --help` says more; the JSON beside this has every figure.",
        "",
        LEGEND,
    ]
    for dataset, found in result["datasets"].items():
        lines += ["", f"## {dataset}", ""]
        if found["rows"]:
            lines += [f"{found['facts']['Data']}. Thresholds: {found['facts']['Thresholds']}."]
            heads, *rows = table_cells(found["rows"])
            lines += ["", _line(heads), _line(["---"] * len(heads)), *map(_line, rows)]
        for failure in found["failures"]:
            lines += ["", f"{failure.method} failed: {failure.error.partition(chr(10))[0]}"]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
