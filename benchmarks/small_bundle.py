"""A small INT8 bundle for frames of a camera: SimpleNet on the PDN-S of this package, trained for seconds.

It is there to cost what such a bundle costs. What it finds is not worth much.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from edge_ad.cameras import Camera

IMAGE_SIZE, STEPS, FRAMES = 64, 40, 40


def save_frames(camera: Camera, folder: Path, count: int = FRAMES) -> None:
    """Keep frames of a free-running camera as good parts."""
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:03}.png"), camera.read_latest().image)


def build(frames: Path, bundle: Path) -> None:
    """Train, export and calibrate."""
    from calibration.flow import CalibrationOptions, calibrate
    from edge_ad.methods.simplenet import SimpleNetOptions
    from edge_ad.training.export import export
    from edge_ad.training.train import train

    options = SimpleNetOptions(image_size=IMAGE_SIZE, steps=STEPS, batch_patches=256, hidden=64)
    run = train("simplenet", frames, bundle.with_suffix(".run"), options)
    calibrate(export(run, bundle), CalibrationOptions(images=frames, precisions=("int8",)))


if __name__ == "__main__":  # in a process of its own, so that what is measured does not run beside torch
    build(Path(sys.argv[1]), Path(sys.argv[2]))
