"""Time from starting Python to the first verdict of a bundle, in a process of its own each time.

A black frame is inspected. Hashes and golden vectors are checked as on any station, inside the time.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from edge_ad.errors import InspectionFault
from edge_ad.report.machine import describe_machine

FIRST_VERDICT = """
import sys, numpy
from edge_ad import Inspector
with Inspector(sys.argv[1], precision=sys.argv[2], backend="onnxruntime") as inspector:
    print(inspector.inspect(numpy.zeros((*inspector.size, 3), numpy.uint8)).score)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--precision", default="int8", choices=("fp32", "fp16", "int8"), help="(default: int8)")
    parser.add_argument("--times", type=int, default=9, help="processes to start (default: 9, after one uncounted)")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    seconds = []
    for _ in range(arguments.times + 1):
        start = time.perf_counter()
        command = [sys.executable, "-c", FIRST_VERDICT, str(arguments.bundle), arguments.precision]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - start)
        if done.returncode:
            raise InspectionFault("The process gave no verdict.", got=done.stderr[-2000:])
    counted = seconds[1:]
    return {
        "machine": describe_machine(),
        "bundle": arguments.bundle.name,
        "precision": arguments.precision,
        "times": len(counted),
        "median_s": round(statistics.median(counted), 3),
        "min_s": round(min(counted), 3),
        "max_s": round(max(counted), 3),
    }


def as_text(result: dict[str, Any]) -> str:
    return (
        f"{result['bundle']} in {result['precision']}: first verdict after {result['median_s']} s "
        f"(median of {result['times']}; {result['min_s']} to {result['max_s']} s)"
    )
