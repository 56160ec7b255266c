"""What single steps of quantisation do to a graph's answers: the ground that golden vectors' tolerances stand on."""

from __future__ import annotations

import onnxruntime

from edge_ad.backends.onnxruntime import OUTPUTS
from edge_ad.golden import TOLERANCE, Answer, Golden, golden_error

__all__ = ["golden_tolerances"]

HEADROOM = 2.0  # other kernels differ by up to 1.7 times as much as the sums in another order that are tried here


def golden_tolerances(graph: bytes, precision: str, golden: Golden, spread: float) -> dict[str, float]:
    """The map's and the score's tolerance, as fields of a PrecisionEntry; none of a precision that is not quantised.

    Where a value lies between two steps, the order of sums decides which one it takes, and what follows takes that
    along: correct kernels differ, by more in one graph than in another. How much more is seen by running the graph as
    it is written, every Q/DQ and sum in float32, against the fused integer kernels that made the golden answers.

    Args:
        golden: With this precision's answers.
        spread: Standard deviation of normal scores, in which tolerances are.
    """
    if precision not in ("int8", "fp8"):
        return {}
    as_written = _answers_as_written(graph, golden)
    errors = golden_error(golden.answers[precision], as_written, spread)
    names = ("map_tolerance", "score_tolerance")
    return {name: max(TOLERANCE[precision], HEADROOM * error) for name, error in zip(names, errors, strict=True)}


def _answers_as_written(graph: bytes, golden: Golden) -> Answer:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    anomaly_map, score = golden.answers["fp32"]
    answer = anomaly_map.copy(), score.copy()
    for index in range(len(golden.image)):  # one at a time, as they are checked
        for kept, came in zip(answer, session.run(OUTPUTS, {"image": golden.image[index : index + 1]}), strict=True):
            kept[index] = came[0]
    return answer
