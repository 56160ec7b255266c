"""What the algebra on graphs saves and costs: as written, after the exact passes, and with lower ranks.

Each RUN is exported for its own camera in every form. All forms see every test image of its DATA in turn, on one
thread. Lower ranks are fitted to normal images, each beside itself with a synthetic defect: first of the differences
of features (EfficientAD), where RANKS are those of teacher and student, and the autoencoder's difference gets the
smallest that misses no more; then, beginning with the lowest of those, of convolutions, which may lose MISSED of their
responses' variance.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_ad.progress import Progress
from edge_ad.report.machine import describe_machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto

    from edge_ad.training.dataset import Dataset

    Forms = dict[str, tuple[ModelProto, dict[str, int]]]  # by name: a graph, and the rank of what was lowered in it

RANKS = (128, 64, 32)
MISSED = (0.0003, 0.001, 0.003)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run",
        type=Path,
        nargs=2,
        action="append",
        required=True,
        metavar=("RUN", "DATA"),
        help="a finished training and the data set to judge it on; may be given several times",
    )
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS, metavar="RANK", help="(default: %(default)s)")
    parser.add_argument(
        "--missed", type=float, nargs="+", default=MISSED, metavar="SHARE", help="(default: %(default)s)"
    )
    parser.add_argument("--parts", type=int, default=32, help="normal images to fit sketches to (default: %(default)s)")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """For each run a row per form of its graph."""
    return {
        "machine": describe_machine(),
        "parts": arguments.parts,
        "runs": [_of_run(run, data, arguments) for run, data in arguments.run],
    }


def _of_run(run: Path, data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    import onnx

    from edge_ad.algebra import optimise
    from edge_ad.methods.graph import InspectionGraph
    from edge_ad.training.dataset import open_dataset
    from edge_ad.training.export import onnx_from_graph
    from edge_ad.training.train import load_run

    network, record, options = load_run(run)
    dataset = open_dataset(data)
    graph = InspectionGraph(network, record.camera, options["image_size"]).eval()
    written = onnx.load_model_from_string(onnx_from_graph(graph))
    exact, passes = optimise(written)
    forms: Forms = {"as written": (written, {}), "exact passes": (exact, {})}
    frames = _seen(dataset, arguments.parts)
    forms |= _of_differences(exact, frames, arguments.ranks)
    name, (lowest, _) = list(forms.items())[-1]
    forms |= _of_convolutions(name, lowest, frames, arguments.missed)
    return {
        "run": run.name,
        "method": record.method,
        "dataset": dataset.name,
        "camera": record.camera,
        "test_good": sum(not item.is_defective for item in dataset.test),
        "test_defective": sum(item.is_defective for item in dataset.test),
        "passes": {row.name: row.macs_before - row.macs_after for row in passes if row.applied},
        "rows": _judged(forms, dataset),
    }


def _seen(dataset: Dataset, parts: int) -> list[Any]:
    from calibration.observe import with_defects

    normal = [*dataset.train, *dataset.validation]
    chosen = [normal[index * len(normal) // parts] for index in range(min(parts, len(normal)))]
    return list(with_defects(chosen, seed=0))


def _of_differences(exact: ModelProto, frames: list[Any], ranks: Sequence[int]) -> Forms:
    from edge_ad.algebra.reduce_rank import reduce_rank, sample_differences
    from edge_ad.algebra.sketch import RANKS as LADDER
    from edge_ad.algebra.sketch import fit_sketches, smallest_within

    differences = sample_differences(exact, frames)
    if not differences:
        return {}
    sketches = fit_sketches(differences, tuple({*LADDER, *ranks}))
    forms: Forms = {}
    first = next(iter(sketches))
    for rank in sorted(ranks, reverse=True):
        sketch = next(one for one in sketches[first] if one.rank == rank)
        chosen = smallest_within(sketches, sketch.error) | {first: sketch}
        model = _copy(exact)
        reduce_rank(model, chosen)
        forms[f"differences of rank {rank}"] = (model, {name: one.rank for name, one in chosen.items()})
    return forms


def _of_convolutions(base: str, lowest: ModelProto, frames: list[Any], missed: Sequence[float]) -> Forms:
    from edge_ad.algebra.low_rank import find_subspaces, lower_ranks

    subspaces = find_subspaces(lowest, frames)
    forms: Forms = {}
    for share in sorted(missed):
        model = _copy(lowest)
        forms[f"{base}, convolutions missing {share:.2%}"] = (model, lower_ranks(model, subspaces, share))
    return forms


def _copy(model: ModelProto) -> ModelProto:
    from onnx import ModelProto

    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _judged(forms: Forms, dataset: Dataset) -> list[dict[str, Any]]:
    from edge_ad.algebra import total_macs
    from edge_ad.backends.onnxruntime import OUTPUTS, open_session
    from edge_ad.frame import read_image
    from edge_ad.training.intervals import image_intervals
    from edge_ad.training.metrics import image_metrics

    sessions = {name: open_session(model.SerializeToString(), name, threads=1) for name, (model, _) in forms.items()}
    scores: dict[str, list[float]] = {name: [] for name in forms}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    correlations: dict[str, list[float]] = {name: [] for name in forms}
    with Progress(dataset.name, len(dataset.test)) as progress:
        for item in dataset.test:
            image, reference = read_image(item.path)[None], np.empty(0)
            for name, session in sessions.items():
                start = time.thread_time()
                anomaly_map, score = session.run(OUTPUTS, {"image": image})
                seconds[name].append(time.thread_time() - start)
                reference = anomaly_map if name == "as written" else reference
                scores[name].append(float(score[0]))
                correlations[name].append(float(np.corrcoef(anomaly_map.ravel(), reference.ravel())[0, 1]))
            progress.step()
    defective = np.array([item.is_defective for item in dataset.test])
    wanted = np.array(scores["as written"])
    rows = []
    for name, (model, ranks) in forms.items():
        shifts = np.abs(np.array(scores[name]) - wanted) / wanted[~defective].std()
        rows.append(
            {
                "form": name,
                "ranks": ranks,
                "gmacs": total_macs(model) / 1e9,
                "ms": 1e3 * float(np.median(seconds[name])),
                "image_auroc": image_metrics(scores[name], defective).image_auroc,
                "image_auroc_interval": image_intervals(scores[name], defective)["image_auroc"],
                "score_shift_mean": float(shifts.mean()),
                "score_shift": float(shifts.max()),
                "map_correlation_mean": float(np.mean(correlations[name])),
                "map_correlation": float(min(correlations[name])),
            }
        )
    return rows


def as_text(result: dict[str, Any]) -> str:
    """A Markdown table for each run."""
    lines = [
        "Shifts of scores are in standard deviations of the good test images' scores. Times are CPU milliseconds of "
        "one frame on one thread, float32 in ONNX Runtime: medians over the test images, forms interleaved.",
    ]
    for run in result["runs"]:
        height, width = run["camera"]
        lines += [
            "",
            f"## {run['method']} on {run['dataset']}",
            "",
            f"{height} x {width} frames, {run['test_good']} good and {run['test_defective']} defective images.",
            "",
            "| form | lowered | GMAC | ms | of as written | image AUROC | score shift, mean | largest "
            "| map correlation, mean | lowest |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in run["rows"]:
            low, high = row["image_auroc_interval"]
            lines.append(
                f"| {row['form']} | {len(row['ranks']) or '-'} | {row['gmacs']:.2f} | {row['ms']:.1f} "
                f"| {row['ms'] / run['rows'][0]['ms']:.3f} | {row['image_auroc']:.4f} [{low:.3f}, {high:.3f}] "
                f"| {row['score_shift_mean']:.3f} | {row['score_shift']:.2f} "
                f"| {row['map_correlation_mean']:.4f} | {row['map_correlation']:.4f} |"
            )
    return "\n".join(lines)
