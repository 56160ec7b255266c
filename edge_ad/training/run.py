"""A finished training run: a folder that `export` turns into a bundle.

options.json        the resolved options of the method
run.json            method, data set, split, image sizes: provenance
model.safetensors   the trained network's tensors
checkpoint.pt       while training, to resume
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_ad.errors import TooFewImages, TrainingError
from edge_ad.frame import read_image
from edge_ad.training.checkpoint import write_whole
from edge_ad.training.dataset import Dataset, TestImage

__all__ = ["RunRecord", "Split", "image_hash", "read_run", "split_images"]

VALIDATION_FRACTION = 0.1  # EfficientAD, sec. 4: 10 % of the training images become the validation set
MIN_IMAGES = 10


@dataclass(frozen=True, kw_only=True)
class Split:
    """What a method may learn from.

    Attributes:
        training: Normal images to learn from.
        validation: Held-out normal images for quantiles and thresholds.
        defects: Labelled defective images to learn from, where training is supervised.
    """

    training: list[Path]
    validation: list[Path]
    defects: tuple[TestImage, ...] = ()


def split_images(dataset: Dataset, seed: int) -> Split:
    """The data set's own validation images, or a random tenth of the training images.

    Raises:
        TooFewImages: Fewer than 10 good images.
    """
    if len(dataset.train) < MIN_IMAGES:
        raise TooFewImages(
            f"{dataset.root} has too few good images to learn from.",
            expected=f"at least {MIN_IMAGES}; a hundred or more is usual",
            got=len(dataset.train),
            fix="add images of good parts",
        )
    if dataset.validation:
        return Split(training=list(dataset.train), validation=list(dataset.validation), defects=dataset.defects)
    order = np.random.default_rng(seed).permutation(len(dataset.train))
    held_out = set(order[: max(1, round(VALIDATION_FRACTION * len(order)))].tolist())
    return Split(
        training=[path for index, path in enumerate(dataset.train) if index not in held_out],
        validation=[path for index, path in enumerate(dataset.train) if index in held_out],
        defects=dataset.defects,
    )


def image_hash(path: Path) -> str:
    """Recognises an image file again, whatever its name: the first 16 digits of its sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run was trained on.

    Attributes:
        camera: (height, width) most training images have: the default camera of the exported graph.
        validation: Held-out normal images, absolute paths.
        training_hashes: `image_hash` of every image learnt from, defects included, so that thresholds and tests can
            leave them out.
    """

    method: str
    name: str
    camera: tuple[int, int]
    validation: tuple[str, ...]
    training_hashes: tuple[str, ...]
    seconds: float
    versions: dict[str, str]

    @staticmethod
    def of(method: str, dataset: Dataset, split: Split, seconds: float) -> RunRecord:
        import torch

        from edge_ad import __version__

        return RunRecord(
            method=method,
            name=dataset.name,
            camera=_commonest_size(split.training),
            validation=tuple(str(path.resolve()) for path in split.validation),
            training_hashes=tuple(
                image_hash(path) for path in (*split.training, *(image.path for image in split.defects))
            ),
            seconds=round(seconds, 1),
            versions={"edge_ad": __version__, "torch": torch.__version__, "opencv": cv2.__version__},
        )

    def write(self, folder: Path) -> None:
        write_whole(folder / "run.json", json.dumps(dataclasses.asdict(self), indent=2).encode() + b"\n")


def read_run(folder: Path) -> tuple[RunRecord, dict[str, Any]]:
    """The record and the options of a finished run.

    Raises:
        TrainingError: The folder is not one, or training did not finish.
    """
    try:
        record = json.loads((folder / "run.json").read_text())
        options = json.loads((folder / "options.json").read_text())
        record["camera"] = tuple(record["camera"])
        return RunRecord(**record), options
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise TrainingError(
            f"{folder} is not a finished training run.",
            expected="run.json, options.json and model.safetensors",
            got=exc,
            fix="edge-ad train METHOD DATASET -o RUN (running it again resumes)",
        ) from exc


def _commonest_size(paths: Sequence[Path]) -> tuple[int, int]:
    sizes = Counter(read_image(path).shape[:2] for path in paths[:20])
    height, width = sizes.most_common(1)[0][0]
    return int(height), int(width)
