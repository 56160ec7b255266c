"""The command line of build_engines, also `edge-ad build`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from build_engines.builder import BuildOptions, BuiltEngine, build
from build_engines.targets import TARGET_PATTERN
from build_engines.trtexec import TrtexecLine, trtexec_lines
from edge_ad.backends.flavours import MODULES
from edge_ad.bundle import Bundle
from edge_ad.errors import EdgeAdError
from edge_ad.manifest import PRECISIONS

__all__ = ["add_arguments", "main", "run"]

_MOST_FRAMES = 4096  # what manifest.json may say of an engine

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
        "--precision", action="append", default=[], choices=PRECISIONS, help="repeatable (default: all of the bundle)"
    )
    parser.add_argument(
        "--flavour",
        choices=tuple(MODULES),
        help="rtx: TensorRT-RTX, trt: TensorRT (default: what is installed, rtx first except on a Jetson)",
    )
    parser.add_argument(
        "--max-batch", type=_frames, default=1, metavar="N", help="largest number of frames at once (default: 1)"
    )
    parser.add_argument("--force", action="store_true", help="compile even what is current")
    parser.add_argument(
        "--trtexec", action="store_true", help="print the equivalent trtexec commands and compile nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _target(text: str) -> str:
    if not TARGET_PATTERN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not sm followed by two or three digits, portable or this-gpu")
    return text


def _frames(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_FRAMES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MOST_FRAMES}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say, print the result on standard output, and return the exit code.

    Raises:
        EdgeAdError: The caller prints it and exits with 1.
    """
    bundle = Bundle(arguments.bundle)
    if arguments.trtexec:
        lines = trtexec_lines(bundle, arguments.precision, arguments.max_batch)
        print(_as_json(lines) if arguments.json else _as_script(lines))
        return 0
    options = BuildOptions(
        targets=tuple(arguments.target),
        precisions=tuple(arguments.precision),
        flavour=arguments.flavour,
        max_batch=arguments.max_batch,
        force=arguments.force,
    )
    built = build(bundle, options)
    print(_as_json(built) if arguments.json else _as_table(built))
    return 0


def _as_json(results: Sequence[Any]) -> str:
    return json.dumps([dataclasses.asdict(result) for result in results], indent=2)


def _as_script(lines: Sequence[TrtexecLine]) -> str:
    return "\n".join(f"# {line.precision}, TensorRT {line.tensorrt} ({line.where})\n{line.command}" for line in lines)


def _as_table(built: Sequence[BuiltEngine]) -> str:
    rows = [("precision", "target", "bytes", "seconds", "", "file")]
    for engine in built:
        entry = engine.entry
        state = "cached" if engine.cached else "built"
        rows.append(
            (entry.precision, entry.target, f"{engine.size_bytes:,}", f"{engine.seconds:.1f}", state, entry.file)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(_aligned(row, widths) for row in rows)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    precision, target, size, seconds, state, file = (
        cell.rjust(width) if column in (2, 3) else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return f"{precision}  {target}  {size}  {seconds}  {state}  {file}".rstrip()


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m build_engines`; returns 0 if good, 1 if failed. Wrong usage exits with 2."""
    parser = argparse.ArgumentParser(prog="python -m build_engines", description=DESCRIPTION)
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except EdgeAdError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
