"""What single steps of quantisation do to a graph's answers: the ground that golden vectors' tolerances stand on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime

from edge_ad.backends.onnxruntime import answer_frames
from edge_ad.golden import TOLERANCE, Answer, golden_error

__all__ = ["golden_tolerances"]

HEADROOM = 3.0  # other kernels' maps differ by up to 2.6 times as much as the sums in another order that are tried here


def golden_tolerances(
    graph: bytes, precision: str, images: npt.NDArray[np.uint8], golden: Answer, spread: float
) -> dict[str, float]:
    """The map's and the score's tolerance, as fields of a PrecisionEntry; none of a precision that is not quantised.

    Where a value lies between two steps, the order of sums decides which one it takes, and what follows takes that
    along: correct kernels differ, by more in one graph than in another. How much more is seen by running the graph as
    it is written, every Q/DQ and sum in float32, against the fused integer kernels that made the golden answers.

    Args:
        images: The golden frames.
        golden: This precision's answers to them.
        spread: Standard deviation of normal scores, in which tolerances are.
    """
    if precision not in ("int8", "fp8"):
        return {}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    as_written = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    errors = golden_error(golden, answer_frames(as_written, images), spread)
    names = ("map_tolerance", "score_tolerance")
    return {name: max(TOLERANCE[precision], HEADROOM * error) for name, error in zip(names, errors, strict=True)}
