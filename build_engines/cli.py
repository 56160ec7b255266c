"""The command line of build_engines, also `edge-ad build`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from build_engines.builder import BuildOptions, BuiltEngine, build
from build_engines.settings import add_settings, settings_from_arguments
from build_engines.targets import TARGET_PATTERN
from build_engines.trtexec import TrtexecLine, trtexec_lines, write_trtexec
from edge_ad.backends.flavours import MODULES
from edge_ad.bundle import Bundle
from edge_ad.errors import EdgeAdError
from edge_ad.manifest import PRECISIONS

__all__ = ["add_arguments", "aligned", "main", "run"]

DESCRIPTION = """Compile a bundle's graphs into TensorRT engines for named GPUs. With TensorRT-RTX no GPU is needed.
Only what changed is compiled: graph, TensorRT version, target, precision or largest batch."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `run` reads."""
    parser.add_argument("bundle", help="bundle directory; the engines are written into it")
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


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say, print the result on standard output, and return the exit code.

    Raises:
        EdgeAdError: The caller prints it and exits with 1.
    """
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
    parser = argparse.ArgumentParser(prog="python -m build_engines", description=DESCRIPTION)
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except EdgeAdError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
