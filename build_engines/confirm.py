"""Ask a built engine whether its heavy layers run in the precision that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from build_engines.precision import realised
from build_engines.targets import PORTABLE
from edge_ad.backends.cuda import compute_capability
from edge_ad.backends.flavours import Flavour, capturing_logger, explain, target_of
from edge_ad.errors import EdgeAdError, EngineBuildFailed
from edge_ad.manifest import EngineEntry

__all__ = ["Confirmation", "confirm"]

_MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What the engine inspector answered.

    Attributes:
        confirmed: Every convolution runs in the graph's precision; None: it could not be asked, or did not say.
        reason: Why None.
    """

    confirmed: bool | None
    reason: str = ""


def confirm(
    content: bytes, asked: Mapping[str, str], entry: EngineEntry, *, source: str, flavour: Flavour
) -> Confirmation:
    """Load the engine and compare its inspector's report with what was asked.

    Args:
        asked: Precision by layer name.
        source: The ONNX file's path, for messages.

    Raises:
        EngineBuildFailed: A layer runs in another precision.
    """
    reason = _why_not_here(entry)
    if reason:
        return Confirmation(confirmed=None, reason=reason)
    found = realised(_inspected(content, entry, source, flavour), asked)
    if found.wrong:
        layers = [f"{name}: {got} instead of {wanted}" for name, (wanted, got) in found.wrong.items()]
        raise EngineBuildFailed(
            f"{source}: {flavour.title} {flavour.version} built {len(layers)} of {len(asked)} convolutions for "
            f"{entry.target} in another precision than the graph's.",
            expected=f"the precisions of the {entry.precision} graph",
            got=_listing(layers),
            fix="try another --optimization-level, without --timing-cache, or another TensorRT",
        )
    if found.silent:
        return Confirmation(
            confirmed=None,
            reason=f"The engine inspector does not tell the precision of {_listing(list(found.silent))}.",
        )
    return Confirmation(confirmed=True)


def _why_not_here(entry: EngineEntry) -> str:
    """Why this machine cannot load the engine; empty where it can."""
    try:
        capability = compute_capability()
    except EdgeAdError as error:
        return error.what
    fits = capability >= (8, 0) if entry.target == PORTABLE else target_of(capability) == entry.target
    return "" if fits else f"The engine is for {entry.target}, and this machine's GPU is {target_of(capability)}."


def _inspected(content: bytes, entry: EngineEntry, source: str, flavour: Flavour) -> str:
    """The engine inspector's JSON."""
    logger = capturing_logger(flavour.trt)
    runtime = flavour.trt.Runtime(logger)
    if entry.settings.version_compatible:
        runtime.engine_host_code_allowed = True  # it holds code, and was built a moment ago
    if entry.settings.dla_core is not None:
        runtime.DLA_core = entry.settings.dla_core
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:  # TensorRT reports failure by returning None
        raise EngineBuildFailed(
            f"{source}: {flavour.title} {flavour.version} cannot load the engine it has just built for {entry.target}.",
            expected="an engine that this machine can run",
            got=explain(logger.problems),
            fix="free GPU memory, or try another --target, --precision or TensorRT",
        )
    information: str = engine.create_engine_inspector().get_engine_information(flavour.trt.LayerInformationFormat.JSON)
    return information


def _listing(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
