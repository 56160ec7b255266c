"""How much a precision may cost, and how much of that a graph uses up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn.metrics import roc_auc_score

from calibration.cost import Cost, Reference, measure_cost, score_of
from edge_ad.backends.onnxruntime import open_session
from edge_ad.training.dataset import Dataset

__all__ = ["DEFAULT_BUDGET", "Budget", "Judge", "Trial", "image_auroc"]

DEFAULT_BUDGET = 0.1

# Without labels, what a budget of 0.1 points stands for; other budgets in proportion. Over frames of good parts and
# the same with a synthetic defect.
_LARGEST_SHIFT = 0.75  # spreads of normal scores
_LARGEST_RANK_LOSS = 0.02  # 1 - Spearman's correlation
_REFERENCE = 0.1
# In any case: a verdict without its place is of little use.
_LARGEST_MAP_LOSS = 0.10  # 1 - the worst correlation of a frame with a defect that float32 finds


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a graph cost on the judge's frames.

    Attributes:
        image_auroc: On the labelled images, where there are any and they were needed.
        used: Share of the budget; it holds up to 1.
    """

    cost: Cost
    image_auroc: float | None
    used: float

    @property
    def within_budget(self) -> bool:
        return self.used <= 1


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What float32's answers may lose.

    Attributes:
        points: Of image AUROC in percentage points, on labelled images. Without those, worst score shift (beyond that
            of all good parts) and rank correlation on normal images and synthetic defects stand in for it: 0.75
            spreads of normal scores and 0.98 for 0.1 points, in proportion for others. With and without, maps of
            frames with a synthetic defect that float32 finds correlate by 0.90 or better.
    """

    points: float = DEFAULT_BUDGET

    def used(self, cost: Cost, lost_auroc: float | None) -> float:
        """Share of the budget. `lost_auroc` is float32's image AUROC minus this graph's, None without labels."""
        of_map = (1 - cost.map_correlation) / _LARGEST_MAP_LOSS
        if lost_auroc is not None:
            return max(of_map, 100 * lost_auroc / self.points)
        of_shift = cost.score_shift / (_LARGEST_SHIFT * self.points / _REFERENCE)
        of_rank = (1 - cost.rank_correlation) / (_LARGEST_RANK_LOSS * self.points / _REFERENCE)
        return max(of_map, of_shift, of_rank)


@dataclass(kw_only=True)
class Judge:
    """Compares graphs with float32's answers to the same frames.

    Attributes:
        reference: The published float32 graph's answers to good parts, and to the same with synthetic defects.
        base: Those of the float32 graph that is quantised, where that is another one, of less work.
        labelled: A data set with good and defective test images, where there is one.
        auroc: float32's image AUROC on it.
        integer_kernels: As open_session takes it.
        elsewhere: Opens a graph in another runtime that will serve it. Where a score lies between two steps, runtimes
            round differently: the budget has to hold in each.
    """

    budget: Budget
    reference: Reference
    labelled: Dataset | None = None
    auroc: float | None = None
    base: Reference | None = None
    integer_kernels: bool = True
    elsewhere: Callable[[bytes], Any] | None = None

    def cost(self, graph: bytes) -> Cost:
        """Of quantising alone, on the frames alone."""
        return measure_cost(self._session(graph), self.base or self.reference)

    def trial(self, graph: bytes, *, whole: bool) -> Trial:
        """On the frames, and on the labelled images where there are any; of several runtimes the one that uses most.

        Args:
            whole: Also where the maps alone exceed the budget, which labels cannot mend.
        """
        here = self._trial(self._session(graph), whole=whole)
        if self.elsewhere is None or (here.used > 1 and not whole):
            return here
        there = self._trial(self.elsewhere(graph), whole=whole, offset=here.cost.score_offset)
        return max(here, there, key=lambda trial: trial.used)

    def _trial(self, session: Any, *, whole: bool, offset: float | None = None) -> Trial:
        cost = measure_cost(session, self.reference, offset)
        if self.labelled is None or self.auroc is None:
            return Trial(cost=cost, image_auroc=None, used=self.budget.used(cost, None))
        of_maps = self.budget.used(cost, 0.0)
        if of_maps > 1 and not whole:
            return Trial(cost=cost, image_auroc=None, used=of_maps)
        auroc = image_auroc(session, self.labelled)
        return Trial(cost=cost, image_auroc=auroc, used=self.budget.used(cost, self.auroc - auroc))

    def _session(self, graph: bytes) -> Any:
        return open_session(graph, "a candidate", integer_kernels=self.integer_kernels)


def image_auroc(session: Any, labelled: Dataset) -> float:
    """Area under the ROC curve of the test images' scores."""
    scores = [score_of(session, item.path) for item in labelled.test]
    return float(roc_auc_score([item.is_defective for item in labelled.test], scores))
