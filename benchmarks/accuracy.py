"""Accuracy of every method and precision on data sets of images with labels.

Each data set is trained on (or a finished run in RUNS is taken as it is), exported, calibrated to FP16 and INT8, and
every precision is judged in ONNX Runtime on the CPU. Thresholds come from normal images that were not trained on
where there are at least ten. AUROC figures do not depend on the threshold; false rejects and misses do.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edge_ad.report.machine import describe_machine

DATASETS = ("metal_nut", "cookie", "juice_bottle")
FIGURES = ("image_auroc", "image_f1max", "pixel_auroc", "aupro", "false_rejects", "missed_defects")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    parser.add_argument("--backbone", default="resnet18", help="of SimpleNet (default: resnet18)")
    parser.add_argument("--weights", type=Path, help="the backbone's checkpoint; pdn-s needs none")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs and bundles, METHOD-DATASET")
    parser.add_argument("--dataset", action="append", help=f"repeatable (default: {', '.join(DATASETS)})")
    parser.add_argument("--method", action="append", choices=("simplenet", "efficientad-s"), help="repeatable")
    parser.add_argument("--penalty-images", type=Path, help="natural images, for EfficientAD")
    parser.add_argument("--steps", type=int, default=1100, help="of EfficientAD (default: 1100; the paper: 70000)")
    parser.add_argument("--learning-rate", type=float, default=4e-4, help="of EfficientAD (default: 4e-4)")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One row per method, data set and precision."""
    rows = []
    for method in arguments.method or ("simplenet", "efficientad-s"):
        for dataset in arguments.dataset or DATASETS:
            rows += _rows(method, dataset, arguments)
    return {"machine": describe_machine(), "rows": rows}


def _rows(method: str, dataset: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from calibration import CalibrationOptions, calibrate
    from edge_ad.training.export import export
    from edge_ad.training.run import read_run

    folder = arguments.data / dataset
    run = arguments.runs / f"{method}-{dataset}"
    if not (run / "run.json").exists():
        _train(method, folder, run, arguments)
    record, options = read_run(run)
    bundle = export(run, arguments.runs / f"{method}-{dataset}.bundle", force=True)
    report = calibrate(bundle, CalibrationOptions(images=folder, test=folder))
    shared = {
        "method": method,
        "dataset": dataset,
        "backbone": options.get("backbone", "pdn-s"),
        "steps": options["steps"],
        "training_images": len(record.training_hashes),
        "training_seconds": record.seconds,
        "threshold_images": report["threshold_images"],
    }
    return [
        {
            **shared,
            "precision": precision,
            **{figure: report[precision][figure] for figure in FIGURES},
            "score_shift_mean": report[precision]["score_shift_mean"],
            "map_correlation": report[precision]["map_correlation"],
            "float_layers": len(report[precision].get("float_layers", ())),
        }
        for precision in ("fp32", "fp16", "int8")
    ]


def _train(method: str, folder: Path, run: Path, arguments: argparse.Namespace) -> None:
    from edge_ad.methods.efficientad import EfficientAdOptions
    from edge_ad.methods.simplenet import SimpleNetOptions
    from edge_ad.training.train import train

    if method == "simplenet":
        train(method, folder, run, SimpleNetOptions(backbone=arguments.backbone, weights=arguments.weights))
    else:
        options = EfficientAdOptions(
            steps=arguments.steps, learning_rate=arguments.learning_rate, penalty_images=arguments.penalty_images
        )
        train(method, folder, run, options)


def as_text(result: dict[str, Any]) -> str:
    """A Markdown table."""
    lines = [
        "| method | data set | precision | image AUROC | F1-max | pixel AUROC | AUPRO | false rejects | missed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        figures = [_shown(row[figure]) for figure in FIGURES]
        lines.append(f"| {row['method']} | {row['dataset']} | {row['precision']} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _shown(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4f}"
