"""The same engines as `trtexec` command lines, for a Jetson that has only that."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from edge_ad.backends.flavours import INPUT
from edge_ad.bundle import Bundle

__all__ = ["TrtexecLine", "trtexec_lines"]

# TensorRT 8.5 types weakly: it uses the FP16 and Q/DQ of a graph only where the builder may. From 10 on the graph
# decides. What was --buildOnly in 8.5 is --skipInference since 8.6.
_STRONG = ["--stronglyTyped", "--skipInference"]
_FLAGS_BY_VERSION = {
    "8.5": {"fp32": ["--buildOnly"], "fp16": ["--fp16", "--buildOnly"], "int8": ["--int8", "--buildOnly"]},
    "10": {"fp32": _STRONG, "fp16": _STRONG, "int8": _STRONG},
}
_WHERE = {"8.5": "JetPack 5", "10": "JetPack 6 and later"}


@dataclass(frozen=True, kw_only=True)
class TrtexecLine:
    """A command that builds one precision with one TensorRT.

    Attributes:
        tensorrt: The oldest TensorRT it is for: "8.5" (up to 9) or "10" (and later).
        where: The JetPack that brings it.
    """

    precision: str
    tensorrt: str
    where: str
    command: str


def trtexec_lines(bundle: Bundle, precisions: Sequence[str] = (), max_batch: int = 1) -> list[TrtexecLine]:
    """Command lines for the bundle's precisions (none given: all), to be run beside a copy of the bundle.

    Raises:
        BundleMismatch: A precision is not in the bundle.
    """
    return [
        TrtexecLine(
            precision=precision,
            tensorrt=version,
            where=_WHERE[version],
            command=_command(bundle, precision, max_batch, flags[precision]),
        )
        for precision in precisions or bundle.manifest.precisions
        for version, flags in _FLAGS_BY_VERSION.items()
    ]


def _command(bundle: Bundle, precision: str, max_batch: int, flags: list[str]) -> str:
    size = bundle.manifest.input
    least, most = (f"{INPUT}:{count}x{size.height}x{size.width}x3" for count in (1, max_batch))
    arguments = [
        "trtexec",
        f"--onnx={bundle.path / bundle.precision(precision).graph}",
        f"--saveEngine={precision}.engine",
        f"--minShapes={least}",
        f"--optShapes={most}",
        f"--maxShapes={most}",
        "--noTF32",
        *flags,
    ]
    return shlex.join(arguments)
