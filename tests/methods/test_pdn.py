"""PDN-S and PDN-M: their shapes, their receptive field, their padding, and the files their weights come in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_ad.errors import WeightsNotFound
from edge_ad.methods.pdn import (
    CROPPED_CELLS,
    OUT_CHANNELS,
    RECEPTIVE_FIELD,
    Pdn,
    PdnMedium,
    PdnSmall,
    load_pdn_medium,
    load_pdn_small,
    shipped_medium_teacher_path,
    shipped_teacher_path,
)

KINDS = (PdnSmall, PdnMedium)
LOADS = {PdnSmall: load_pdn_small, PdnMedium: load_pdn_medium}
SHIPPED = {PdnSmall: shipped_teacher_path, PdnMedium: shipped_medium_teacher_path}
# nelson1425/EfficientAD's nn.Sequential counts pools and ReLUs too.
SEQUENTIAL = {"conv1": "0", "conv2": "3", "conv3": "6", "conv4": "8", "conv5": "10", "conv6": "12"}


def random_pdn(kind: type[Pdn] = PdnSmall, *, padding: bool = False) -> Pdn:
    torch.manual_seed(0)
    return kind(padding=padding).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "cells"), [((256, 256), (56, 56)), ((64, 128), (8, 24)), ((36, 36), (1, 1))])
def test_an_unpadded_network_of_stride_four(kind: type[Pdn], size: tuple[int, int], cells: tuple[int, int]) -> None:
    assert random_pdn(kind)(torch.zeros(1, 3, *size)).shape == (1, OUT_CHANNELS, *cells)
    assert cells[0] == size[0] // 4 - 2 * CROPPED_CELLS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "cells"), [((256, 256), (64, 64)), ((64, 128), (16, 32))])
def test_padded_outputs_cover_the_image(kind: type[Pdn], size: tuple[int, int], cells: tuple[int, int]) -> None:
    assert random_pdn(kind, padding=True)(torch.zeros(1, 3, *size)).shape == (1, OUT_CHANNELS, *cells)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing_inside(kind: type[Pdn]) -> None:
    """The padded cells whose patches lie within the image are the unpadded network's, 4 cells in."""
    image = torch.randn(1, 3, 72, 64, generator=torch.Generator().manual_seed(0))
    inside = slice(CROPPED_CELLS, -CROPPED_CELLS)
    padded, unpadded = random_pdn(kind, padding=True)(image), random_pdn(kind)(image)
    torch.testing.assert_close(padded[:, :, inside, inside], unpadded, rtol=1e-4, atol=1e-5)


def padded_small(network: PdnSmall, image: Tensor) -> Tensor:
    """nelson1425/EfficientAD's padding, written out: zeros of 3, 1, 3, 1, 1 before the layers but the last."""
    x = F.conv2d(F.pad(image, (3,) * 4), network.conv1.weight, network.conv1.bias).relu()
    x = F.avg_pool2d(F.pad(x, (1,) * 4), 2)
    x = F.conv2d(F.pad(x, (3,) * 4), network.conv2.weight, network.conv2.bias).relu()
    x = F.avg_pool2d(F.pad(x, (1,) * 4), 2)
    x = F.conv2d(F.pad(x, (1,) * 4), network.conv3.weight, network.conv3.bias).relu()
    return F.conv2d(x, network.conv4.weight, network.conv4.bias)


def padded_medium(network: PdnMedium, image: Tensor) -> Tensor:
    x = F.conv2d(F.pad(image, (3,) * 4), network.conv1.weight, network.conv1.bias).relu()
    x = F.avg_pool2d(F.pad(x, (1,) * 4), 2)
    x = F.conv2d(F.pad(x, (3,) * 4), network.conv2.weight, network.conv2.bias).relu()
    x = F.avg_pool2d(F.pad(x, (1,) * 4), 2)
    x = F.conv2d(x, network.conv3.weight, network.conv3.bias).relu()
    x = F.conv2d(F.pad(x, (1,) * 4), network.conv4.weight, network.conv4.bias).relu()
    x = F.conv2d(x, network.conv5.weight, network.conv5.bias).relu()
    return F.conv2d(x, network.conv6.weight, network.conv6.bias)


@pytest.mark.parametrize(("kind", "plain"), [(PdnSmall, padded_small), (PdnMedium, padded_medium)])
def test_the_padded_networks_written_out(kind: type[Pdn], plain: object) -> None:
    network, image = random_pdn(kind, padding=True), torch.rand(1, 3, 48, 40)
    torch.testing.assert_close(network(image), plain(network, image), rtol=1e-4, atol=1e-5)  # type: ignore[operator]


