"""What an engine is compiled for: "sm89" and its like, "portable", or "this-gpu"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge_ad.backends.cuda import compute_capability
from edge_ad.backends.flavours import Flavour, target_of
from edge_ad.errors import EngineBuildFailed

__all__ = [
    "PORTABLE",
    "TARGET_PATTERN",
    "THIS_GPU",
    "compiles_for_others",
    "default_target",
    "known_targets",
    "resolve_targets",
]

PORTABLE = "portable"
THIS_GPU = "this-gpu"
TARGET_PATTERN = re.compile(rf"sm[0-9]{{2,3}}|{PORTABLE}|{THIS_GPU}")


def default_target(flavour: Flavour) -> str:
    """What is compiled for when nothing is asked: anything that may come, or the only GPU TensorRT can serve."""
    return PORTABLE if compiles_for_others(flavour) else THIS_GPU


def known_targets(flavour: Flavour) -> tuple[str, ...]:
    """Every target the flavour can compile for on this machine.

    Raises:
        NoGpu, MissingDependency: TensorRT compiles for the GPU of this machine alone, and there is none.
    """
    if not compiles_for_others(flavour):
        return (target_of(compute_capability()),)
    members = flavour.trt.ComputeCapability.__members__
    return (*(name.lower() for name in members if name.startswith("SM")), PORTABLE)


def resolve_targets(asked: Sequence[str], flavour: Flavour) -> tuple[str, ...]:
    """The asked targets, each once, with "this-gpu" replaced by its name.

    Raises:
        EngineBuildFailed: The flavour cannot compile for one of them.
        NoGpu: "this-gpu" and there is none.
    """
    targets = [target_of(compute_capability()) if target == THIS_GPU else target for target in asked]
    known = known_targets(flavour)
    for target in targets:
        if target not in known:
            raise EngineBuildFailed(
                f"{flavour.title} {flavour.version} cannot compile for {target} here.",
                expected=" or ".join(known),
                got=target,
                fix="choose one of these with --target"
                if compiles_for_others(flavour)
                else "build on the machine with that GPU, or use TensorRT-RTX: --flavour rtx",
            )
    return tuple(dict.fromkeys(targets))


def compiles_for_others(flavour: Flavour) -> bool:
    """Whether the flavour compiles for GPUs other than this machine's."""
    return hasattr(flavour.trt, "ComputeCapability")
