"""The patch description networks of EfficientAD, small and medium, and where their weights come from.

Source: Batzner, Heckler, König, "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level
Latencies", WACV 2024, sec. 3.1 and appendix A's tables of the PDN-S and PDN-M layers. The padded form follows
nelson1425/EfficientAD.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_ad.errors import WeightsNotFound

__all__ = [
    "CROPPED_CELLS",
    "OUT_CHANNELS",
    "RECEPTIVE_FIELD",
    "STRIDE",
    "Pdn",
    "PdnMedium",
    "PdnSmall",
    "load_pdn_medium",
    "load_pdn_small",
    "shipped_medium_teacher_path",
    "shipped_teacher_path",
]

OUT_CHANNELS = 384  # EfficientAD, sec. 3.1: feature vectors of the teacher
STRIDE = 4  # two 2x2 average pools
RECEPTIVE_FIELD = 33  # EfficientAD, sec. 3.1: each output describes a 33 x 33 patch
CROPPED_CELLS = 4  # output cells that an unpadded network loses at each border: (33 - 1) / 2 / 4

# anomalib names the layers conv1, conv2, ...; nelson1425/EfficientAD numbers them within an nn.Sequential.
_SEQUENTIAL_TO_NAME = {"0": "conv1", "3": "conv2", "6": "conv3", "8": "conv4", "10": "conv5", "12": "conv6"}


class PdnSmall(nn.Module):
    """PDN-S: four convolutions and two average pools (EfficientAD, sec. 3.1).

    Maps an image (N, 3, H, W), ImageNet-normalised RGB, to (N, out_channels, H / 4 - 8, W / 4 - 8), or with
    `padding` to (N, out_channels, H / 4, W / 4), for sides that are multiples of 4. Padded and unpadded outputs
    are equal where a patch lies within the image; the padded ones have 4 more cells at each border, made of zeros
    in part.
    """

    def __init__(self, out_channels: int = OUT_CHANNELS, *, padding: bool = False) -> None:
        super().__init__()
        self.padding = padding
        self.conv1 = nn.Conv2d(3, 128, 4, padding=3 * padding)
        self.conv2 = nn.Conv2d(128, 256, 4, padding=3 * padding)
        self.conv3 = nn.Conv2d(256, 256, 3, padding=1 * padding)
        self.conv4 = nn.Conv2d(256, out_channels, 4)
        self.pool = nn.AvgPool2d(2, 2, padding=1 * padding)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.conv1(image).relu())
        x = self.pool(self.conv2(x).relu())
        return self.conv4(self.conv3(x).relu())


class PdnMedium(nn.Module):
    """PDN-M: twice as wide and two 1 x 1 convolutions deeper than PDN-S; the same patches and output sizes."""

    def __init__(self, out_channels: int = OUT_CHANNELS, *, padding: bool = False) -> None:
        super().__init__()
        self.padding = padding
        self.conv1 = nn.Conv2d(3, 256, 4, padding=3 * padding)
        self.conv2 = nn.Conv2d(256, 512, 4, padding=3 * padding)
        self.conv3 = nn.Conv2d(512, 512, 1)
        self.conv4 = nn.Conv2d(512, 512, 3, padding=1 * padding)
        self.conv5 = nn.Conv2d(512, out_channels, 4)
        self.conv6 = nn.Conv2d(out_channels, out_channels, 1)
        self.pool = nn.AvgPool2d(2, 2, padding=1 * padding)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.conv1(image).relu())
        x = self.pool(self.conv2(x).relu())
        x = self.conv4(self.conv3(x).relu()).relu()
        return self.conv6(self.conv5(x).relu())


Pdn = PdnSmall | PdnMedium


def shipped_teacher_path() -> Path:
    """The PDN-S teacher distilled by this project (float16, see MODEL_CARD.md beside it)."""
    return Path(__file__).parent / "weights" / "pdn_s_teacher.safetensors"


def shipped_medium_teacher_path() -> Path:
    """The PDN-M teacher distilled by this project (float16, see MODEL_CARD.md beside it)."""
    return Path(__file__).parent / "weights" / "pdn_m_teacher.safetensors"


def load_pdn_small(path: Path | None = None, *, padding: bool = False) -> PdnSmall:
    """Load a PDN-S teacher: ours by default, or a public one.

    Args:
        path: A `.safetensors` or `.pth` state dict with anomalib's keys (`conv1.weight`, ...) or
            nelson1425/EfficientAD's (`0.weight`, `3.weight`, ...); None loads the shipped teacher.
        padding: See PdnSmall; the weights are the same.

    Raises:
        WeightsNotFound: The file is missing, unreadable, or not a PDN-S.
    """
    network = PdnSmall(padding=padding)
    _load(network, path or shipped_teacher_path(), "PDN-S")
    return network


def load_pdn_medium(path: Path | None = None, *, padding: bool = False) -> PdnMedium:
    """Load a PDN-M teacher, as `load_pdn_small` loads a PDN-S."""
    network = PdnMedium(padding=padding)
    _load(network, path or shipped_medium_teacher_path(), "PDN-M")
    return network


def _load(network: Pdn, path: Path, name: str) -> None:
    state = _renamed(_read_state_dict(path, f"edge-ad distill IMAGES --student {name.lower()} -o FOLDER"))
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in state.items()}
    if got != expected:
        raise WeightsNotFound(
            f"{path} is not a {name} teacher.",
            expected=expected,
            got=got or "no tensors",
            fix=f"give a {name} state dict, or omit the option to use the shipped teacher",
        )
    network.load_state_dict({key: value.float() for key, value in state.items()})
    network.eval()


def _read_state_dict(path: Path, command: str) -> Mapping[str, Tensor]:
    """The tensors of a `.safetensors` or `.pth` file; `command` makes such a file."""
    if not path.is_file():
        raise WeightsNotFound(
            f"{path} does not exist.",
            expected="a state dict (.safetensors or .pth)",
            got="no such file",
            fix=f"omit the option to use the shipped teacher, or run: {command}",
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
