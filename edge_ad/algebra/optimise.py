"""The exact passes in their order, and what each of them saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
from onnx import ModelProto

from edge_ad.algebra.crop import crop
from edge_ad.algebra.fold_affine import fold_affine
from edge_ad.algebra.join_differences import join_differences
from edge_ad.algebra.mix_before_upsampling import convolve_before_upsampling, project_before_upsampling
from edge_ad.algebra.split_slices import split_slices
from edge_ad.algebra.work import total_macs

__all__ = ["EXACT_PASSES", "Pass", "PassRow", "optimise"]

Pass = Callable[[ModelProto], int]  # changes the model in place; returns how often it applied

EXACT_PASSES: dict[str, Pass] = {
    "fold_affine": fold_affine,
    "split_slices": split_slices,
    "join_differences": join_differences,
    "project_before_upsampling": project_before_upsampling,
    "convolve_before_upsampling": convolve_before_upsampling,
    "crop": crop,
}


@dataclass(frozen=True, kw_only=True)
class PassRow:
    """What one pass did: how often it applied, and the graph's multiply-accumulates for one frame."""

    name: str
    applied: int
    macs_before: int
    macs_after: int


def optimise(model: ModelProto) -> tuple[ModelProto, list[PassRow]]:
    """A copy of a float32 graph that all exact passes have gone over, and a row for each of them.

    Equal to the original up to the rounding of float32, for every batch.
    """
    optimised = ModelProto()
    optimised.CopyFrom(model)
    rows = []
    macs = total_macs(optimised)
    for name, apply in EXACT_PASSES.items():
        applied = apply(optimised)
        before, macs = macs, total_macs(optimised) if applied else macs
        rows.append(PassRow(name=name, applied=applied, macs_before=before, macs_after=macs))
    onnx.checker.check_model(optimised, full_check=True)
    return optimised, rows
