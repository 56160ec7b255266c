"""A PDN-M that starts as the function of a PDN-S.

Source: Chen, Goodfellow, Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016: a larger network
is initialised to compute what a trained smaller one does. Here the added channels get random weights into them and
zero weights out of them, which breaks their symmetry without noise.
"""

from __future__ import annotations

import torch
from torch import nn

from edge_ad.methods.pdn import PdnMedium, PdnSmall

__all__ = ["grown"]

# PDN-M has a ReLU before its last convolution, PDN-S has none. Teachers' outputs have unit variance over natural
# images and hardly ever fall below -4: lifted by 4 they pass the ReLU unchanged, and the last bias lowers them again.
LIFT = 4.0


@torch.no_grad()
def grown(small: PdnSmall) -> PdnMedium:
    """The PDN-M whose outputs are those of `small`, wherever these are above -4."""
    medium = PdnMedium(small.conv4.out_channels, padding=small.padding)
    for layer in (medium.conv1, medium.conv2, medium.conv3, medium.conv4):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    _place(medium.conv1, small.conv1.weight, small.conv1.bias)
    _place(medium.conv2, small.conv2.weight, small.conv2.bias)
    width = small.conv2.out_channels
    _place(medium.conv3, torch.eye(width)[:, :, None, None], torch.zeros(width))  # averages of ReLUs pass a ReLU
    _place(medium.conv4, small.conv3.weight, small.conv3.bias)
    _place(medium.conv5, small.conv4.weight, small.conv4.bias + LIFT)
    outputs = small.conv4.out_channels
    _place(medium.conv6, torch.eye(outputs)[:, :, None, None], torch.full((outputs,), -LIFT))
    return medium


def _place(layer: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Set the first channels of a layer, which see none of the inputs that `weight` does not know."""
    outputs, inputs = weight.shape[:2]
    layer.weight[:outputs, :inputs] = weight
    layer.weight[:outputs, inputs:] = 0
    layer.bias[:outputs] = bias