def shapes(network: Pdn) -> list[tuple[int, ...]]:
    return [tuple(value.shape) for name, value in network.named_parameters() if name.endswith("weight")]


def test_they_have_the_papers_layers() -> None:
    """Appendix A: PDN-S by kernels of 4, 4, 3, 4; PDN-M by kernels of 4, 4, 1, 3, 4, 1."""
    assert shapes(random_pdn(PdnSmall)) == [(128, 3, 4, 4), (256, 128, 4, 4), (256, 256, 3, 3), (384, 256, 4, 4)]
    assert shapes(random_pdn(PdnMedium)) == [
        (256, 3, 4, 4),
        (512, 256, 4, 4),
        (512, 512, 1, 1),
        (512, 512, 3, 3),
        (384, 512, 4, 4),
        (384, 384, 1, 1),
    ]


def test_their_parameters_counted_by_hand() -> None:
    counted = {kind: sum(value.numel() for value in random_pdn(kind).parameters()) for kind in KINDS}
    small = (48 * 128 + 128) + (2048 * 256 + 256) + (2304 * 256 + 256) + (4096 * 384 + 384)
    medium = (48 * 256 + 256) + (4096 * 512 + 512) + (512 * 512 + 512)
    medium += (4608 * 512 + 512) + (8192 * 384 + 384) + (384 * 384 + 384)
    assert counted == {PdnSmall: small, PdnMedium: medium}
    assert (small, medium) == (2_694_144, 8_026_624)


@pytest.mark.parametrize("kind", KINDS)
def test_the_receptive_field_is_33_pixels(kind: type[Pdn]) -> None:
    """Gradients tell which pixels an output depends on; cell 4 starts at pixel 16."""
    image = torch.zeros(1, 3, 80, 80, requires_grad=True)
    random_pdn(kind)(image)[0, :, 4, 4].sum().backward()
    for used in (image.grad.abs().sum((0, 1, 2)).nonzero(), image.grad.abs().sum((0, 1, 3)).nonzero()):
        assert (int(used.min()), int(used.max())) == (16, 16 + RECEPTIVE_FIELD - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pixel_outside_the_receptive_field_changes_nothing(kind: type[Pdn]) -> None:
    network, image = random_pdn(kind), torch.rand(1, 3, 80, 80)
    changed = {}
    before = network(image)[0, :, 4, 4]
    for pixel in (15, 16, 48, 49):
        other = image.clone()
        other[:, :, 30, pixel] += 1
        changed[pixel] = not torch.equal(network(other)[0, :, 4, 4], before)
    assert changed == {15: False, 16: True, 48: True, 49: False}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("scheme", ["ours", "sequential", "model.", "teacher."])
@pytest.mark.parametrize("kind", KINDS)
def test_public_state_dicts_load(tmp_path: Path, kind: type[Pdn], scheme: str, suffix: str) -> None:
    wanted = random_pdn(kind).state_dict()
    state = {_key(key, scheme): value for key, value in wanted.items()}
    path = tmp_path / f"teacher{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    loaded = LOADS[kind](path)
    assert not loaded.training
    assert {key: torch.equal(value, wanted[key]) for key, value in loaded.state_dict().items()} == dict.fromkeys(
        wanted, True
    )


def _key(key: str, scheme: str) -> str:
    layer, _, parameter = key.partition(".")
    if scheme == "sequential":
        return f"{SEQUENTIAL[layer]}.{parameter}"
    return key if scheme == "ours" else scheme + key


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_teacher_is_half_precision_and_loads_as_float32(kind: type[Pdn]) -> None:
    state = load_file(SHIPPED[kind]())
    assert {value.dtype for value in state.values()} == {torch.float16}
    loaded = LOADS[kind]().state_dict()
    assert {value.dtype for value in loaded.values()} == {torch.float32}
    assert torch.equal(loaded["conv4.weight"], state["conv4.weight"].float())


@pytest.mark.parametrize(("kind", "other"), [(PdnSmall, PdnMedium), (PdnMedium, PdnSmall)])
def test_errors_name_the_file_and_what_is_wrong(tmp_path: Path, kind: type[Pdn], other: type[Pdn]) -> None:
    of_other_size = tmp_path / "other.pth"
    torch.save(random_pdn(other).state_dict(), of_other_size)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(shipped_teacher_path().read_bytes()[:1000])
    name = {PdnSmall: "PDN-S", PdnMedium: "PDN-M"}[kind]
    expected = {
        tmp_path / "absent.pth": "does not exist",
        of_other_size: f"is not a {name} teacher",
        damaged: "cannot be read as weights",
    }
    for path, what in expected.items():
        with pytest.raises(WeightsNotFound, match=f"{re.escape(str(path))} {what}") as caught:
            LOADS[kind](path)
        assert caught.value.fix
