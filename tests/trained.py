"""Real bundles, trained for a handful of steps on procedural parts: what export, calibration and engines are tested on.

The camera is small and not square, so that drawing and decoding cost nothing and swapped axes show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from calibration.flow import CalibrationOptions, calibrate
from edge_ad.bundle import Bundle
from edge_ad.demo.parts import write_dataset
from edge_ad.methods.cutpaste import CutPasteOptions
from edge_ad.methods.efficientad import EfficientAdOptions
from edge_ad.methods.simplenet import SimpleNetOptions
from edge_ad.methods.supersimplenet import SuperSimpleNetOptions
from edge_ad.methods.uninformed_students import UninformedStudentsOptions
from edge_ad.training.export import export
from edge_ad.training.train import train

CAMERA = (96, 128)
TRAIN, VALIDATION = 12, 10  # calibration needs 10 that were not trained on
# Enough to leave the initial weights; half the size of the input is a quarter of the time.
OPTIONS: dict[str, Any] = {
    "simplenet": SimpleNetOptions(steps=8, batch_patches=256, image_size=128, hidden=64),
    "efficientad-s": EfficientAdOptions(steps=3, image_size=128),
    "cutpaste": CutPasteOptions(pretrained=False, stage=2, image_size=64, steps=40, batch_images=8),
    "supersimplenet": SuperSimpleNetOptions(steps=4, image_size=64, hidden=64),
    "uninformed-students": UninformedStudentsOptions(image_size=64, students=2, window=32, steps=3),
}
METHODS = tuple(OPTIONS)


def draw_dataset(folder: Path) -> Path:
    """An MVTec AD style folder of procedural parts with validation images and one image per defect."""
    return write_dataset(folder, train=TRAIN, validation=VALIDATION, test_good=3, test_per_defect=1, size=CAMERA)


def train_run(method: str, dataset: Path, folder: Path) -> Path:
    """A finished run."""
    return train(method, dataset, folder, OPTIONS[method])


def painted_region(path: Path, size: tuple[int, int] = CAMERA) -> Path:
    """White in an ellipse about the frame's middle, as an image editor would leave it: grey at its edge, in colour."""
    mask = np.zeros((*size, 3), np.uint8)
    middle, axes = (size[1] // 2, size[0] // 2), (size[1] // 6, size[0] // 6)
    cv2.ellipse(mask, middle, axes, 0, 0, 360, (255, 255, 255), -1, cv2.LINE_AA)
    cv2.imwrite(str(path), mask)
    return path


def calibrated_bundle(run: Path, dataset: Path, folder: Path, region: Path | None = None) -> Bundle:
    """A bundle with every precision; few frames judge it, as every frame costs some 30 graphs a run."""
    bundle = export(run, folder, region=region)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.flow.RANGE_IMAGES", 4)
        patch.setattr("calibration.flow.COST_IMAGES", 1)
        calibrate(bundle, CalibrationOptions(images=dataset))
    return bundle
