"""The same engines as `trtexec` commands, for a Jetson that has only that, with the graphs its TensorRT takes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from build_engines.rectified import quantised_after_relu
from build_engines.tensorrt8 import Graph8, graph_for_tensorrt8
from edge_ad.backends.flavours import INPUT
from edge_ad.bundle import Bundle
from edge_ad.durable import own_errors, write_durably
from edge_ad.errors import EngineBuildFailed
from edge_ad.manifest import EngineSettings

__all__ = ["TrtexecLine", "trtexec_lines", "write_trtexec"]

# From 10 on the graph decides on types; 11 takes --stronglyTyped and needs it no more. What was --buildOnly in 8.5 is
# --skipInference since 8.6 (trtexec --help of each version).
_END = {"8.5": "--buildOnly", "8.6": "--skipInference", "10": "--skipInference"}
_WHERE = {"8.5": "JetPack 5", "8.6": "JetPack 6.0", "10": "JetPack 6.1 and later, 11 too"}


@dataclass(frozen=True, kw_only=True)
class TrtexecLine:
    """A command that builds one precision with one TensorRT.

    Attributes:
        tensorrt: The oldest TensorRT it is for: "8.5", "8.6" or "10" (and later).
        where: The JetPack that brings it.
        graph: The ONNX file it reads, beside it: `write_trtexec` puts it there.
        command: Empty where this TensorRT cannot do it.
        missing: Why it cannot.
    """

    precision: str
    tensorrt: str
    where: str
    graph: str
    command: str
    missing: str = ""


def trtexec_lines(
    bundle: Bundle,
    precisions: Sequence[str] = (),
    max_batch: int = 1,
    settings: EngineSettings | None = None,
    timing_cache: Path | None = None,
) -> list[TrtexecLine]:
    """Commands for the bundle's precisions (none given: all).

    Raises:
        BundleMismatch: A precision is not in the bundle.
        MissingDependency: onnx is not installed; TensorRT 8 needs other graphs.
    """
    return [
        line
        for precision in precisions or bundle.manifest.precisions
        for line, _ in _lines(bundle, precision, max_batch, settings or EngineSettings(), timing_cache)
    ]


def write_trtexec(
    folder: Path,
    bundle: Bundle,
    precisions: Sequence[str] = (),
    max_batch: int = 1,
    settings: EngineSettings | None = None,
    timing_cache: Path | None = None,
) -> list[TrtexecLine]:
    """Write the graphs and a script per TensorRT into a folder that can be copied to the station.

    Raises:
        BundleMismatch, MissingDependency: See trtexec_lines.
        BundleError: The folder cannot be written.
    """
    lines, scripts = [], {version: ["#!/bin/sh", "set -e", 'cd "$(dirname "$0")"'] for version in _END}
    with own_errors(folder, "some of it may be there"):
        folder.mkdir(parents=True, exist_ok=True)
        for precision in precisions or bundle.manifest.precisions:
            for line, graph in _lines(bundle, precision, max_batch, settings or EngineSettings(), timing_cache):
                lines.append(line)
                scripts[line.tensorrt].append(line.command or f"# no {precision}: {line.missing}")
                if line.command:
                    write_durably(folder / line.graph, graph)
        for version, commands in scripts.items():
            write_durably(folder / f"tensorrt-{version}.sh", ("\n".join(commands) + "\n").encode())
    return lines


def _lines(
    bundle: Bundle, precision: str, max_batch: int, settings: EngineSettings, timing_cache: Path | None
) -> list[tuple[TrtexecLine, bytes]]:
    """Every TensorRT's line with the graph it reads."""
    name = bundle.precision(precision).graph
    content = quantised_after_relu(bundle.read(name))  # as the builder does
    try:
        graph8: Graph8 | None = graph_for_tensorrt8(content, str(bundle.path / name))
        problem = ""
    except EngineBuildFailed as error:
        graph8, problem = None, error.what
    found = []
    for version in _END:
        missing = _missing(version, settings) or ("" if version == "10" else problem)
        graph = name if version == "10" else f"{Path(name).stem}.trt8.onnx"
        of_graph = ["--stronglyTyped"] if graph8 is None or version == "10" else _weak_typing(graph8)
        arguments = [
            "trtexec",
            f"--onnx={graph}",
            f"--saveEngine={precision}.engine",
            *_shapes(bundle, max_batch, settings),
            "--noTF32",
            "--profilingVerbosity=detailed",
            *of_graph,
            *_of_settings(settings, timing_cache),
            _END[version],
        ]
        line = TrtexecLine(
            precision=precision,
            tensorrt=version,
            where=_WHERE[version],
            graph=graph,
            command="" if missing else shlex.join(arguments),
            missing=missing,
        )
        found.append((line, content if version == "10" or graph8 is None else graph8.content))
    return found


def _missing(version: str, settings: EngineSettings) -> str:
    newer = {
        "--optimization-level": settings.optimization_level is not None,
        "--version-compatible": settings.version_compatible,
        "--hardware-compatible": settings.hardware_compatible,
    }
    absent = [option for option, asked in newer.items() if asked and version == "8.5"]
    return f"TensorRT 8.5 has no {' and no '.join(absent)}" if absent else ""


def _shapes(bundle: Bundle, max_batch: int, settings: EngineSettings) -> list[str]:
    size = bundle.manifest.input
    counts = {"min": settings.min_batch, "opt": settings.opt_batch or max_batch, "max": max_batch}
    return [f"--{name}Shapes={INPUT}:{count}x{size.height}x{size.width}x3" for name, count in counts.items()]


def _weak_typing(graph: Graph8) -> list[str]:
    """What types weakly is told which types it may use, and, where FP16 is one, each layer's."""
    flags = ["--int8"] if graph.quantised else []
    if "fp16" in graph.types.values():
        each = ",".join(f"{name}:{kind}" for name, kind in graph.types.items())
        flags += ["--fp16", "--precisionConstraints=obey", f"--layerPrecisions={each}", f"--layerOutputTypes={each}"]
    return flags


def _of_settings(settings: EngineSettings, timing_cache: Path | None) -> list[str]:
    level, workspace, core = settings.optimization_level, settings.workspace_mib, settings.dla_core
    return [
        *([f"--builderOptimizationLevel={level}"] if level is not None else []),
        *([f"--memPoolSize=workspace:{workspace}"] if workspace is not None else []),
        *([f"--timingCacheFile={timing_cache}"] if timing_cache is not None else []),
        *(["--sparsity=enable"] if settings.sparsity else []),
        *(["--versionCompatible"] if settings.version_compatible else []),
        *(["--hardwareCompatibilityLevel=ampere+"] if settings.hardware_compatible else []),
        *([f"--useDLACore={core}", "--allowGPUFallback"] if core is not None else []),
    ]
