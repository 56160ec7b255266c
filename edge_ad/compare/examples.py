"""The test images that say most: the hardest good part, the hardest defect, and a typical one of every kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.compare.findings import Example, View
from edge_ad.compare.judge import Judged
from edge_ad.frame import Image, read_image
from edge_ad.inspection import Inspection, find_regions
from edge_ad.inspector import Inspector
from edge_ad.overlay import draw_heat
from edge_ad.training.dataset import Dataset

__all__ = ["choose", "examples"]

KINDS = 4  # typical defects at most
WIDTH = 480  # pixels of an overlay: sharp on dense screens, lines not lost in shrinking


def choose(margins: npt.NDArray[np.float64], types: Sequence[str | None]) -> list[tuple[str, int]]:
    """Why and which: indices of images, no image twice.

    Args:
        margins: (methods, images): score above the threshold in spreads of normal scores.
        types: The type of defect of every image, None where it is good.

    Returns:
        The good part and the defect whose median margin over methods is furthest to the wrong side, then the
        defect of median margin for each of the first types.
    """
    difficulty = np.median(margins, axis=0)
    chosen: dict[int, str] = {}
    for why, index in _candidates(difficulty, types):
        chosen.setdefault(index, why)
    return [(why, index) for index, why in chosen.items()]


def _candidates(difficulty: npt.NDArray[np.float64], types: Sequence[str | None]) -> Iterator[tuple[str, int]]:
    good = [index for index, kind in enumerate(types) if kind is None]
    defective = [index for index, kind in enumerate(types) if kind is not None]
    if good:
        yield "Hardest good part", max(good, key=lambda index: difficulty[index])
    if defective:
        yield "Hardest defect", min(defective, key=lambda index: difficulty[index])
    kinds = list(dict.fromkeys(kind for kind in types if kind is not None))
    for kind in kinds[:KINDS]:
        ranked = sorted((index for index in defective if types[index] == kind), key=lambda index: difficulty[index])
        yield f"Typical {kind.replace('_', ' ')}", ranked[len(ranked) // 2]


def examples(judged: Sequence[Judged], dataset: Dataset) -> tuple[Example, ...]:
    """The chosen images, seen by each of `judged`."""
    types = [item.defect if item.is_defective else None for item in dataset.test]
    chosen = choose(np.stack([one.margins for one in judged]), types)
    images = [read_image(dataset.test[index].path) for _, index in chosen]
    views: list[list[View]] = [[] for _ in chosen]
    for one in judged:
        with Inspector(one.bundle, precision=one.precision) as inspector:
            for place, image in enumerate(images):
                small, inspection = _shrunk(image, inspector.inspect(image))
                overlay = draw_heat(small, inspection)
                views[place].append(View(method=one.contender.method, overlay=overlay, inspection=inspection))
    return tuple(
        Example(
            why=why,
            name=f"{dataset.test[index].defect}/{dataset.test[index].path.name}",
            is_defective=dataset.test[index].is_defective,
            image=_small(image),
            views=tuple(seen),
        )
        for (why, index), image, seen in zip(chosen, images, views, strict=True)
    )


def _shrunk(image: Image, inspection: Inspection) -> tuple[Image, Inspection]:
    """Both at the size they are shown."""
    small = _small(image)
    height, width = small.shape[:2]
    regions = find_regions(inspection.anomaly_map, inspection.threshold, (height, width))
    return small, replace(inspection, regions=regions)


def _small(image: Image) -> Image:
    height, width = image.shape[:2]
    if width <= WIDTH:
        return image
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
