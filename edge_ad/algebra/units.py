"""A hidden layer of few units that answers about as one of many: fitted to its answers.

Units that are merely chosen from the many, with new weights, miss too much: a head that was trained at a margin needs
all its units to tell normal from not. Trained for some minutes to give the same answers, a quarter of them may do: it
takes many cells of many frames, and noise that is never the same twice, or they learn those cells and no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge_ad.algebra.adam import Adam
from edge_ad.algebra.editor import Array

__all__ = ["Hidden", "UnitFit", "Units"]

STEPS = 2000
BATCH = 2048
LEARNING_RATE = 0.02  # of the mean size of a parameter's values
NOISE = 0.7  # at most, in standard deviations of every direction, on half of a batch
HELD_OUT = 0.2  # share of the frames, the last ones, that says how well the others' fit holds
FLAT = 1e-7  # of the largest variance: directions below it are rounding
AT_ONCE = 8192  # cells


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """A hidden layer and its readout: leaky(z) @ readout, of what comes in at some cells of some frames.

    Attributes:
        vectors: z, (frames, cells, C) of any floats, of normal frames and defective ones.
        readout: (C,) float64.
        slope: Of the rectifier below zero; 0 for ReLU.
    """

    vectors: Array
    readout: Array
    slope: float


@dataclass(frozen=True, kw_only=True)
class Units:
    """leaky(z) @ readout is about leaky(z @ mix + bias) @ few + constant.

    Attributes:
        mix, bias, few: (C, units), (units,), (units,), float64.
        error: Root mean square of what it misses of frames it was not fitted to, in standard deviations of the answers.
    """

    mix: Array
    bias: Array
    few: Array
    constant: float
    error: float


class UnitFit:
    """Fits any number of units to one hidden layer."""

    def __init__(self, hidden: Hidden, most: int, seed: int = 0) -> None:
        """Whitens what comes into the layer, and orders its units; `most` is the largest count that `fit` will get."""
        vectors = hidden.vectors.reshape(-1, len(hidden.readout))
        self.slope, self.seed, self.readout = hidden.slope, seed, hidden.readout.astype(np.float32)
        self.mean = vectors.mean(axis=0, dtype=np.float64)
        self.axes, self.deviations = _principal(vectors, self.mean)
        self.spread = (self.axes * self.deviations).astype(np.float32)  # white to z
        whitening = (self.axes / self.deviations).astype(np.float32)
        white = np.concatenate([part @ whitening for part in _centred(vectors, self.mean)])
        held = max(int(HELD_OUT * len(hidden.vectors)), 1) * hidden.vectors.shape[1]
        self.seen, self.unseen = white[: len(white) - held], white[-held:]
        self.order, self.gains, self.covariances = self._order(self.seen, most)

    @property
    def width(self) -> int:
        """Units of the layer itself."""
        return len(self.readout)

    def fit(self, count: int) -> Units:
        """The best that descent finds from the `count` units that predict most."""
        chosen = self.order[:count]
        few = np.linalg.solve(self.covariances[np.ix_(chosen, chosen)], self.gains[chosen])
        parameters = [
            np.ascontiguousarray(self.spread[chosen].T),
            self.mean[chosen].astype(np.float32),
            few.astype(np.float32),
            np.zeros(1, np.float32),
        ]
        rng = np.random.default_rng((self.seed, count))
        some = self._drawn(rng, AT_ONCE)
        parameters[3] += (self.answers(some) - self._answers_of_few(some, parameters)).mean()
        adam = Adam(parameters, [LEARNING_RATE * float(np.abs(one).mean()) for one in parameters], STEPS)
        for _ in range(STEPS):
            drawn = self._drawn(rng, BATCH)
            adam.step(self._gradients(drawn, self.answers(drawn), parameters))
        missed = self._answers_of_few(self.unseen, parameters) - self.answers(self.unseen)
        mix = (self.axes / self.deviations) @ parameters[0].astype(np.float64)
        return Units(
            mix=mix,
            bias=parameters[1] - self.mean @ mix,
            few=parameters[2].astype(np.float64),
            constant=float(parameters[3][0]),
            error=float(np.sqrt(np.square(missed).mean()) / self.answers(self.unseen).std()),
        )

    def answers(self, white: Array) -> Array:
        """Of the layer itself: (P, d) to (P,)."""
        mean = self.mean.astype(np.float32)
        return np.concatenate([self._leaky(part @ self.spread.T + mean) @ self.readout for part in _parts(white)])

    def _drawn(self, rng: np.random.Generator, count: int) -> Array:
        """Cells of the frames, half of them with noise of random strength: answers beyond the frames' own."""
        drawn: Array = self.seen[rng.integers(len(self.seen), size=count)]
        noisy = drawn[: count // 2]
        strengths = NOISE * rng.random((len(noisy), 1), dtype=np.float32)
        noisy += strengths * rng.standard_normal(noisy.shape, dtype=np.float32)
        return drawn

    def _answers_of_few(self, white: Array, parameters: list[Array]) -> Array:
        mix, bias, few, constant = parameters
        return np.concatenate([self._leaky(part @ mix + bias) @ few + constant for part in _parts(white)])

    def _leaky(self, values: Array) -> Array:
        return np.maximum(values, np.float32(self.slope) * values)

    def _gradients(self, white: Array, wanted: Array, parameters: list[Array]) -> list[Array]:
        """Of the mean squared error."""
        mix, bias, few, constant = parameters
        units = self._leaky(entering := white @ mix + bias)
        missed = 2 * (units @ few + constant - wanted) / len(white)
        into = np.where(entering > 0, np.float32(1), np.float32(self.slope)) * few * missed[:, None]
        return [white.T @ into, into.sum(axis=0), units.T @ missed, missed.sum(keepdims=True)]

    def _order(self, seen: Array, most: int) -> tuple[list[int], Array, Array]:
        """Units by what each adds to the prediction of the answers by those before it (orthogonal matching pursuit).

        Returns:
            The order; the units' covariances with the answers (C,) and with each other (C, C).
        """
        some = seen[:: max(1, len(seen) // 32768)]
        units = self._leaky(some @ self.spread.T + self.mean.astype(np.float32))
        units -= units.mean(axis=0)
        covariances = (units.T @ units).astype(np.float64) / len(units)
        covariances += 1e-6 * np.trace(covariances) / len(covariances) * np.eye(len(covariances))
        gains = covariances @ self.readout.astype(np.float64)
        left, rest = gains.copy(), covariances.copy()
        smallest = 1e-6 * np.diag(covariances).max()  # below it a unit is what those before it make, and rounding
        order: list[int] = []
        while len(order) < min(most, len(gains)):
            variances = np.diag(rest)
            explained = np.where(variances > smallest, np.square(left) / np.maximum(variances, smallest), 0.0)
            explained[order] = -1
            best = int(explained.argmax())
            order.append(best)
            if variances[best] > smallest:
                column = rest[:, best] / np.sqrt(rest[best, best])
                left -= column * (left[best] / np.sqrt(rest[best, best]))
                rest -= np.outer(column, column)
        return order, gains, covariances


def _parts(vectors: Array) -> list[Array]:
    return np.array_split(vectors, max(1, len(vectors) // AT_ONCE))


def _centred(vectors: Array, mean: Array) -> Iterator[Array]:
    """Part by part, float32: (P, C) may be too large for another copy."""
    return (part.astype(np.float32) - mean.astype(np.float32) for part in _parts(vectors))


def _principal(vectors: Array, mean: Array) -> tuple[Array, Array]:
    """Axes (C, d) and standard deviations (d,) of what varies at all."""
    squares = sum((part.T @ part).astype(np.float64) for part in _centred(vectors, mean))
    variances, axes = np.linalg.eigh(squares / len(vectors))
    real = variances > FLAT * variances[-1]
    return axes[:, real], np.sqrt(variances[real])
