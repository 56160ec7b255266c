"""The one graph: a camera's raw bytes in, anomaly map and score out. What training ends in and stations run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_ad.methods.backbones import IMAGENET_MEAN, IMAGENET_STD
from edge_ad.methods.linear_maps import resize_matrix

__all__ = ["InspectionGraph"]


class InspectionGraph(nn.Module):
    """Antialiased resize, colour order and normalisation in front of a method's network.

    The resize is two constant matrices. The first works on the camera's own memory layout (rows of interleaved
    BGR pixels), so that only the shrunken image is ever transposed.

    Args:
        network: (N, 3, size, size) normalised RGB to anomaly_map (N, h, w) and score (N,).
        camera: (height, width) of the frames.
        size: Side of the network's square input.
    """

    def __init__(self, network: nn.Module, camera: tuple[int, int], size: int) -> None:
        super().__init__()
        self.network = network
        self.camera, self.size = camera, size
        height, width = camera
        self.register_buffer("rows", torch.from_numpy(resize_matrix(height, size)).float())
        self.register_buffer("columns", torch.from_numpy(resize_matrix(width, size).T.copy()).float())
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def prepare(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 BGR to (N, 3, size, size) float32 normalised RGB."""
        x = image.float()  # TensorRT takes uint8 only as the input of a cast
        if self.camera == (self.size, self.size):
            x = x.permute(0, 3, 1, 2)
        else:
            height, width = self.camera
            x = self.rows @ x.reshape(-1, height, width * 3)
            x = x.reshape(-1, self.size, width, 3).permute(0, 3, 1, 2) @ self.columns
        blue, green, red = x.split(1, dim=1)
        return (torch.cat([red, green, blue], dim=1) - self.mean) / self.std

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, 3) uint8 BGR to (anomaly_map (N, h, w), score (N,)), both float32."""
        return self.network(self.prepare(image))
