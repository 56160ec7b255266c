"""The papers' main tables, made again from the data and the weights at hand, beside what the papers report.

DATA is searched for MVTec AD, MVTec LOCO, VisA and KSDD2, whole or in part. Finished runs in RUNS, named
METHOD-CATEGORY or METHOD-VARIANT-CATEGORY, are taken as they are; what is missing is trained with the paper's
settings, or left out with --trained-only. Every run is exported, and its graph judged in ONNX Runtime as a station
runs it. Beside every figure stands how it came about otherwise than the paper's.
"""

from __future__ import annotations

import argparse
import json
import math
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # python benchmarks/paper_tables.py is python -m benchmarks paper-tables
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.argv[:1] = [sys.argv[0], "paper-tables"]
    runpy.run_module("benchmarks", run_name="__main__")

from benchmarks.papers import DATASETS, FACTS, RECIPES, Fact, Recipe
from edge_ad import __version__
from edge_ad.errors import DatasetLayoutError, EdgeAdError
from edge_ad.report.machine import describe_machine
from edge_ad.training.registry import METHODS

if TYPE_CHECKING:
    from edge_ad.training.dataset import Dataset

BY_TYPE = "image_auroc_by_type"
NAMES = {
    "image_auroc": "image AUROC",
    BY_TYPE: "image AUROC, mean over the types of anomaly",
    "image_average_precision": "image AP",
    "pixel_auroc": "pixel AUROC",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, required=True, metavar="DATA", help="folder of data sets, or one of them")
    parser.add_argument("--runs", type=Path, required=True, help="folder of runs and measurements")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS), help="(default: all)")
    parser.add_argument("--trained-only", action="store_true", help="leave out what has no finished run")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="checkpoint of the backbone; never downloaded")
    parser.add_argument("--backbone", metavar="NAME", help="what the weights are of, where not the paper's")
    parser.add_argument("--penalty-images", type=Path, metavar="FOLDER", help="natural images, for EfficientAD")
    parser.add_argument("--steps", type=int, help="of every training, where not as many as the paper's")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One table per fact whose method and data set are at hand; what is not there is listed.

    Raises:
        DatasetLayoutError: There is no data set of any paper.
    """
    found = discover(arguments.root)
    if not found:
        raise DatasetLayoutError(
            f"{arguments.root} holds no data set of the papers.",
            expected="folders of their categories: "
            + "; ".join(f"{one.name}: {one.shown}" for one in DATASETS.values()),
            got=", ".join(sorted(path.name for path in arguments.root.glob("*/"))) or "no folders",
        )
    judged: dict[tuple[str, str], dict[str, Any]] = {}
    tables = []
    for fact in FACTS:
        if fact.method not in arguments.methods or fact.dataset not in found:
            continue
        rows = []
        for category, folder in found[fact.dataset].items():
            if (fact.recipe, category) not in judged:
                judged[fact.recipe, category] = _judged(fact.recipe, fact.dataset, category, folder, arguments)
            rows.append(_row(fact.metric, category, judged[fact.recipe, category]))
        tables.append(table(fact, rows))
    return {
        "machine": describe_machine(),
        "tables": tables,
        "foreign": sorted(
            folder.name
            for folder in arguments.root.glob("*/")
            if (folder / "train").is_dir() and not any(folder in categories.values() for categories in found.values())
        ),
        "absent": [one.name for name, one in DATASETS.items() if name not in found],
        "untrained": sorted(set(METHODS) - {fact.method for fact in FACTS}),
    }


def discover(root: Path) -> dict[str, dict[str, Path]]:
    """The folders of categories in and below `root` (two levels at most), by data set and category."""
    found: dict[str, dict[str, Path]] = {}
    for folder in (root, *sorted(root.glob("*/")), *sorted(root.glob("*/*/"))):
        for name, dataset in DATASETS.items():
            category = next(
                (one for one in dataset.sizes if folder.resolve().name.lower() in (one, *dataset.aliases)), None
            )
            if category and any((folder / part).is_dir() for part in ("train", "Data")):
                found.setdefault(name, {}).setdefault(category, folder)
    return {
        name: {category: found[name][category] for category in dataset.sizes if category in found[name]}
        for name, dataset in DATASETS.items()
        if name in found
    }


def _judged(recipe: str, dataset: str, category: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The evaluation of a run and its caveats; or why there is none."""
    from edge_ad.compare.contenders import Contender
    from edge_ad.compare.deploy import finished_run
    from edge_ad.training.dataset import open_dataset
    from edge_ad.training.run import read_run

    how, run = RECIPES[recipe], arguments.runs / f"{recipe}-{category}"
    settings: dict[str, Any] = {}
    try:
        data = open_dataset(folder)
        if not (run / "run.json").exists():
            if arguments.trained_only:
                return {"error": "no finished run"}
            settings = training_settings(how, arguments, len(data.train))
        finished_run(Contender(method=how.method, run=run, settings=settings), data)
        evaluation = _evaluated(run, data)
    except EdgeAdError as error:
        return {"error": f"{type(error).__name__}: {error.what}"}
    images = (len(data.train), len(data.test))
    return {**evaluation, "caveats": [*caveats(how, read_run(run)[1], images[0]), *_partial(dataset, category, images)]}


