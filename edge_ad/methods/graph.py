"""The one graph: a camera's raw bytes in, anomaly map and score out. What training ends in and stations run."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edge_ad.methods.backbones import IMAGENET_MEAN, IMAGENET_STD
from edge_ad.methods.linear_maps import Matrix, bands, resize_matrix

__all__ = ["BandedProduct", "InspectionGraph"]

BAND_ROWS = 16  # output pixels at once; fewer are no faster (docs/decisions/maps-as-matrices.md)


class BandedProduct(nn.Module):
    """A product with a constant matrix that is zero far from its diagonal: band by band, without the zeros.

    Args:
        matrix: (rows, columns).
        band: How many rows at once; they touch the columns of one slice.
        left: x (N, columns, M) to matrix @ x (N, rows, M), else x (N, M, columns) to x @ matrix.T (N, M, rows).
    """

    def __init__(self, matrix: Matrix, band: int, *, left: bool) -> None:
        super().__init__()
        self.left = left
        self.slices = []
        for index, (first, piece) in enumerate(bands(matrix, band)):
            self.slices.append((first, first + piece.shape[1]))
            oriented = piece if left else np.ascontiguousarray(piece.T)
            self.register_buffer(f"band_{index}", torch.from_numpy(oriented.copy()).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        pieces = list(zip(self.slices, self.buffers(), strict=True))
        if self.left:
            return torch.cat([band @ x[:, first:end] for (first, end), band in pieces], dim=1)
        return torch.cat([x[:, :, first:end] @ band for (first, end), band in pieces], dim=2)


class InspectionGraph(nn.Module):
    """Antialiased resize, colour order and normalisation in front of a method's network.

    The resize is two products with banded matrices. Both work on the camera's own memory layout (rows of interleaved
    BGR pixels), so that only the shrunken image is ever transposed; the second one also changes BGR to RGB and divides
    by the standard deviations.

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
        mean, std = 255 * np.array(IMAGENET_MEAN), 255 * np.array(IMAGENET_STD)
        if camera != (size, size):
            colours = np.fliplr(np.diag(1 / std))  # (RGB, BGR)
            self.rows = BandedProduct(resize_matrix(height, size), BAND_ROWS, left=True)
            self.columns = BandedProduct(np.kron(resize_matrix(width, size), colours), 3 * BAND_ROWS, left=False)
            mean, std = mean / std, np.ones(3)
        self.register_buffer("mean", torch.from_numpy(mean).float().view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.from_numpy(std).float().view(3, 1, 1), persistent=False)

    def prepare(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 BGR to (N, 3, size, size) float32 normalised RGB."""
        x = image.float()  # TensorRT takes uint8 only as the input of a cast
        height, width = self.camera
        if self.camera == (self.size, self.size):
            blue, green, red = x.permute(0, 3, 1, 2).split(1, dim=1)
            return (torch.cat([red, green, blue], dim=1) - self.mean) / self.std
        x = self.columns(self.rows(x.reshape(-1, height, width * 3)))
        return x.reshape(-1, self.size, self.size, 3).permute(0, 3, 1, 2) - self.mean

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, 3) uint8 BGR to (anomaly_map (N, h, w), score (N,)), both float32."""
        return self.network(self.prepare(image))
