"""Every contender on the same test images: accuracy one after the other, latency in turn."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad import __version__
from edge_ad.bundle import Bundle
from edge_ad.compare.contenders import Contender
from edge_ad.compare.memory import remembered
from edge_ad.frame import read_image
from edge_ad.inspector import Inspector
from edge_ad.progress import Progress
from edge_ad.training.dataset import Dataset
from edge_ad.training.evaluate import DefectMetrics, Evaluation, evaluate

__all__ = ["LATENCY_FRAMES", "Judged", "judge", "latencies_ms"]

LATENCY_FRAMES = 40  # a median of as many settles within a few per cent


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A contender in one precision, with its evaluation.

    Attributes:
        backend: What ran it.
    """

    contender: Contender
    bundle: Bundle
    precision: str
    backend: str
    evaluation: Evaluation

    @property
    def threshold(self) -> float:
        """Of this precision."""
        return self.bundle.precision(self.precision).threshold

    @property
    def margins(self) -> npt.NDArray[np.float64]:
        """Score of every test image above the threshold, in spreads of normal scores: comparable between methods."""
        entry = self.bundle.precision(self.precision)
        return (np.array(self.evaluation.scores, np.float64) - entry.threshold) / entry.score_spread


def judge(contender: Contender, bundle: Bundle, precision: str, dataset: Dataset, data: str) -> Judged:
    """Evaluate one precision, or take the evaluation of the same graph on the same data.

    Args:
        data: The fingerprint of the data set.
    """
    with Inspector(bundle, precision=precision) as inspector:
        made_from = {
            "edge_ad": __version__,
            "graph": bundle.manifest.files[bundle.precision(precision).graph],
            "data": data,
            "backend": inspector.backend,
            "figures": [field.name for field in dataclasses.fields(Evaluation)],
        }

        def make() -> dict[str, Any]:
            what = f"{contender.method} {precision}"
            return dataclasses.asdict(evaluate(inspector.answer, dataset, inspector.size, what))

        memory = contender.run.with_name(f"{contender.run.name}.{precision}.json")
        evaluation = _evaluation(remembered(memory, made_from, make))
        return Judged(
            contender=contender,
            bundle=bundle,
            precision=precision,
            backend=inspector.backend,
            evaluation=evaluation,
        )


def _evaluation(tree: dict[str, Any]) -> Evaluation:
    return Evaluation(
        **tree
        | {
            "intervals": {name: (low, high) for name, (low, high) in tree["intervals"].items()},
            "per_defect": {name: DefectMetrics(**metrics) for name, metrics in tree["per_defect"].items()},
            "scores": tuple(tree["scores"]),
        }
    )


def latencies_ms(judged: Sequence[Judged], dataset: Dataset) -> list[npt.NDArray[np.float64]]:
    """Milliseconds of every frame, for each of `judged`.

    All are loaded at once and answer the same frame before the next one, in an order drawn anew each time: what else
    the machine does, and how warm it is, falls on all alike.
    """
    step = max(1, len(dataset.test) // LATENCY_FRAMES)
    frames = [item.path for item in dataset.test[::step]][:LATENCY_FRAMES]
    rng = np.random.default_rng(0)
    seconds = np.zeros((len(judged), len(frames)))
    inspectors = [Inspector(one.bundle, precision=one.precision) for one in judged]  # golden frames warm them up
    try:
        with Progress("latency, in turn", len(frames)) as progress:
            for place, path in enumerate(frames):
                image = read_image(path)[None]
                for index in rng.permutation(len(judged)):
                    start = time.perf_counter()
                    inspectors[index].answer(image)
                    seconds[index, place] = time.perf_counter() - start
                progress.step()
    finally:
        for inspector in inspectors:
            inspector.close()
    return list(1e3 * seconds)
