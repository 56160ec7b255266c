"""PDN-S: its shapes, its receptive field, and the files its weights come in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_ad.errors import WeightsNotFound
from edge_ad.methods.pdn import CROPPED_CELLS, OUT_CHANNELS, PdnSmall, load_pdn_small, shipped_teacher_path

SEQUENTIAL = {"conv1": "0", "conv2": "3", "conv3": "6", "conv4": "8"}  # nelson1425/EfficientAD's nn.Sequential


def random_pdn() -> PdnSmall:
    torch.manual_seed(0)
    return PdnSmall().eval()


@pytest.mark.parametrize(("size", "cells"), [((256, 256), (56, 56)), ((64, 128), (8, 24)), ((36, 36), (1, 1))])
def test_an_unpadded_network_of_stride_four(size: tuple[int, int], cells: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert random_pdn()(torch.zeros(2, 3, *size)).shape == (2, OUT_CHANNELS, *cells)
    assert cells[0] == size[0] // 4 - 2 * CROPPED_CELLS


def test_it_has_the_papers_layers() -> None:
    """Table 6 of the paper: 128, 256, 256 and 384 channels by kernels of 4, 4, 3 and 4."""
    shapes = {name: tuple(value.shape) for name, value in random_pdn().named_parameters() if name.endswith("weight")}
    assert list(shapes.values()) == [(128, 3, 4, 4), (256, 128, 4, 4), (256, 256, 3, 3), (384, 256, 4, 4)]


def test_the_receptive_field_is_33_pixels() -> None:
    """Gradients tell which pixels an output depends on; cell 4 starts at pixel 16."""
    image = torch.zeros(1, 3, 80, 80, requires_grad=True)
    random_pdn()(image)[0, :, 4, 4].sum().backward()
    for used in (image.grad.abs().sum((0, 1, 2)).nonzero(), image.grad.abs().sum((0, 1, 3)).nonzero()):
        assert (int(used.min()), int(used.max())) == (16, 16 + 33 - 1)


def test_a_pixel_outside_the_receptive_field_changes_nothing() -> None:
    network, image = random_pdn(), torch.rand(1, 3, 80, 80)
    changed = {}
    with torch.inference_mode():
        before = network(image)[0, :, 4, 4]
        for pixel in (15, 16, 48, 49):
            other = image.clone()
            other[:, :, 30, pixel] += 1
            changed[pixel] = not torch.equal(network(other)[0, :, 4, 4], before)
    assert changed == {15: False, 16: True, 48: True, 49: False}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("scheme", ["ours", "sequential", "model.", "teacher."])
def test_public_state_dicts_load(tmp_path: Path, scheme: str, suffix: str) -> None:
    wanted = random_pdn().state_dict()
    state = {_key(key, scheme): value for key, value in wanted.items()}
    path = tmp_path / f"teacher{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    loaded = load_pdn_small(path)
    assert not loaded.training
    assert {key: torch.equal(value, wanted[key]) for key, value in loaded.state_dict().items()} == dict.fromkeys(
        wanted, True
    )


def _key(key: str, scheme: str) -> str:
    layer, _, parameter = key.partition(".")
    if scheme == "sequential":
        return f"{SEQUENTIAL[layer]}.{parameter}"
    return key if scheme == "ours" else scheme + key


def test_the_shipped_teacher_is_half_precision_and_loads_as_float32() -> None:
    state = load_file(shipped_teacher_path())
    assert {value.dtype for value in state.values()} == {torch.float16}
    loaded = load_pdn_small().state_dict()
    assert {value.dtype for value in loaded.values()} == {torch.float32}
    assert torch.equal(loaded["conv4.weight"], state["conv4.weight"].float())


def test_errors_name_the_file_and_what_is_wrong(tmp_path: Path) -> None:
    medium = tmp_path / "medium.pth"
    torch.save({**random_pdn().state_dict(), "conv5.weight": torch.zeros(1)}, medium)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(shipped_teacher_path().read_bytes()[:1000])
    expected = {
        tmp_path / "absent.pth": "does not exist",
        medium: "is not a PDN-S teacher",
        damaged: "cannot be read as weights",
    }
    for path, what in expected.items():
        with pytest.raises(WeightsNotFound, match=f"{re.escape(str(path))} {what}") as caught:
            load_pdn_small(path)
        assert caught.value.fix
