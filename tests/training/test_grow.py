"""A grown PDN-M computes what the PDN-S does, and can learn what it cannot."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from edge_ad.demo.parts import draw_part
from edge_ad.methods.pdn import PdnSmall, load_pdn_small, shipped_teacher_path
from edge_ad.training.grow import LIFT, grown
from edge_ad.training.images import normalise, resize_rgb


def part() -> torch.Tensor:
    import numpy as np

    return normalise(resize_rgb(draw_part(np.random.default_rng(0), size=(64, 64))[0], 64))[None]


def test_a_grown_network_is_the_same_function() -> None:
    torch.manual_seed(0)
    small = load_pdn_small()
    with torch.inference_mode():
        wanted = small(part())
        assert wanted.min() > -LIFT
        torch.testing.assert_close(grown(small)(part()), wanted, rtol=1e-4, atol=1e-4)


def test_outputs_below_the_lift_are_cut_there() -> None:
    """Why the lift is 4: what falls below does not pass the ReLU."""
    torch.manual_seed(0)
    small = PdnSmall()
    with torch.no_grad():
        small.conv4.bias -= 5
        torch.testing.assert_close(grown(small)(part()), small(part()).clamp_min(-LIFT), rtol=1e-4, atol=1e-4)


def test_padding_is_kept() -> None:
    small = load_pdn_small(padding=True)
    with torch.inference_mode():
        torch.testing.assert_close(grown(small)(part()), small(part()), rtol=1e-4, atol=1e-4)


def test_every_added_channel_can_learn() -> None:
    """Gradients reach the zero weights out of the added channels; in them is noise that differs."""
    torch.manual_seed(0)
    medium = grown(load_pdn_small())
    medium(part()).square().mean().backward()
    for layer, before in ((medium.conv2, 128), (medium.conv3, 256), (medium.conv4, 256), (medium.conv5, 256)):
        added = layer.weight[: layer.out_channels // 2, before:]
        assert not added.any()
        reached = layer.weight.grad[: layer.out_channels // 2, before:].abs().sum((0, 2, 3)) > 0
        assert reached.float().mean() > 0.5  # the others' ReLUs are silent on this image
    assert len({tuple(row.flatten().tolist()[:4]) for row in medium.conv1.weight[128:]}) == 128


def test_the_shipped_teacher_loses_nothing_to_half_precision() -> None:
    state = load_file(shipped_teacher_path())
    assert torch.equal(grown(load_pdn_small()).conv1.weight[:128], state["conv1.weight"].float())
