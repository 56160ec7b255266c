"""Learning rates over a run."""

from __future__ import annotations

import math

__all__ = ["warm_up_cosine"]


def warm_up_cosine(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up over the first twentieth, then cosine decay to zero."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
