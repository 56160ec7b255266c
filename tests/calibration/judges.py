"""A judge of real frames for small graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.budget import Budget, Judge
from calibration.cost import Cost, Reference
from calibration.fp16 import trunk_tensors
from calibration.observe import Observation, observe
from calibration.trunk import load_named
from edge_ad.backends.onnxruntime import OUTPUTS, open_session
from edge_ad.frame import read_image
from tests.calibration.graphs import write_images

EXACT = Cost(
    score_offset=0,
    score_shift=0,
    score_noise=0,
    rank_correlation=1,
    map_error=0,
    map_correlation=1,
    latency_ms=1.0,
)
"""Of a graph that answers as float32 does."""


def judge_of(
    content: bytes, folder: Path, points: float = 0.1, size: tuple[int, int] = (16, 24)
) -> tuple[Judge, dict[str, Observation]]:
    """Frames of smooth noise, float32's answers to them, and what they do to the graph's tensors."""
    paths = write_images(folder, 12, size=size)
    frames = [read_image(path) for path in paths[:6]]
    session = open_session(content, "fp32")
    expected = [session.run(OUTPUTS, {"image": frame[None]}) for frame in frames]
    scores = np.concatenate([score for _, score in expected])
    judge = Judge(
        budget=Budget(points=points),
        reference=Reference(
            frames=frames,
            defective=[False, True] * 3,
            answers=expected,
            spread=float(scores.std()),
            threshold=float(scores.max()),
        ),
    )
    model = load_named(content)
    return judge, observe(model, trunk_tensors(model), paths, 0)
