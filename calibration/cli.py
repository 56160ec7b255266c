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

DESCRIPTION = """Make FP16, INT8 and FP8 graphs from real images of good parts, refit the threshold of every precision,
and say what each precision costs. As many convolutions as the budget allows are quantised; the table says which stayed
in higher precision and why. Use images that were not trained on where you can: the threshold rests on them. An
interrupted calibration goes on where it was."""

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
    parser.add_argument(
        "--test", type=Path, metavar="DATASET", help="labelled data set: AUROC of each precision, and of the budget"
    )
    parser.add_argument("--normal-class", metavar="NAME", help="the class of good parts (default: good)")
    parser.add_argument(
        "--precision",
        action="append",
        choices=("fp16", "int8", "fp8"),
        help="repeatable (default: fp16 and int8); fp8 is for GPUs of SM 8.9 and newer",
    )
    parser.add_argument(
        "--budget",
        type=_points,
        default=0.1,
        metavar="POINTS",
        help="percentage points of image AUROC that a precision may lose on --test (default: 0.1); without --test, "
        "worst score shift (0.75 spreads of normal scores) and rank correlation (0.98) on normal images and synthetic "
        "defects stand in for 0.1 points, in proportion for others",
    )
    parser.add_argument(
        "--slim",
        action="store_true",
        help="fewer multiplications before fewer bits: convolutions and differences of features get the lowest rank, "
        "and heads the fewest hidden units, that half the budget allows; float32 stays as published. Takes minutes",
    )
    parser.add_argument(
        "--false-reject-rate",
        type=float,
        default=0.01,
        metavar="RATE",
        help="share of good parts the threshold may reject (default: 0.01)",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write the report as a page, with each convolution's harm as a plot"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = 0.0
    if not 0 < points <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of percentage points above 0")
    return points


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
        normal_class=arguments.normal_class,
        precisions=tuple(dict.fromkeys(arguments.precision or ("fp16", "int8"))),
        budget=arguments.budget,
        slim=arguments.slim,
        false_reject_rate=arguments.false_reject_rate,
    )
    report = calibrate(Bundle(arguments.bundle), options)
    if arguments.page:
        from calibration.page import write_calibration_page

        write_calibration_page(arguments.page, arguments.bundle.name, report)
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
    for name, row in precisions.items():
        if "float_layers" in row:
            lines += ["", *_of_search(name, row)]
    return "\n".join(lines)


def _of_search(name: str, row: dict[str, Any]) -> list[str]:
    """What stayed in higher precision and why."""
    state = "keeps to" if row["within_limits"] else "MISSES"
    lines = [
        f"{name} {state} its budget of {row['budget']:g} points on {' and '.join(row['judged_on'])}: "
        f"uses {_used(row['budget_used'])} of it; everything in {name} would use {_used(row['plain']['used'])}"
    ]
    if "slim" in row:
        from calibration.report import slim_sentence

        lines.append(f"  {slim_sentence(row['slim'])}")
    for node, magnitude in row.get("overflowing", {}).items():
        lines.append(f"  float32: {node} (reaches {magnitude:.3g}; float16 ends at 65504)")
    kept = "float32" if name == "fp16" else "float16"
    for layer in row["float_layers"]:
        precision = "float32" if layer in row.get("in_float32", ()) else kept
        lines.append(
            f"  {precision}: {layer} (alone in {name}: score noise of {row['sensitivity'][layer]:.3f} spreads; "
            f"{row['work_share'][layer]:.1%} of the work)"
        )
    if not row["within_limits"]:
        lines.append("  deploy another precision, or give it a larger --budget")
    return lines


def _used(share: float) -> str:
    return f"{share:.0%}" if share < 10 else f"{share:.0f} times"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, run, and return the exit code: 0 good, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m calibration", description=DESCRIPTION)
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except EdgeAdError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
