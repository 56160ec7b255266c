"""Patch description networks and their exact dense form.

Sources: Bergmann, Fauser, Sattlegger, Steger, "Uninformed Students: Student-Teacher Anomaly Detection with
Discriminative Latent Embeddings", CVPR 2020 (sec. 3.1 and the tables of the supplement); Bailer, Habtegebrial,
Varanasi, Stricker, "Fast Feature Extraction with CNNs with Pooling Layers", BMVC 2017, for the dense form.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edge_ad.errors import WeightsNotFound

__all__ = [
    "DESCRIPTOR",
    "LAYERS",
    "OUTPUT_STRIDES",
    "PatchNetwork",
    "load_patch_teacher",
    "pixels_seen",
    "shipped_patch_teacher_path",
]

DESCRIPTOR = 128  # d: length of a descriptor
LEAK = 5e-3  # slope of the leaky ReLU
OUTPUT_STRIDES = (1, 2, 4, 8)

# Patch side p -> (channels, kernel, followed by a 2 x 2 max pool) of each convolution.
LAYERS: dict[int, tuple[tuple[int, int, bool], ...]] = {
    17: ((128, 6, False), (256, 5, False), (256, 5, False), (128, 4, False)),
    33: ((128, 5, True), (256, 5, True), (256, 2, False), (128, 4, False)),
    65: ((128, 5, True), (128, 5, True), (128, 5, True), (256, 4, False), (128, 1, False)),
}


def pixels_seen(patch: int) -> int:
    """Side of the square that a descriptor depends on: 17, 32 and 60 of the patch's 17, 33 and 65 pixels.

    The pools of the larger networks leave out the last row and column where they meet an odd size.
    """
    side = 1
    for _, kernel, pooled in reversed(LAYERS[patch]):
        side = (2 * side if pooled else side) + kernel - 1
    return side


class PatchNetwork(nn.Module):
    """`groups` networks that describe patches of one size, side by side, at every `output_stride`-th pixel.

    Patch by patch, a network maps (N, 3, p, p) to one descriptor. The dense form computes what all patches share
    only once and is equal to that: a pool keeps its stride while the product of strides divides `output_stride`;
    every later pool takes the maximum at all positions instead, and what follows it is dilated by 2. Stride 1 is
    the paper's; a larger one leaves out descriptors and changes none.

    The networks share their input, so the first convolution is one dense layer with the outputs of all; the later
    ones are grouped.

    Args:
        patch: p, a key of LAYERS.
        groups: How many networks.
        output_stride: One of OUTPUT_STRIDES, in pixels.
    """

    def __init__(self, patch: int, *, groups: int = 1, output_stride: int = 1) -> None:
        super().__init__()
        self.patch, self.groups, self.output_stride = patch, groups, output_stride
        self.convolutions = nn.ModuleList()
        channels_in = 3
        for channels, kernel, _ in LAYERS[patch]:
            inputs = groups * channels_in if self.convolutions else channels_in
            layer = nn.Conv2d(inputs, groups * channels, kernel, groups=groups if self.convolutions else 1)
            nn.init.kaiming_normal_(layer.weight, a=LEAK)
            nn.init.zeros_(layer.bias)
            self.convolutions.append(layer)
            channels_in = channels

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) to the descriptors of all patches inside, (N, groups * 128, h, w), every stride-th pixel."""
        x, stride, dilation = image, 1, 1
        *hidden, last = self.convolutions
        for layer, (_, _, pooled) in zip(hidden, LAYERS[self.patch], strict=False):
            x = F.leaky_relu(F.conv2d(x, layer.weight, layer.bias, dilation=dilation, groups=layer.groups), LEAK)
            if pooled and 2 * stride <= self.output_stride:
                x, stride = F.max_pool2d(x, 2), 2 * stride
            elif pooled:
                x, dilation = _largest_of_four(x, dilation), 2 * dilation
        return F.conv2d(
            x, last.weight, last.bias, stride=self.output_stride // stride, dilation=dilation, groups=last.groups
        )

    def mirrored(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) with mirrored borders, so that its descriptors cover it: forward gives H / s x W / s of them.

        Descriptor i looks at the square centred on the i-th cell of s pixels, within half a pixel. H and W are
        multiples of the output stride s.
        """
        border = pixels_seen(self.patch) - self.output_stride
        before, after = border // 2, border - border // 2
        return F.pad(image, (before, after, before, after), mode="reflect")


def _largest_of_four(x: Tensor, distance: int) -> Tensor:
    """A 2 x 2 max pool of stride 1 and dilation `distance`, by comparisons: TensorRT has no dilated pools."""
    x = torch.maximum(x[:, :, :-distance], x[:, :, distance:])
    return torch.maximum(x[:, :, :, :-distance], x[:, :, :, distance:])


def shipped_patch_teacher_path(patch: int) -> Path:
    """Where the teacher distilled by this project lies, for p = 33 (float16, see MODEL_CARD.md beside it)."""
    return Path(__file__).parent / "weights" / f"patch_teacher_{patch}.safetensors"


def load_patch_teacher(patch: int, folder: Path | None = None, *, output_stride: int = 1) -> PatchNetwork:
    """A teacher for patches of side `patch`: ours by default, or `patch_teacher_<p>.safetensors` of a folder.

    Raises:
        WeightsNotFound: The file is missing, unreadable, or of another network.
    """
    path = shipped_patch_teacher_path(patch)
    path = path if folder is None else folder / path.name
    network = PatchNetwork(patch, output_stride=output_stride)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as exc:
        raise WeightsNotFound(
            f"{path} cannot be read as the teacher for patches of {patch} pixels.",
            expected="a state dict in a .safetensors file",
            got=exc,
            fix=f"edge-ad distill-patches IMAGES --patch {patch} -o FOLDER, then --teachers FOLDER; "
            "this package has the teacher for 33 pixels",
        ) from exc
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in state.items()}
    if got != expected:
        raise WeightsNotFound(
            f"{path} does not describe patches of {patch} pixels.",
            expected=expected,
            got=got or "no tensors",
            fix="give a folder that edge-ad distill-patches made",
        )
    network.load_state_dict({key: value.float() for key, value in state.items()})
    return network.eval()
