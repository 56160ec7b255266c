"""anomalib's models with random weights, in every form that it exports.

`python -m benchmarks.peers.models METHOD FOLDER` runs in .peers. INT8 goes through anomalib's own post-training
quantisation (NNCF), on noise of natural spectrum. Nothing is downloaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.shim import declare_operators

declare_operators()

import timm  # noqa: E402
from anomalib.deploy import CompressionType  # noqa: E402
from anomalib.models import AnomalibModule, EfficientAd, Supersimplenet  # noqa: E402

SIZE = (256, 256)
IMAGES = 300  # NNCF's default


class _Noise(Dataset[dict[str, Any]]):
    """Images whose spectrum falls with frequency, as that of natural images does."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in SIZE)))
        white = np.fft.fft2(rng.standard_normal((3, *SIZE)))
        image = np.fft.ifft2(white / np.maximum(frequency, 1 / SIZE[0])).real
        image = (image - image.min()) / (image.max() - image.min())
        return {"image": torch.from_numpy(image.astype(np.float32))}


class _DataModule:
    """As much of a data module as the export asks for."""

    def setup(self, stage: str) -> None:
        pass

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(_Noise(), batch_size=1)


def _efficientad(size: str) -> AnomalibModule:
    model = EfficientAd(model_size=size)
    network = model.model  # untrained statistics are left out of the graph, or make NaN of it
    network.mean_std["mean"].data.fill_(0.1)
    network.mean_std["std"].data.fill_(1.1)
    for name, value in {"qa_st": 0.1, "qb_st": 1.1, "qa_ae": 0.1, "qb_ae": 1.1}.items():
        network.quantiles[name].data.fill_(value)
    return model


def _supersimplenet() -> AnomalibModule:
    """With the backbone of ours instead of its own choice, Wide-ResNet-50."""
    return Supersimplenet(backbone=timm.create_model("resnet18.tv_in1k", pretrained=False))


MODELS: dict[str, Callable[[], AnomalibModule]] = {
    "efficientad-s": lambda: _efficientad("small"),
    "efficientad-m": lambda: _efficientad("medium"),
    "supersimplenet": _supersimplenet,
}


def _normalise(model: AnomalibModule) -> None:
    """As after a validation: without extremes and thresholds, scores and maps are not normalised."""
    processor = model.post_processor
    for name in ("image", "pixel"):
        getattr(processor, f"{name}_min").fill_(0.0)
        getattr(processor, f"{name}_max").fill_(1.0)
        getattr(processor, f"_{name}_threshold").fill_(0.5)


def main() -> None:
    method, folder = sys.argv[1], Path(sys.argv[2])
    torch.manual_seed(0)
    model = MODELS[method]()
    model.eval()
    _normalise(model)
    model.to_torch(folder)
    model.to_onnx(folder, input_size=SIZE)
    model.to_openvino(folder / "fp32", input_size=SIZE)
    model.to_openvino(
        folder / "int8", input_size=SIZE, compression_type=CompressionType.INT8_PTQ, datamodule=_DataModule()
    )


if __name__ == "__main__":
    main()
