"""What single steps of quantisation do to a graph's answers: the ground that golden vectors' tolerances stand on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnxruntime

from edge_ad.backends.onnxruntime import answer_frames, open_session
from edge_ad.frame import Image
from edge_ad.golden import TOLERANCE, golden_error

__all__ = ["golden_tolerances"]

HEADROOM = {"map_tolerance": 4.0, "score_tolerance": 5.0}
"""Times the usual (root mean square) difference that is tried here. On fourteen bundles OpenVINO's kernels differed
from ONNX Runtime's by up to 2.6 times it in the map (of random weights 3.5) and 4.3 in the score
(docs/performance-notes.md). A map's error, the largest of very many, is the steadier one.
"""


def golden_tolerances(graph: bytes, precision: str, frames: Iterable[Image], spread: float) -> dict[str, float]:
    """The map's and the score's tolerance, as fields of a PrecisionEntry; none of a precision that is not quantised.

    Where a value lies between two steps, the order of sums decides which one it takes, and what follows takes that
    along: correct kernels differ, by more in one graph than in another. How much more is seen by running the graph as
    it is written, every Q/DQ and sum in float32, against the fused integer kernels that make the golden answers.

    Args:
        frames: Of the camera, some thirty: of one frame the difference may be small by chance.
        spread: Standard deviation of normal scores, in which tolerances are.
    """
    if precision not in ("int8", "fp8"):
        return {}
    fused = open_session(graph, "a quantised graph", integer_kernels=precision != "fp8")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    as_written = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    errors = []
    for frame in frames:
        came, expected = (answer_frames(session, frame[None]) for session in (as_written, fused))
        errors.append(golden_error(expected, came, spread))
    usual = np.sqrt(np.mean(np.square(errors), axis=0))
    return {
        name: max(TOLERANCE[precision], times * float(error))
        for (name, times), error in zip(HEADROOM.items(), usual, strict=True)
    }
