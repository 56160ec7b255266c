"""Networks with weights that answer sensibly, their one graph, and the pipeline of training written out plainly."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from edge_ad.demo.parts import draw_part
from edge_ad.methods.backbones import load_backbone
from edge_ad.methods.efficientad import EfficientAd
from edge_ad.methods.graph import InspectionGraph
from edge_ad.methods.pdn import load_pdn_small
from edge_ad.methods.simplenet import LocalFeatures, SimpleNet, SimpleNetOptions
from edge_ad.training.images import normalise, resize_rgb

SIZE = 256  # of the networks' input


@cache
def parts(camera: tuple[int, int], count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(count, height, width, 3): good parts seen by a camera of that size."""
    rng = np.random.default_rng(seed)
    return np.stack([draw_part(rng, size=camera)[0] for _ in range(count)])


def plain_inputs(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """What training feeds a network: resized by torch's interpolate, normalised."""
    return torch.stack([normalise(resize_rgb(image, SIZE)) for image in images])


@cache
def network(method: str) -> torch.nn.Module:
    """The shipped teacher, random heads with the statistics of a few parts; the same at every call."""
    torch.manual_seed(0)
    made = _simplenet() if method == "simplenet" else _efficientad()
    return made.eval().requires_grad_(False)


def _simplenet() -> SimpleNet:
    options = SimpleNetOptions()
    made = SimpleNet(LocalFeatures(load_backbone("pdn-s"), options.patch_size), options)
    features = made.features(plain_inputs(parts((SIZE, SIZE), 2, seed=1))).permute(0, 2, 3, 1).flatten(0, 2)
    made.train()
    with torch.no_grad():
        for _ in range(30):  # running statistics arrive at 1 - 0.9^30 = 96 % of what they measure
            made.discriminate(made.adaptor(features))
    return made


@torch.no_grad()
def _efficientad() -> EfficientAd:
    made = EfficientAd(load_pdn_small()).eval()
    inputs = plain_inputs(parts((SIZE, SIZE), 2, seed=1))
    output = made.teacher(inputs)
    made.teacher_mean.copy_(output.mean((0, 2, 3), keepdim=True))
    made.teacher_std.copy_(output.std((0, 2, 3), keepdim=True))
    for row, of_one in enumerate(made.maps(inputs)):
        made.quantiles[row] = torch.quantile(of_one, torch.tensor([0.9, 0.995]))
    return made


def inspection_graph(method: str, camera: tuple[int, int]) -> InspectionGraph:
    """The network behind the folded preprocessing of a camera."""
    return InspectionGraph(network(method), camera, SIZE).eval()