def _evaluated(run: Path, data: Dataset) -> dict[str, Any]:
    """Of the run's graph on the test images, or remembered of the same graph and the same images."""
    from edge_ad.compare.memory import fingerprint, remembered
    from edge_ad.inspector import Inspector
    from edge_ad.training.evaluate import evaluate
    from edge_ad.training.export import export

    with tempfile.TemporaryDirectory() as folder:
        bundle = export(run, Path(folder) / "bundle")
        made_from = {
            "edge_ad": __version__,
            "graph": bundle.manifest.files[bundle.precision("fp32").graph],
            "data": fingerprint([(one.path, one.defect, one.masks or ()) for one in data.test]),
        }

        def make() -> dict[str, Any]:
            with Inspector(bundle, precision="fp32", backend="onnxruntime") as inspector:
                evaluation = evaluate(inspector.answer, data, inspector.size, run.name)
            types = {name: one.image_auroc for name, one in evaluation.per_defect.items()}
            defined = [value for value in types.values() if value is not None]
            figures = {name: getattr(evaluation, name) for name in NAMES if name != BY_TYPE}
            intervals = dict(evaluation.intervals)
            if len(types) == 1 and defined:
                intervals[BY_TYPE] = intervals["image_auroc"]
            figures[BY_TYPE] = fmean(defined) if defined else None
            return {"figures": figures, "intervals": intervals, "types": sorted(types)}

        outcome: dict[str, Any] = remembered(run.with_name(f"{run.name}.paper.json"), made_from, make)
        return outcome


def training_settings(recipe: Recipe, arguments: argparse.Namespace, images: int) -> dict[str, Any]:
    """The paper's settings, and what the command line says, of the options that the method has.

    Args:
        images: Of good parts to train on; a tenth of them is held out.
    """
    typed = {name: getattr(arguments, name) for name in ("weights", "backbone", "penalty_images", "steps")}
    asked = {
        **recipe.settings,
        **({"steps": paper_steps(recipe, images)} if recipe.epochs else {}),
        **{name: value for name, value in typed.items() if value is not None},
    }
    has = METHODS[recipe.method].load().options.__dataclass_fields__
    return {name: value for name, value in asked.items() if name in has}


def paper_steps(recipe: Recipe, images: int) -> int:
    """Steps of as many epochs as the paper trains."""
    return math.ceil(recipe.epochs * images / recipe.images_a_step)


def caveats(recipe: Recipe, options: dict[str, Any], images: int) -> list[str]:
    """How a run's options are not the paper's, then what no option makes the paper's."""
    asked = {**recipe.settings, **({"steps": paper_steps(recipe, images)} if recipe.epochs else {})}
    paper = json.loads(json.dumps(asked))
    differing = [
        f"{name.replace('_', ' ')} {_said(options[name])} instead of {_said(value)}"
        for name, value in paper.items()
        if name in options and options[name] != value
    ]
    return [*differing, *recipe.unlike]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _partial(dataset: str, category: str, sizes: tuple[int, int]) -> Iterator[str]:
    whole = DATASETS[dataset].sizes[category]
    if sizes != whole:
        yield f"{category} has {sizes[0]} of {whole[0]} training and {sizes[1]} of {whole[1]} test images"


