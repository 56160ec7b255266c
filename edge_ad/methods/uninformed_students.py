"""Uninformed Students: an ensemble regresses a teacher's patch descriptors, and errs and disagrees on anomalies.

Source: Bergmann, Fauser, Sattlegger, Steger, "Uninformed Students: Student-Teacher Anomaly Detection with
Discriminative Latent Embeddings", CVPR 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_ad.methods.linear_maps import resize_matrix
from edge_ad.methods.options import option
from edge_ad.methods.patch_network import DESCRIPTOR, LAYERS, OUTPUT_STRIDES, PatchNetwork

__all__ = ["Ensemble", "UninformedStudents", "UninformedStudentsOptions"]


@dataclass(frozen=True, kw_only=True)
class UninformedStudentsOptions:
    """The paper's settings (sec. 4.2 and the supplement) but for the stride and the length of training."""

    image_size: int = option(256, "side of the network's input", metavar="PIXELS")
    receptive_fields: tuple[int, ...] = option(
        (33,),
        "p: sides of the patches, one teacher and one ensemble each (sec. 3.3); the paper averages 17 33 65",
        choices=tuple(LAYERS),
    )
    students: int = option(3, "M: networks of an ensemble (sec. 4.2)")
    output_stride: int = option(
        4,
        "distance of the descriptors; the paper's is 1. For each network at 256 pixels, p = 33 costs 19 billion "
        "multiply-adds at 4 and 115 at 1; p = 65 costs 14 and 108; p = 17, without pools, costs 166 and 202",
        choices=OUTPUT_STRIDES,
        metavar="PIXELS",
    )
    window: int = option(128, "side of the random part of an image a step learns; the paper's is all", metavar="PIXELS")
    steps: int = option(2000, "training steps of one window; the paper trains 100 epochs of whole images")
    learning_rate: float = option(5e-4, "peak of Adam, after which it falls to 0; the paper's is 1e-4 throughout")
    weight_decay: float = option(1e-5, "of Adam")
    teachers: Path | None = option(
        None, "folder of patch_teacher_<p>.safetensors; without it, this package's, for p = 33", metavar="FOLDER"
    )
    seed: int = option(0, "of every random choice")


class Ensemble(nn.Module):
    """A teacher and its M students, all of one receptive field.

    The teacher's descriptors are normalised by their mean and standard deviation over the training images
    (sec. 3.2), which `normalise_teacher` works into its last convolution.
    """

    def __init__(self, teacher: PatchNetwork, students: int) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False)
        self.students = PatchNetwork(teacher.patch, groups=students, output_stride=teacher.output_stride)

    @torch.no_grad()
    def normalise_teacher(self, mean: Tensor, std: Tensor) -> None:
        """From now on the teacher's descriptors are (y - mean) / std; (128,) each."""
        last = self.teacher.convolutions[-1]
        last.weight.div_(std[:, None, None, None])
        last.bias.sub_(mean).div_(std)

    def descriptors(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Of all patches inside (N, 3, H, W): teacher (N, 128, h, w), students (N, M, 128, h, w), float32."""
        students = self.students(view).float().unflatten(1, (self.students.groups, DESCRIPTOR))
        return self.teacher(view).float(), students

    def loss(self, view: Tensor) -> Tensor:
        """Mean squared error of the students over all patches inside (eq. 7, divided by a descriptor's length)."""
        target, predicted = self.descriptors(view)
        return (predicted - target[:, None]).square().mean()

    def maps(self, image: Tensor) -> Tensor:
        """Regression error of the ensemble's mean and predictive variance (eqs. 8 and 9): (N, 2, H / s, W / s).

        The variance is the mean squared distance from the mean: eq. 9's difference of squared norms, without its
        cancellation.
        """
        target, predicted = self.descriptors(self.teacher.mirrored(image))
        mean = predicted.mean(1)
        error = (mean - target).square().sum(1)
        variance = (predicted - mean[:, None]).square().sum(2).mean(1)
        return torch.stack([error, variance], 1)


class UninformedStudents(nn.Module):
    """Ensembles of one or several receptive fields and the statistics that make their maps comparable.

    Args:
        teachers: One for each receptive field, of one output stride.
        options: See UninformedStudentsOptions.

    Buffers, set during training:
        mean, std: Of the maps of each ensemble over the pixels of validation images, (L, 2), columns error and
            variance (sec. 3.2).
    """

    def __init__(self, teachers: list[PatchNetwork], options: UninformedStudentsOptions) -> None:
        super().__init__()
        self.ensembles = nn.ModuleList(Ensemble(teacher, options.students) for teacher in teachers)
        self.register_buffer("mean", torch.zeros(len(teachers), 2))
        self.register_buffer("std", torch.ones(len(teachers), 2))
        rows = resize_matrix(options.image_size // options.output_stride, options.image_size)
        self.register_buffer("to_pixels", torch.from_numpy(rows).float(), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) normalised RGB to the anomaly map (N, H, W) and its maximum (N,) (eqs. 10 and 11).

        Error and variance, each normalised, are added; their sums are averaged over the receptive fields.
        """
        scores = [
            ((ensemble.maps(image) - mean[:, None, None]) / std[:, None, None]).sum(1)
            for ensemble, mean, std in zip(self.ensembles, self.mean, self.std, strict=True)
        ]
        combined = torch.stack(scores).mean(0)
        anomaly_map = self.to_pixels @ combined @ self.to_pixels.T
        return anomaly_map, anomaly_map.amax((1, 2))
