"""The patch description network of EfficientAD, and where its weights come from.

Source: Batzner, Heckler, König, "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level
Latencies", WACV 2024, sec. 3.1 and its table of the PDN-S layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_ad.errors import WeightsNotFound

__all__ = ["OUT_CHANNELS", "PdnSmall", "load_pdn_small", "shipped_teacher_path"]

OUT_CHANNELS = 384  # EfficientAD, sec. 3.1: feature vectors of the teacher
STRIDE = 4  # two 2x2 average pools
RECEPTIVE_FIELD = 33  # EfficientAD, sec. 3.1: each output describes a 33 x 33 patch
CROPPED_CELLS = 4  # output cells that an unpadded network loses at each border: (33 - 1) / 2 / 4

# anomalib names the layers conv1..conv4, nelson1425/EfficientAD numbers them within an nn.Sequential.
_SEQUENTIAL_TO_NAME = {"0": "conv1", "3": "conv2", "6": "conv3", "8": "conv4"}


class PdnSmall(nn.Module):
    """PDN-S: four convolutions and two average pools, without padding (EfficientAD, sec. 3.1).

    Maps an image (N, 3, H, W), ImageNet-normalised RGB, to (N, out_channels, H / 4 - 8, W / 4 - 8)
    for sides that are multiples of 4.
    """

    def __init__(self, out_channels: int = OUT_CHANNELS) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 128, 4)
        self.conv2 = nn.Conv2d(128, 256, 4)
        self.conv3 = nn.Conv2d(256, 256, 3)
        self.conv4 = nn.Conv2d(256, out_channels, 4)
        self.pool = nn.AvgPool2d(2, 2)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.conv1(image).relu())
        x = self.pool(self.conv2(x).relu())
        return self.conv4(self.conv3(x).relu())


def shipped_teacher_path() -> Path:
    """The PDN-S teacher distilled by this project (float16, see MODEL_CARD.md beside it)."""
    return Path(__file__).parent / "weights" / "pdn_s_teacher.safetensors"


def load_pdn_small(path: Path | None = None) -> PdnSmall:
    """Load a PDN-S teacher: ours by default, or a public one.

    Args:
        path: A `.safetensors` or `.pth` state dict with anomalib's keys (`conv1.weight`, ...) or
            nelson1425/EfficientAD's (`0.weight`, `3.weight`, ...); None loads the shipped teacher.

    Raises:
        WeightsNotFound: The file is missing, unreadable, or not a PDN-S.
    """
    path = path or shipped_teacher_path()
    network = PdnSmall()
    state = _renamed(_read_state_dict(path))
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in state.items()}
    if got != expected:
        raise WeightsNotFound(
            f"{path} is not a PDN-S teacher.",
            expected=expected,
            got=got or "no tensors",
            fix="give a PDN-S state dict, or omit the option to use the shipped teacher",
        )
    network.load_state_dict({key: value.float() for key, value in state.items()})
    return network.eval()


def _read_state_dict(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise WeightsNotFound(
            f"{path} does not exist.",
            expected="a PDN-S state dict (.safetensors or .pth)",
            got="no such file",
            fix="omit the option to use the shipped teacher, or run: edge-ad distill IMAGES -o FOLDER",
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except Exception as exc:  # torch and safetensors raise a zoo of types on a damaged file
        raise WeightsNotFound(
            f"{path} cannot be read as weights.", expected="a state dict", got=exc, fix="fetch the file again"
        ) from exc


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring both public naming schemes to ours; anything else passes unchanged and fails the shape check."""
    renamed = {}
    for key, value in state.items():
        layer, _, parameter = key.rpartition(".")
        layer = layer.removeprefix("model.").removeprefix("teacher.")
        renamed[f"{_SEQUENTIAL_TO_NAME.get(layer, layer)}.{parameter}"] = value
    return renamed