def _row(metric: str, category: str, judged: dict[str, Any]) -> dict[str, Any]:
    """Figures in per cent."""
    row: dict[str, Any] = {"category": category, "value": None, "interval": None, "caveats": [], "why_not": None}
    if "error" in judged:
        return row | {"why_not": judged["error"]}
    row["caveats"] = list(judged["caveats"])
    value = judged["figures"][metric]
    if value is None:
        return row | {"why_not": "the test images have no masks" if metric == "pixel_auroc" else "one class only"}
    if metric == BY_TYPE and len(judged["types"]) == 1:
        row["caveats"].append(f"{category} has {judged['types'][0].replace('_', ' ')} only")
    interval = judged["intervals"].get(metric)
    return row | {"value": 100 * value, "interval": [100 * end for end in interval] if interval else None}


def table(fact: Fact, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A fact beside the mean of what was measured, with every caveat once."""
    values = [row["value"] for row in rows if row["value"] is not None]
    mean = fmean(values) if values else None
    dataset = DATASETS[fact.dataset]
    have = {row["category"] for row in rows if row["value"] is not None}
    missing = [category for category in dataset.sizes if category not in have]
    return {
        "method": fact.method,
        "variant": RECIPES[fact.recipe].variant,
        "dataset": dataset.name,
        "metric": NAMES[fact.metric],
        "source": fact.source,
        "paper": fact.value,
        "mean": mean,
        "difference": None if mean is None else mean - fact.value,
        "categories": len(values),
        "of": len(dataset.sizes),
        "missing": missing,
        "rows": rows,
        "caveats": list(dict.fromkeys(caveat for row in rows for caveat in row["caveats"])),
    }


def as_text(result: dict[str, Any]) -> str:
    """Markdown: every fact with its difference and its caveats, then the categories."""
    machine = result["machine"]
    lines = [
        "# The papers' tables",
        "",
        f"Float32 graphs in ONNX Runtime {machine['onnxruntime']} on {machine['processor']}. Per cent; a mean is over "
        "the categories at hand, the paper's over all. Intervals are of 95 %, by bootstrap over the test images.",
        "",
        "| method | data set | metric | categories | here | paper | difference | otherwise than the paper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        _line(
            _title(one),
            one["dataset"],
            one["metric"],
            f"{one['categories']} of {one['of']}",
            _number(one["mean"]),
            _number(one["paper"]),
            _number(one["difference"], sign="+"),
            "; ".join(one["caveats"]) or "-",
        )
        for one in result["tables"]
    ]
    if result["absent"]:
        lines += ["", f"Not at hand: {', '.join(result['absent'])}."]
    if result["foreign"]:
        lines += ["", f"In no table of these papers: {', '.join(result['foreign'])}."]
    if result["untrained"]:
        lines += ["", f"No figure of a paper is known here for: {', '.join(result['untrained'])}."]
    for one in result["tables"]:
        lines += ["", *_section(one)]
    return "\n".join(lines)


def _section(one: dict[str, Any]) -> Iterator[str]:
    yield f"## {_title(one)}, {one['dataset']}, {one['metric']}"
    yield ""
    yield f"Paper: {one['paper']:.1f} ({one['source']})."
    measured = [row for row in one["rows"] if row["value"] is not None]
    if measured:
        yield ""
        yield "| category | here | interval |"
        yield "|---|---|---|"
        for row in measured:
            ends = row["interval"]
            yield _line(row["category"], _number(row["value"]), f"{ends[0]:.1f} to {ends[1]:.1f}" if ends else "-")
        yield _line(
            f"mean of {one['categories']}", _number(one["mean"]), f"paper {_number(one['difference'], sign='+')}"
        )
    for row in one["rows"]:
        if row["why_not"]:
            yield f"\nNo figure of {row['category']}: {row['why_not']}."
    if one["missing"]:
        yield f"\nMissing of {one['of']} categories: {', '.join(one['missing'])}."


def _title(one: dict[str, Any]) -> str:
    return f"{one['method']} ({one['variant']})" if one["variant"] else one["method"]


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1f}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
