"""Adam in NumPy, for fits of a few parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_ad.algebra.editor import Array

__all__ = ["Adam"]

MOMENTUM, MOMENTUM_OF_SQUARES = 0.9, 0.999


class Adam:
    """Adaptive moments (Kingma and Ba, ICLR 2015), with a rate that falls to nothing as half a cosine.

    Args:
        parameters: float32, changed in place.
        rates: The first step's size, one for each of them.
        steps: How many there will be.
    """

    def __init__(self, parameters: Sequence[Array], rates: Sequence[float], steps: int) -> None:
        self.parameters, self.rates, self.steps = parameters, rates, steps
        self.count = 0
        self.first = [np.zeros_like(one) for one in parameters]
        self.second = [np.zeros_like(one) for one in parameters]

    def step(self, gradients: Sequence[Array]) -> None:
        """Against these gradients, one for each parameter."""
        self.count += 1
        fallen = 0.5 * (1 + np.cos(np.pi * self.count / self.steps))
        for index, gradient in enumerate(gradients):
            self.first[index] += (1 - MOMENTUM) * (gradient - self.first[index])
            self.second[index] += (1 - MOMENTUM_OF_SQUARES) * (np.square(gradient) - self.second[index])
            mean = self.first[index] / (1 - MOMENTUM**self.count)
            size = np.sqrt(self.second[index] / (1 - MOMENTUM_OF_SQUARES**self.count))
            self.parameters[index] -= (fallen * self.rates[index] * mean / (size + 1e-12)).astype(np.float32)
