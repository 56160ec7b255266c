"""`edge-ad compare DATASET --methods METHOD ... -o REPORT`: methods side by side on one page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edge_ad.training.registry import METHODS

__all__ = ["add_arguments", "add_choices", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `run` reads."""
    parser.add_argument("dataset", type=Path, help="data set with good and defective test images")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="REPORT", help="HTML page to write")
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="FOLDER",
        help="runs, bundles and measurements, named after their methods; finished ones are taken as they are "
        "(default: REPORT's name with _runs)",
    )
    parser.add_argument("--normal-class", metavar="NAME", help="the class of good parts (default: good)")
    parser.add_argument(
        "--region",
        type=Path,
        metavar="IMAGE",
        help="the region of interest, as edge-ad export takes it; methods whose score describes the whole image fail",
    )
    add_choices(parser)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Declare what is compared, and how it is trained."""
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["all"],
        choices=[*METHODS, "all"],
        metavar="METHOD",
        help=f"{', '.join(METHODS)}, or all (default: all)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="METHOD.OPTION=VALUE",
        help="an option of a method, repeatable; edge-ad train METHOD --help shows them",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="of every method that trains in steps: a quick look")
    parser.add_argument("--fp16", action="store_true", help="judge FP16 as well as float32 and INT8")
    parser.add_argument(
        "--budget",
        type=float,
        metavar="POINTS",
        help="percentage points of image AUROC that INT8 may lose, with the test images' labels shown to calibration "
        "(default: calibration sees normal images and synthetic defects alone)",
    )
    parser.add_argument("--slim", action="store_true", help="lower ranks first, as edge-ad calibrate --slim does")


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the page, print the rows; returns 1 if a method failed, after comparing the others."""
    from edge_ad.compare.contenders import chosen_methods, contenders, parse_settings
    from edge_ad.compare.page import write_comparison
    from edge_ad.compare.run import compare
    from edge_ad.compare.text import as_text

    methods = chosen_methods(arguments.methods)
    settings = parse_settings(arguments.settings, methods, arguments.steps)
    runs = arguments.runs or arguments.output.with_name(f"{arguments.output.stem}_runs")
    found = compare(
        arguments.dataset,
        contenders(methods, runs, settings),
        fp16=arguments.fp16,
        budget=arguments.budget,
        slim=arguments.slim,
        region=arguments.region,
        normal_class=arguments.normal_class,
    )
    page = write_comparison(arguments.output, found)
    if arguments.json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print(as_text(found))
        print(page)
    return 1 if found.failures else 0
