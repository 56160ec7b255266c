"""What a precision costs, beside float32 on the same frames."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from edge_ad.backends.onnxruntime import OUTPUTS
from edge_ad.errors import CalibrationError
from edge_ad.frame import Image, read_image
from edge_ad.golden import Answer
from edge_ad.progress import Progress

__all__ = ["Cost", "Reference", "answers_of", "measure_cost", "score_of", "scores_of"]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What float32 says of some frames of the camera.

    Attributes:
        frames: Good parts, and the same with a synthetic defect.
        defective: Which of them have one.
        answers: float32's map and score of each.
        spread, threshold: Of float32's scores of normal images.
    """

    frames: Sequence[Image]
    defective: Sequence[bool]
    answers: Sequence[Answer]
    spread: float
    threshold: float

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """Which of them have a defect that float32 finds; where it finds none, which have one."""
        defective = np.array(self.defective)
        found = defective & (np.array([float(score[0]) for _, score in self.answers]) > self.threshold)
        return found if found.any() else defective

    def answered_by(self, session: Any) -> Reference:
        """The same frames with another graph's answers."""
        return dataclasses.replace(self, answers=answers_of(session, self.frames))


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Fidelity of a precision to float32, on normal images and on the same images with synthetic defects.

    Attributes:
        score_offset: Mean score - float32 score of good parts, in spreads of normal scores: a threshold that is fitted
            again takes it along.
        score_shift: Largest |score - float32 score - offset|, in the same spreads.
        score_noise: Standard deviation of score - float32 score, likewise.
        rank_correlation: Spearman's, of the scores.
        map_error: Mean |map - float32 map|, in float32 thresholds.
        map_correlation: Lowest Pearson correlation of a map with its float32 map, of frames with a defect that float32
            finds: elsewhere there is no place to be kept, and two precisions' noise does not correlate.
        latency_ms: Median of one frame in ONNX Runtime on this CPU, batch 1.
    """

    score_offset: float
    score_shift: float
    score_noise: float
    rank_correlation: float
    map_error: float
    map_correlation: float
    latency_ms: float


def answers_of(session: Any, frames: Sequence[Image]) -> list[Answer]:
    """Map and score of every frame."""
    return [session.run(OUTPUTS, {"image": frame[None]}) for frame in frames]


def scores_of(session: Any, paths: Sequence[Path], what: str) -> npt.NDArray[np.float64]:
    """Scores of image files, one frame at a time, with a progress bar.

    Raises:
        CalibrationError: A score is NaN or Inf.
    """
    scores = []
    with Progress(what, len(paths)) as progress:
        for path in paths:
            scores.append(score_of(session, path))
            progress.step()
    return np.array(scores)


def score_of(session: Any, path: Path) -> float:
    """Score of an image file.

    Raises:
        CalibrationError: It is NaN or Inf.
    """
    score = float(session.run(["score"], {"image": read_image(path)[None]})[0][0])
    if not np.isfinite(score):
        raise CalibrationError(f"The score of {path} is {score}.", expected="a finite score", fix="deploy fp32")
    return score


def measure_cost(session: Any, reference: Reference, offset: float | None = None) -> Cost:
    """Compare a session with float32's answers to the same frames.

    Args:
        offset: That the threshold was fitted with; None: the session's own.
    """
    rows, seconds = [], []
    for frame, (wanted_map, wanted_score) in zip(reference.frames, reference.answers, strict=True):
        start = time.perf_counter()
        came_map, came_score = session.run(OUTPUTS, {"image": frame[None]})
        seconds.append(time.perf_counter() - start)
        error = float(np.abs(came_map - wanted_map).mean())
        rows.append((float(wanted_score[0]), float(came_score[0]), error, _correlation(wanted_map, came_map)))
    wanted, came, map_errors, correlations = np.array(rows, np.float64).T
    shifts = (came - wanted) / reference.spread
    own = float(shifts[~np.array(reference.defective)].mean())
    return Cost(
        score_offset=own,
        score_shift=float(np.abs(shifts - (own if offset is None else offset)).max()),
        score_noise=float(shifts.std()),
        rank_correlation=_correlation(rankdata(wanted), rankdata(came)),
        map_error=float(map_errors.mean() / max(abs(reference.threshold), reference.spread)),
        map_correlation=float(correlations[reference.found].min()),
        latency_ms=1e3 * float(np.median(seconds)),
    )


def _correlation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Pearson's; of constants, which have none, 1 where they are equal and 0 where not."""
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else float(np.array_equal(a, b))
