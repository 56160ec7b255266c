"""The command line of calibration, also `edge-ad calibrate`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_ad.errors import EdgeAdError

__all__ = ["add_arguments", "main", "run"]

DESCRIPTION = """Make FP16 and INT8 graphs from real images of good parts, refit the threshold of every precision, and
say what each precision costs. Use images that were not trained on where you can: the threshold rests on them."""

_COLUMNS = (
    ("threshold", "threshold", "{:.4g}"),
    ("score_shift", "worst score shift", "{:.3f}"),
    ("map_error", "map error", "{:.2e}"),
    ("map_correlation", "map corr.", "{:.4f}"),
    ("image_auroc", "image AUROC", "{:.4f}"),
    ("pixel_auroc", "pixel AUROC", "{:.4f}"),
    ("latency_ms", "CPU ms", "{:.1f}"),
    ("bytes", "bytes", "{:,}"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `run` reads."""
    parser.add_argument("bundle", type=Path, help="bundle directory; the graphs are written into it")
    parser.add_argument(
        "--images", type=Path, required=True, help="folder of good parts at the camera's size, at least 10 images"
    )
    parser.add_argument("--test", type=Path, metavar="DATASET", help="labelled data set: AUROC of each precision")
    parser.add_argument(
        "--precision", action="append", choices=("fp16", "int8"), help="repeatable (default: fp16 and int8)"
    )
    parser.add_argument(
        "--false-reject-rate",
        type=float,
        default=0.01,
        metavar="RATE",
        help="share of good parts the threshold may reject (default: 0.01)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say, print the result on standard output, and return the exit code.

    Raises:
        EdgeAdError: The caller prints it and exits with 1.
    """
    from calibration.flow import CalibrationOptions, calibrate
    from edge_ad.bundle import Bundle

    options = CalibrationOptions(
        images=arguments.images,
        test=arguments.test,
        precisions=tuple(arguments.precision or ("fp16", "int8")),
        false_reject_rate=arguments.false_reject_rate,
    )
    report = calibrate(Bundle(arguments.bundle), options)
    print(json.dumps(report, indent=2) if arguments.json else _as_table(report))
    return 0


def _as_table(report: dict[str, Any]) -> str:
    precisions = {name: row for name, row in report.items() if isinstance(row, dict)}
    columns = [column for column in _COLUMNS if any(row.get(column[0]) is not None for row in precisions.values())]
    rows = [["precision", *(title for _, title, _ in columns)]]
    for name, row in precisions.items():
        rows.append([name, *(shown.format(row[key]) if row.get(key) is not None else "-" for key, _, shown in columns)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.append(f"thresholds from {report['threshold_images']}")
    if "float_layers" in report.get("int8", {}):
        lines.append(_of_int8(report["int8"]))
    return "\n".join(lines)


def _of_int8(row: dict[str, Any]) -> str:
    kept = ", ".join(row["float_layers"]) or "none"
    if row["within_limits"]:
        return f"int8 keeps to its limits; convolutions left in float32: {kept}"
    return f"WARNING: int8 misses its limits even with these convolutions in float32: {kept}; deploy fp16 or fp32"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, run, and return the exit code: 0 good, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m calibration", description=DESCRIPTION)
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except EdgeAdError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
