"""Writes down which names a TensorRT has: `python -m tests.build_engines.record_api tensorrt > apis/NEW.toml`.

NVIDIA's wheels `tensorrt-*-bindings` say it too, without a GPU and without TensorRT's own libraries: they load where
empty libraries of the same names stand in for those (libnvinfer.so.N with the functions `nm -D` finds undefined).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from types import ModuleType

ENUMS = (
    "BuilderFlag",
    "NetworkDefinitionCreationFlag",
    "MemoryPoolType",
    "ProfilingVerbosity",
    "HardwareCompatibilityLevel",
    "DeviceType",
    "LayerInformationFormat",
    "ComputeCapability",
    "DataType",
    "LayerType",
)
CLASSES = (
    "Builder",
    "IBuilderConfig",
    "INetworkDefinition",
    "OnnxParser",
    "ParserError",
    "IOptimizationProfile",
    "ILayer",
    "ITensor",
    "ITimingCache",
    "IProgressMonitor",
    "Runtime",
    "ICudaEngine",
    "EngineInspector",
)
WIDTH = 110


def recording(trt: ModuleType, source: str, version: str) -> str:
    """The file's text."""
    lines = [f"# {line}" for line in source.splitlines()]
    lines += [f'version = "{version}"', "", "[enums]"]
    lines += [_entry(name, getattr(trt, name).__members__) for name in ENUMS if hasattr(trt, name)]
    lines += ["", "[classes]"]
    lines += [
        _entry(name, (member for member in dir(getattr(trt, name)) if not member.startswith("_")))
        for name in CLASSES
        if hasattr(trt, name)
    ]
    return "\n".join(lines) + "\n"


def _entry(name: str, members: Iterable[str]) -> str:
    lines, line = [], "   "
    for member in members:
        if len(line) + len(member) > WIDTH:
            lines.append(line)
            line = "   "
        line += f' "{member}",'
    return "\n".join([f"{name} = [", *lines, line, "]"])


if __name__ == "__main__":
    found = importlib.import_module(sys.argv[1])
    print(recording(found, f"Recorded from {sys.argv[1]} {found.__version__}.", found.__version__), end="")
