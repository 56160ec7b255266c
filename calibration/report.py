"""What is told of a search: which convolutions stayed in higher precision, and why."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from onnx import ModelProto

from calibration.search import SearchResult

__all__ = ["of_search", "slim_sentence"]


def of_search(search: SearchResult, model: ModelProto) -> dict[str, Any]:
    """JSON-ready: the layers left out with their sensitivity and share of the work, and everything quantised beside."""
    work = _work(model)
    total = sum(work.values()) or 1
    return {
        "float_layers": search.left_out,
        "sensitivity": search.sensitivity,
        "work_share": {name: macs / total for name, macs in work.items()},
        "within_limits": search.chosen.within_budget,
        "budget_used": search.chosen.used,
        "plain": {"used": search.plain.used, "image_auroc": search.plain.image_auroc}
        | dataclasses.asdict(search.plain.cost),
    }


def slim_sentence(slim: Mapping[str, Any]) -> str:
    """What lower ranks and fewer units left of the work; `slim` as Slimmed.facts gives it."""
    before, after = (slim[f"macs_{when}"] / 1e9 for when in ("before", "after"))
    counts = {kind: len(slim[f"{kind}s"]) for kind in ("difference", "convolution")}
    counted = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items() if count]
    done = [f"lower ranks of {' and '.join(counted)}"] if counted else []
    units = sorted(set(slim["units"].values()))
    done += [f"hidden layers of {' and '.join(map(str, units))} units"] if units else []
    if not done:
        return f"No rank could be lowered within half the budget: {before:.3g} GMAC stay."
    said = " and ".join(done)
    return f"{said[0].upper()}{said[1:]} leave {after:.3g} of {before:.3g} GMAC ({after / before:.0%})."


def _work(model: ModelProto) -> dict[str, int]:
    """Multiply-accumulates of every convolution for one frame."""
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.value_info
    }
    kernels = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    return {
        node.name: kernels.get(node.input[1], 0) * math.prod(shapes.get(node.output[0], [0])[2:])
        for node in model.graph.node
        if node.op_type == "Conv"
    }
