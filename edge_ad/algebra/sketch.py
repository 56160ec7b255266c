"""A few numbers whose squares add up to about as much as those of many.

The principal components would keep most of the squares and lose the rest where it matters: a defect lies in directions
that normal parts hardly use. But the components of a difference grow together, so a few directions, fitted to the sums
themselves, predict what the others hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_ad.algebra.adam import Adam
from edge_ad.algebra.editor import Array
from edge_ad.progress import Progress

__all__ = ["RANKS", "Sketch", "fit_sketch", "fit_sketches", "smallest_within"]

RANKS = (16, 32, 48, 64, 96, 128, 192)  # whole blocks of 16 channels, as kernels want them
STEPS = 1000
BATCH = 512
LEARNING_RATE = 0.1  # of the mean size of the directions' components
HELD_OUT = 0.2  # share of the frames, the last ones, that says how well the others' fit holds


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """|d|^2 is about |directions.T @ d|^2 + constant.

    Attributes:
        directions: (C, rank) float32.
        error: Root mean square of what it misses of frames it was not fitted to, in standard deviations of |d|^2.
    """

    directions: Array
    constant: float
    error: float

    @property
    def rank(self) -> int:
        """How many numbers stand for d."""
        return int(self.directions.shape[1])

    def squared_lengths(self, vectors: Array) -> Array:
        """Of (P, C), about: (P,)."""
        lengths: Array = np.square(vectors @ self.directions).sum(axis=1) + self.constant
        return lengths


def fit_sketches(
    differences: dict[str, Array], ranks: tuple[int, ...] = RANKS, seed: int = 0
) -> dict[str, tuple[Sketch, ...]]:
    """Of every difference (frames, cells, C) one sketch for each rank below C, the smallest first."""
    ranks = tuple(sorted(ranks))
    sketches: dict[str, tuple[Sketch, ...]] = {}
    with Progress("low-rank differences", len(differences) * len(ranks)) as progress:
        for name, vectors in differences.items():
            fitted = []
            for rank in ranks:
                if rank < vectors.shape[-1]:
                    fitted.append(fit_sketch(vectors, rank, seed))
                progress.step()
            sketches[name] = tuple(fitted)
    return sketches


def smallest_within(sketches: dict[str, tuple[Sketch, ...]], error: float) -> dict[str, Sketch]:
    """Of every difference the sketch of smallest rank that misses no more; none of those that always miss more."""
    good = {name: [one for one in of_one if one.error <= error] for name, of_one in sketches.items()}
    return {name: min(of_one, key=lambda one: one.rank) for name, of_one in good.items() if of_one}


def fit_sketch(differences: Array, rank: int, seed: int = 0) -> Sketch:
    """The directions of least squared error of |d|^2, found from the principal ones by Adam.

    Args:
        differences: (frames, cells, C) float32, of normal frames and defective ones.
    """
    channels = differences.shape[-1]
    fitted = len(differences) - int(HELD_OUT * len(differences))
    vectors = differences[:fitted].reshape(-1, channels)
    directions, constant = _descend(vectors, *_principal(vectors, rank), np.random.default_rng(seed))
    sketch = Sketch(directions=directions, constant=constant, error=0.0)
    unseen = differences[fitted % len(differences) :].reshape(-1, channels)
    lengths = np.square(unseen).sum(axis=1)
    error = float(np.sqrt(np.square(sketch.squared_lengths(unseen) - lengths).mean()) / lengths.std())
    return Sketch(directions=directions, constant=constant, error=error)


def _principal(vectors: Array, rank: int) -> tuple[Array, float]:
    """The directions of most energy (C, rank), scaled so that their squares have the right slope."""
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    directions = axes[:, ::-1][:, :rank]
    kept, lengths = np.square(vectors @ directions).sum(axis=1), np.square(vectors).sum(axis=1)
    slope = np.cov(kept, lengths)[0, 1] / kept.var()
    return directions * np.sqrt(slope), 0.0


def _descend(vectors: Array, directions: Array, constant: float, rng: np.random.Generator) -> tuple[Array, float]:
    """Adam on the mean squared error of |d|^2."""
    lengths = np.square(vectors).sum(axis=1)
    parameters: list[Array] = [directions.astype(np.float32), np.zeros(1, np.float32) + np.float32(constant)]
    rates = LEARNING_RATE * np.abs(directions).mean(), LEARNING_RATE * lengths.mean() / 20
    adam = Adam(parameters, rates, STEPS)
    for _ in range(STEPS):
        drawn = rng.integers(len(vectors), size=min(BATCH, len(vectors)))
        x = vectors[drawn]
        y = x @ parameters[0]
        missed = np.square(y).sum(axis=1) + parameters[1] - lengths[drawn]
        adam.step([4 * x.T @ (y * missed[:, None]) / len(drawn), 2 * missed.mean(keepdims=True)])
    return parameters[0], float(parameters[1][0])
