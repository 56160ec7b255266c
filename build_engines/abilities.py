"""Settings that the installed TensorRT cannot honour are refused before anything is built.

What can be asked of the API is asked. TensorRT-RTX has the names of settings that it does not act on; those are listed,
and tests/build_engines/test_rtx_ignores.py shows each on the real thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_ad.backends.flavours import Flavour
from edge_ad.errors import EngineBuildFailed
from edge_ad.manifest import EngineSettings

__all__ = ["computes", "refuse_unable"]

_NOT_IN_RTX = {
    "--optimization-level": "its engines are the same bytes at every level; kernels are chosen on the station",
    "--timing-cache": "it measures nothing while it builds",
    "--sparsity": "its engines are the same bytes with it; kernels are chosen on the station",
    "--version-compatible": "it ships no lean runtime",
    "--hardware-compatible": "--target portable makes an engine for every GPU from sm80 on",
    "--dla": "it exists for x86-64 alone",
}


@dataclass(frozen=True)
class _Ask:
    """A setting, whether it was asked for, and whether the API has it."""

    option: str
    asked: bool
    has: bool


def computes(target: str, precision: str) -> bool:
    """Whether GPUs of a target compute in a precision: FP8 came with Ada, sm89."""
    return precision != "fp8" or (target.startswith("sm") and int(target[2:]) >= 89)


def refuse_unable(
    flavour: Flavour, precision: str, target: str, max_batch: int, settings: EngineSettings, timing_cache: Path | None
) -> None:
    """Check settings against what is installed, and against each other.

    Raises:
        EngineBuildFailed: Naming the option.
    """
    if not computes(target, precision):
        raise EngineBuildFailed(
            f"There is no {precision} for {target}.",
            expected="sm89 or newer, by name",
            got=target,
            fix="another --target or --precision",
        )
    trt = flavour.trt
    config, flags = trt.IBuilderConfig, trt.BuilderFlag
    asks = [
        _Ask(
            "--optimization-level",
            settings.optimization_level is not None,
            hasattr(config, "builder_optimization_level"),
        ),
        _Ask("--timing-cache", timing_cache is not None, hasattr(config, "create_timing_cache")),
        _Ask("--sparsity", settings.sparsity, hasattr(flags, "SPARSE_WEIGHTS")),
        _Ask("--version-compatible", settings.version_compatible, hasattr(flags, "VERSION_COMPATIBLE")),
        _Ask("--hardware-compatible", settings.hardware_compatible, hasattr(trt, "HardwareCompatibilityLevel")),
        _Ask("--dla", settings.dla_core is not None, hasattr(trt.DeviceType, "DLA")),
    ]
    for ask in asks:
        if ask.asked and flavour.name == "rtx":
            raise _refused(flavour, ask.option, _NOT_IN_RTX[ask.option])
        if ask.asked and not ask.has:
            raise _refused(flavour, ask.option, "this version does not have it")
    if settings.dla_core is not None:
        _check_dla(flavour, precision, max_batch, settings)


def _refused(flavour: Flavour, option: str, why: str) -> EngineBuildFailed:
    return EngineBuildFailed(
        f"{flavour.title} {flavour.version} has no {option}.",
        expected="options that change the engine",
        got=f"{option}: {why}",
        fix=f"leave out {option}" + ("" if flavour.name == "trt" else ", or build with TensorRT: --flavour trt"),
    )


def _check_dla(flavour: Flavour, precision: str, max_batch: int, settings: EngineSettings) -> None:
    """NVIDIA's documentation, "Working with DLA": FP16 or INT8, every dimension fixed."""
    explicit = hasattr(flavour.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    allowed = ("fp16", "int8") if explicit else ("fp16",)  # before 10 a DLA knows no Q/DQ
    if precision not in allowed:
        raise EngineBuildFailed(
            f"A DLA does not compute {precision} with {flavour.title} {flavour.version}.",
            expected=" or ".join(allowed),
            got=precision,
            fix="--precision fp16",
        )
    if settings.min_batch != max_batch:
        raise EngineBuildFailed(
            "A DLA takes batches of one size alone.",
            expected="--batch N",
            got=f"{settings.min_batch} to {max_batch} frames",
            fix=f"--batch {max_batch}",
        )
