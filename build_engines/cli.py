"""The command line of build_engines, also `edge-ad build`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from build_engines.builder import BuildOptions, BuiltEngine, build
from build_engines.fleet import FleetEngine, build_fleet
from build_engines.fleet_file import EXAMPLE, read_fleet
from build_engines.settings import Batch, add_settings, settings_from_arguments
from build_engines.targets import TARGET_PATTERN
from build_engines.trtexec import TrtexecLine, trtexec_lines, write_trtexec
from edge_ad.backends.flavours import MODULES
from edge_ad.bundle import Bundle
from edge_ad.errors import EdgeAdError
from edge_ad.manifest import PRECISIONS, EngineSettings

__all__ = ["add_arguments", "aligned", "main", "run"]

DESCRIPTION = """Compile a bundle's graphs into TensorRT engines for named GPUs, or those of a whole fleet of stations.
With TensorRT-RTX no GPU is needed. Only what changed is compiled: graph, TensorRT version, target, precision, settings.
Where this machine can load an engine, TensorRT's inspector must confirm that its convolutions run in the precision of
the graph."""

EPILOG = f"""a fleet: edge-ad build --fleet targets.toml, with a file such as

{textwrap.indent(EXAMPLE, "    ")}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `run` reads."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("bundle", nargs="?", help="bundle directory; the engines are written into it")
    parser.add_argument(
        "--fleet",
        type=Path,
        metavar="FILE",
        help="build every bundle, precision and target of this TOML file instead; one failure does not stop the rest",
    )
    parser.add_argument(
        "--jobs", type=_jobs, metavar="N", help="of a fleet: engines compiled at once (default: one for each core)"
    )
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        type=_target,
        help="sm75, sm80, sm86, sm89, sm120, sm121, portable (any GPU from sm80 on) or this-gpu; repeatable "
        "(default: portable with TensorRT-RTX, this-gpu with TensorRT)",
    )
    parser.add_argument(
        "--precision",
        action="append",
        default=[],
        choices=PRECISIONS,
        help="repeatable (default: all of the bundle that the target computes; fp8 needs sm89 or newer)",
    )
    parser.add_argument(
        "--flavour",
        choices=tuple(MODULES),
        help="rtx: TensorRT-RTX, trt: TensorRT (default: what is installed, rtx first except on a Jetson)",
    )
    parser.add_argument("--force", action="store_true", help="compile even what is current")
    parser.add_argument(
        "--trtexec",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="compile nothing: print the equivalent trtexec commands, and with FOLDER write them there as a script per "
        "TensorRT, with the graphs they read, to be copied to a Jetson",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_settings(parser)


def _target(text: str) -> str:
    if not TARGET_PATTERN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not sm followed by two or three digits, portable or this-gpu")
    return text


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say, print the result on standard output, and return the exit code.

    Raises:
        EdgeAdError: The caller prints it and exits with 1.
    """
    if arguments.fleet:
        return _run_fleet(arguments)
    if arguments.bundle is None or arguments.jobs:
        arguments.usage_error("give a bundle, or --fleet FILE, to which --jobs belongs")
    bundle = Bundle(arguments.bundle)
    settings = settings_from_arguments(arguments)
    if arguments.trtexec is not None:
        asked = (bundle, arguments.precision, arguments.batch.most, settings, arguments.timing_cache)
        lines = write_trtexec(Path(arguments.trtexec), *asked) if arguments.trtexec else trtexec_lines(*asked)
        print(_as_json(lines) if arguments.json else _as_script(lines))
        return 0
    options = BuildOptions(
        targets=tuple(arguments.target),
        precisions=tuple(arguments.precision),
        flavour=arguments.flavour,
        max_batch=arguments.batch.most,
        settings=settings,
        timing_cache=arguments.timing_cache,
        force=arguments.force,
    )
    built = build(bundle, options)
    print(_as_json(built) if arguments.json else _as_table(built))
    return 0


def _run_fleet(arguments: argparse.Namespace) -> int:
    ours = ("bundle", "target", "precision", "flavour", "timing_cache")
    if any(getattr(arguments, name) for name in ours) or arguments.batch != Batch():
        arguments.usage_error("with --fleet, bundles, targets, precisions and settings stand in the file")
    if settings_from_arguments(arguments) != EngineSettings():
        arguments.usage_error("with --fleet, settings stand in the file")
    if arguments.trtexec == "":
        arguments.usage_error("with --fleet, --trtexec needs a FOLDER")
    rows = build_fleet(
        read_fleet(arguments.fleet),
        jobs=arguments.jobs,
        force=arguments.force,
        trtexec=Path(arguments.trtexec) if arguments.trtexec else None,
    )
    print(_as_json(rows) if arguments.json else _fleet_table(rows))
    return 1 if any(row.state == "failed" for row in rows) else 0


def _fleet_table(rows: Sequence[FleetEngine]) -> str:
    cells = [("target", "bundle", "precision", "for", "bytes", "seconds", "", "")]
    for row in rows:
        size, seconds = (f"{row.bytes:,}", f"{row.seconds:.1f}") if row.bytes else ("-", "-")
        state, reason = ("FAILED", row.reason) if row.state == "failed" else (row.state, row.folder)
        cells.append((row.target, row.bundle, row.precision, row.compiled_for, size, seconds, state, reason))
    notes = dict.fromkeys(row.reason for row in rows if row.state == "built" and row.reason)
    counts = {state: sum(row.state == state for row in rows) for state in ("built", "cached", "trtexec", "failed")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    total = f"{told}; {sum(row.bytes for row in rows):,} bytes, {sum(row.seconds for row in rows):.0f} s of compiling"
    return "\n".join([*aligned(cells, right=(4, 5)), *(f"note: {note}" for note in notes), total])


def _as_json(results: Sequence[Any]) -> str:
    return json.dumps([dataclasses.asdict(result) for result in results], indent=2)


def _as_script(lines: Sequence[TrtexecLine]) -> str:
    return "\n".join(
        f"# {line.precision}, TensorRT {line.tensorrt} ({line.where})\n{line.command or '# ' + line.missing}"
        for line in lines
    )


def _as_table(built: Sequence[BuiltEngine]) -> str:
    rows = [("precision", "target", "bytes", "seconds", "", "precision confirmed", "file")]
    for engine in built:
        entry = engine.entry
        state = "cached" if engine.cached else "built"
        confirmed = "yes" if entry.precision_confirmed else "not run"
        size, seconds = f"{engine.size_bytes:,}", f"{engine.seconds:.1f}"
        rows.append((entry.precision, entry.target, size, seconds, state, confirmed, entry.file))
    notes = dict.fromkeys(note for engine in built for note in engine.notes)
    return "\n".join([*aligned(rows, right=(2, 3)), *(f"note: {note}" for note in notes)])


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """A table's lines, with the columns `right` aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m build_engines`; returns 0 if good, 1 if failed. Wrong usage exits with 2."""
    parser = argparse.ArgumentParser(prog="python -m build_engines")
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except EdgeAdError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
