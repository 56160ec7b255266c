"""A station whose scores are known beforehand: its camera shows grey images, and its bundle scores their grey level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_ad.bundle import Bundle
from edge_ad.station.station import Station
from edge_ad.station.verdict import Verdict
from tests.golden_bundle import CAMERA, spoil_manifest

THRESHOLD = 140.0
GREYS = (100, 110, 120, 130, 150, 160, 105, 115, 125, 170)
"""Of the parts, over and over: seven are accepted, three are not."""

SHOWN = """
[cameras.top]
uri = "file://{folder}?loop=1"
trigger = "software-overlap"
backlog = 1024
latest_ms = 5000
timeout_ms = 5000
[http]
port = 0
[record]
accept_every = 1
"""


def show_greys(folder: Path) -> str:
    """Images of GREYS in a folder, and the camera that shows them as text of station.toml."""
    folder.mkdir(exist_ok=True)
    for number, grey in enumerate(GREYS):
        image = np.full((CAMERA.height, CAMERA.width, 3), grey, np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), image)
    return SHOWN.format(folder=folder)


def set_threshold(
    bundle: Path, threshold: float = THRESHOLD, spread: float = 10.0, mean: float | None = None
) -> Bundle:
    """Another threshold in a bundle's manifest, with its version and what it comes from."""

    def change(tree: dict[str, dict[str, dict[str, Any]]]) -> None:
        entry = tree["precisions"]["fp32"]
        entry.update(threshold=threshold, threshold_version=entry["threshold_version"] + 1)
        entry.update(score_spread=spread, score_mean=mean)

    spoil_manifest(bundle, change)
    return Bundle(bundle)


def judge(station: Station, count: int, first: int = 0) -> list[Verdict]:
    """Trigger so many parts one after the other: part-0, part-1, ... and their verdicts."""
    found = []
    for number in range(first, first + count):
        verdict = station.trigger(f"part-{number}", camera="top")[0].wait(30)
        assert verdict is not None
        found.append(verdict)
    return found
