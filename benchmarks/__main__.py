"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from benchmarks import (
    accuracy,
    algebra,
    cold_start,
    engines,
    gpu,
    kill,
    latency,
    limit,
    paper_tables,
    scale,
    station,
    supervised,
    tail,
    training,
)
from edge_ad.errors import EdgeAdError

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, then claim.")
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    modules = {
        "accuracy": accuracy,
        "algebra": algebra,
        "cold-start": cold_start,
        "engines": engines,
        "gpu": gpu,
        "latency": latency,
        "limit": limit,
        "kill": kill,
        "paper-tables": paper_tables,
        "scale": scale,
        "station": station,
        "supervised": supervised,
        "tail": tail,
        "training": training,
    }
    for name, module in modules.items():
        summary = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        command.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="(default: %(default)s)")
        command.set_defaults(measure=module.measure, as_text=module.as_text, name=name)
        command.set_defaults(result_name=getattr(module, "result_name", lambda arguments: arguments.name))
    arguments = parser.parse_args()
    try:
        result = arguments.measure(arguments)
    except EdgeAdError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    figures, text = json.dumps(result, indent=2, default=dataclasses.asdict), arguments.as_text(result)
    name = arguments.result_name(arguments)
    if name:  # a rehearsal is not kept
        arguments.results.mkdir(parents=True, exist_ok=True)
        (arguments.results / f"{name}.json").write_text(figures + "\n")
        (arguments.results / f"{name}.md").write_text(text + "\n")
    print(figures if arguments.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
