"""Which of a bundle's engines this machine can run, and why not where none can."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edge_ad.backends.flavours import TITLES, target_of
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineMismatch
from edge_ad.manifest import EngineEntry

__all__ = ["Machine", "choose_engine"]

# A portable TensorRT-RTX engine runs on Ampere and later, Turing needs its own (TensorRT-RTX documentation, "CPU-Only
# AOT and TensorRT-RTX Engines"); a hardware-compatible one of TensorRT likewise (HardwareCompatibilityLevel).
_PORTABLE_FROM = (8, 0)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides whether an engine can run here.

    Attributes:
        versions: Version of each installed TensorRT by flavour, the preferred flavour first.
        capability: Compute capability of the GPU.
    """

    versions: Mapping[str, str]
    capability: tuple[int, int]


def choose_engine(bundle: Bundle, precision: str, machine: Machine) -> EngineEntry:
    """The bundle's engine of a precision for a machine; one compiled for its very GPU before a portable one.

    Raises:
        EngineMismatch: None fits; the message is about the one that comes closest.
    """
    graph_sha256 = bundle.manifest.files[bundle.precision(precision).graph]
    here = target_of(machine.capability)
    fix = f"python -m build_engines {bundle.path} --target {here}"
    engines = [engine for engine in bundle.manifest.engines if engine.precision == precision]
    if not engines:
        raise EngineMismatch(
            f"{bundle.path} has no {precision} engine.",
            expected=f"one for {here}",
            got=", ".join(engine.file for engine in bundle.manifest.engines) or "no engine at all",
            fix=fix,
        )
    faults = [_fault(engine, graph_sha256, machine) for engine in engines]
    fitting = [engine for engine, fault in zip(engines, faults, strict=True) if fault is None]
    if fitting:
        flavours = list(machine.versions)
        return min(fitting, key=lambda engine: (engine.target != here, flavours.index(engine.flavour)))
    closest = max((fault for fault in faults if fault is not None), key=lambda fault: fault.passed)
    raise EngineMismatch(
        f"{bundle.path / closest.file} does not fit this machine.",
        expected=closest.expected,
        got=f"{closest.got} (manifest.json)",
        fix=fix,
    )


@dataclass(frozen=True, kw_only=True)
class _Fault:
    """Why an engine does not fit, and how many checks it passed before."""

    file: str
    passed: int
    expected: str
    got: str


def _fault(engine: EngineEntry, graph_sha256: str, machine: Machine) -> _Fault | None:
    version = machine.versions.get(engine.flavour)
    checks = [
        (engine.graph_sha256 == graph_sha256, f"compiled from graph {graph_sha256}", engine.graph_sha256),
        (
            version is not None,
            " or ".join(TITLES[name] for name in machine.versions) + " (installed)",
            TITLES[engine.flavour],
        ),
        (_loads_in(engine, version), f"{TITLES[engine.flavour]} {version} (installed)", engine.version),
        (
            _runs_on(engine, machine.capability),
            "compute capability {}.{} (this GPU)".format(*machine.capability),
            _asked_of_gpu(engine),
        ),
    ]
    for passed, (good, expected, got) in enumerate(checks):
        if not good:
            return _Fault(file=engine.file, passed=passed, expected=expected, got=got)
    return None


def _loads_in(engine: EngineEntry, version: str | None) -> bool:
    """An engine belongs to one version; a version-compatible one also to newer ones of the same major version."""
    if not engine.settings.version_compatible or version is None:
        return engine.version == version
    built, installed = _numbers(engine.version), _numbers(version)
    return built[:1] == installed[:1] and built <= installed


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _runs_on(engine: EngineEntry, capability: tuple[int, int]) -> bool:
    return engine.target == target_of(capability) or (_is_portable(engine) and capability >= _PORTABLE_FROM)


def _is_portable(engine: EngineEntry) -> bool:
    return engine.target == "portable" or engine.settings.hardware_compatible


def _asked_of_gpu(engine: EngineEntry) -> str:
    if _is_portable(engine):
        return "portable: compute capability {}.{} or higher".format(*_PORTABLE_FROM)
    return f"compute capability {engine.target[2:-1]}.{engine.target[-1]}"
