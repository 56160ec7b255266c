"""ImageNet backbones as feature extractors: ResNet-18/50, Wide-ResNet-50-2/101-2, and our PDN-S.

Layer and parameter names are those of torchvision's checkpoints, so a downloaded file loads unchanged.
Only the trunk up to the last layer that is asked for is built; nothing is ever downloaded.

Sources: He et al., "Deep Residual Learning", CVPR 2016; Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_ad.errors import WeightsNotFound
from edge_ad.methods.pdn import PdnSmall, load_pdn_small

__all__ = [
    "BACKBONES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "BasicBlock",
    "Bottleneck",
    "FeatureExtractor",
    "PdnTrunk",
    "ResNetSpec",
    "ResNetTrunk",
    "empty_backbone",
    "load_backbone",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB in [0, 1], torchvision's ImageNet recipe
IMAGENET_STD = (0.229, 0.224, 0.225)
WEIGHTS_FOLDER_VARIABLE = "EDGE_AD_WEIGHTS"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18/34)."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int, group_width: int) -> None:
        super().__init__()
        assert group_width == 64, "wide variants exist for bottleneck blocks only"
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; the stride sits on the 3x3 (ResNet V1.5)."""

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int, group_width: int) -> None:
        super().__init__()
        width = channels * group_width // 64
        channels_out = channels * self.expansion
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample = _shortcut(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module | None:
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))


@dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """What tells one ResNet from another, and the file torchvision publishes its weights in."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int, int]
    group_width: int
    torchvision_file: str


BACKBONES: dict[str, ResNetSpec | None] = {
    "pdn-s": None,  # ours, shipped: edge_ad/methods/pdn.py
    "resnet18": ResNetSpec(
        block=BasicBlock, depths=(2, 2, 2, 2), group_width=64, torchvision_file="resnet18-f37072fd.pth"
    ),
    "resnet50": ResNetSpec(
        block=Bottleneck, depths=(3, 4, 6, 3), group_width=64, torchvision_file="resnet50-0676ba61.pth"
    ),
    "wide_resnet50_2": ResNetSpec(
        block=Bottleneck, depths=(3, 4, 6, 3), group_width=128, torchvision_file="wide_resnet50_2-95faca4d.pth"
    ),
    "wide_resnet101_2": ResNetSpec(
        block=Bottleneck, depths=(3, 4, 23, 3), group_width=128, torchvision_file="wide_resnet101_2-32ee1156.pth"
    ),
}


class ResNetTrunk(nn.Module):
    """conv1 to the last layer asked for; returns the outputs of `layers`, finest first."""

    def __init__(self, spec: ResNetSpec, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = layers
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.out_channels = []
        channels_in = 64
        for index in range(1, max(layers) + 1):
            channels = 32 * 2**index
            blocks = []
            for depth in range(spec.depths[index - 1]):
                stride = 2 if depth == 0 and index > 1 else 1
                blocks.append(spec.block(channels_in, channels, stride, spec.group_width))
                channels_in = channels * spec.block.expansion
            self.add_module(f"layer{index}", nn.Sequential(*blocks))
            if index in layers:
                self.out_channels.append(channels_in)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.maxpool(self.bn1(self.conv1(image)).relu())
        outputs = []
        for index in range(1, max(self.layers) + 1):
            x = self.get_submodule(f"layer{index}")(x)
            if index in self.layers:
                outputs.append(x)
        return outputs


class PdnTrunk(nn.Module):
    """A PDN-S as a backbone with one output.

    The teacher was distilled to channels of unit variance over natural images; on parts they vary by about 0.6.
    ResNet-18's layers 2 and 3, which it learned from, vary by 0.12 there. The outputs are brought to that scale,
    for which SimpleNet's feature noise of 0.015 was chosen.
    """

    SCALE = 0.2

    def __init__(self, pdn: PdnSmall) -> None:
        super().__init__()
        self.pdn = pdn
        self.out_channels = [pdn.conv4.out_channels]

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.SCALE * self.pdn(image)]


FeatureExtractor = ResNetTrunk | PdnTrunk


def load_backbone(name: str, *, layers: tuple[int, ...] = (2, 3), weights: Path | None = None) -> FeatureExtractor:
    """A frozen, pretrained trunk: (N, 3, H, W) ImageNet-normalised RGB to a list of feature maps.

    Args:
        name: A key of `BACKBONES`. "pdn-s" ignores `layers`: it has one output, of stride 4.
        layers: Which residual stages to return, 1 to 4.
        weights: A checkpoint; by default torchvision's file name in the folder $EDGE_AD_WEIGHTS names.

    Raises:
        WeightsNotFound: The checkpoint is missing, unreadable, or lacks tensors this trunk needs.
    """
    trunk = empty_backbone(name, layers=layers)
    spec = BACKBONES[name]
    if spec is None:
        trunk = PdnTrunk(load_pdn_small(weights))
    else:
        _load_checkpoint(trunk, name, weights or _default_path(name, spec))
    return trunk.eval().requires_grad_(False)


def empty_backbone(name: str, *, layers: tuple[int, ...] = (2, 3)) -> FeatureExtractor:
    """The same trunk with random weights, for a state dict to be loaded into.

    Raises:
        WeightsNotFound: There is no such backbone.
    """
    if name not in BACKBONES:
        raise WeightsNotFound(f"There is no backbone {name!r}.", expected=" or ".join(BACKBONES), got=name)
    spec = BACKBONES[name]
    trunk = PdnTrunk(PdnSmall()) if spec is None else ResNetTrunk(spec, layers)
    return trunk.eval().requires_grad_(False)


def _default_path(name: str, spec: ResNetSpec) -> Path:
    folder = os.environ.get(WEIGHTS_FOLDER_VARIABLE)
    path = Path(folder or ".") / spec.torchvision_file
    if folder and path.is_file():
        return path
    raise WeightsNotFound(
        f"The ImageNet weights of {name} are not on this machine, and nothing is downloaded silently.",
        expected=f"{spec.torchvision_file} (torchvision's IMAGENET1K_V1 checkpoint)",
        got=f"no {path}" if folder else f"${WEIGHTS_FOLDER_VARIABLE} is not set",
        fix=f"fetch https://download.pytorch.org/models/{spec.torchvision_file} and pass --weights FILE, "
        f"or put it in a folder and set {WEIGHTS_FOLDER_VARIABLE} to that folder; --backbone pdn-s needs no file",
    )


def _load_checkpoint(trunk: nn.Module, name: str, path: Path) -> None:
    try:
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise WeightsNotFound(f"{path} does not exist.", expected=f"the weights of {name}", got="no such file") from exc
    except Exception as exc:  # torch raises a zoo of types on a damaged file
        raise WeightsNotFound(f"{path} cannot be read as weights.", expected=f"the weights of {name}", got=exc) from exc
    wanted = {key: tuple(value.shape) for key, value in trunk.state_dict().items()}
    bad = [key for key, shape in wanted.items() if key not in state or tuple(state[key].shape) != shape]
    if bad:
        first = tuple(state[bad[0]].shape) if bad[0] in state else "absent"
        raise WeightsNotFound(
            f"{path} does not hold the weights of {name}: {len(bad)} of {len(wanted)} tensors are absent or misshapen.",
            expected=f"{bad[0]} {wanted[bad[0]]}",
            got=first,
            fix=f"give the checkpoint of {name}, or name the backbone the file belongs to with --backbone",
        )
    trunk.load_state_dict({key: state[key] for key in wanted})
