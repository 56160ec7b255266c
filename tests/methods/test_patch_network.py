"""The dense form against patch-by-patch evaluation by the plain networks of the paper's tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edge_ad.errors import WeightsNotFound
from edge_ad.methods.patch_network import LAYERS, OUTPUT_STRIDES, PatchNetwork, load_patch_teacher, pixels_seen

EVERY_FORM = [(patch, stride) for patch in LAYERS for stride in OUTPUT_STRIDES]


def plain_network(patch: int) -> nn.Sequential:
    """The supplement's tables, written out."""

    def leak() -> nn.LeakyReLU:
        return nn.LeakyReLU(5e-3)

    if patch == 17:
        layers = [nn.Conv2d(3, 128, 6), leak(), nn.Conv2d(128, 256, 5), leak(), nn.Conv2d(256, 256, 5), leak()]
        layers += [nn.Conv2d(256, 128, 4)]
    elif patch == 33:
        layers = [nn.Conv2d(3, 128, 5), leak(), nn.MaxPool2d(2), nn.Conv2d(128, 256, 5), leak(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(256, 256, 2), leak(), nn.Conv2d(256, 128, 4)]
    else:
        layers = [nn.Conv2d(3, 128, 5), leak(), nn.MaxPool2d(2), nn.Conv2d(128, 128, 5), leak(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(128, 128, 5), leak(), nn.MaxPool2d(2), nn.Conv2d(128, 256, 4), leak()]
        layers += [nn.Conv2d(256, 128, 1)]
    return nn.Sequential(*layers)


def pair(patch: int, stride: int) -> tuple[nn.Sequential, PatchNetwork]:
    """The plain network and the dense form with its weights, in double precision."""
    torch.manual_seed(patch)
    plain = plain_network(patch).double().eval().requires_grad_(False)
    dense = PatchNetwork(patch, output_stride=stride).double().eval().requires_grad_(False)
    dense.load_state_dict(dict(zip(dense.state_dict(), plain.state_dict().values(), strict=True)))
    return plain, dense


def random_image(side: int, seed: int = 0) -> Tensor:
    return torch.randn(1, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("patch", "stride"), EVERY_FORM)
def test_dense_descriptors_are_those_of_the_patches(patch: int, stride: int) -> None:
    """Every patch with its corner on the grid of the stride; offsets that are odd, even and at both ends."""
    plain, dense = pair(patch, stride)
    slack = 11
    image = random_image(patch + slack)
    descriptors = dense(image)
    corners = range(0, slack + 1, stride)
    assert descriptors.shape[-1] >= len(corners)
    chosen = {0, 1, len(corners) // 2, len(corners) - 2, len(corners) - 1} & set(range(len(corners)))
    for row, column in [(i, j) for i in chosen for j in {0, len(corners) - 1, i}]:
        top, left = corners[row], corners[column]
        expected = plain(image[:, :, top : top + patch, left : left + patch])
        assert expected.shape == (1, 128, 1, 1)
        torch.testing.assert_close(descriptors[:, :, row, column], expected[:, :, 0, 0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("patch", "stride"), EVERY_FORM)
def test_borders_are_mirrored_so_that_descriptors_cover_the_image(patch: int, stride: int) -> None:
    """The first, last and a middle descriptor, from an image padded by numpy; sides seen are centred on the cells."""
    plain, dense = pair(patch, stride)
    side, seen = 64, pixels_seen(patch)
    image = random_image(side)
    descriptors = dense(dense.mirrored(image))
    assert descriptors.shape == (1, 128, side // stride, side // stride)
    padded = np.pad(image.numpy(), ((0, 0), (0, 0), (seen, seen), (seen, seen)), mode="reflect")
    cells = side // stride
    for cell in (0, cells // 2, cells - 1):
        centre = stride * cell + (stride - 1) / 2
        first = int(np.ceil(centre - (seen - 1) / 2))  # in pixels of the image; a half is rounded up
        window = padded[:, :, seen + first : seen + first + seen, seen + first : seen + first + seen]
        whole = np.zeros((1, 3, patch, patch))
        whole[:, :, :seen, :seen] = window
        expected = plain(torch.from_numpy(whole))[:, :, 0, 0]
        torch.testing.assert_close(descriptors[:, :, cell, cell], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("patch", "seen"), [(17, 17), (33, 32), (65, 60)])
def test_the_pixels_seen_and_no_other_ones_matter(patch: int, seen: int) -> None:
    """Pools that drop the last row and column of an odd size leave the tables' networks less than the patch."""
    assert pixels_seen(patch) == seen
    plain, _ = pair(patch, 8)
    image = random_image(patch)
    before = plain(image)
    for line in range(patch):
        for axis in (2, 3):
            changed = image.clone()
            changed.select(axis, line).add_(3.0)
            assert torch.equal(plain(changed), before) == (line >= seen)


@pytest.mark.parametrize("patch", LAYERS)
def test_networks_side_by_side_are_the_networks_alone(patch: int) -> None:
    torch.manual_seed(0)
    alone = [PatchNetwork(patch, output_stride=4) for _ in range(3)]
    together = PatchNetwork(patch, groups=3, output_stride=4)
    parts = [network.state_dict() for network in alone]
    together.load_state_dict({key: torch.cat([part[key] for part in parts]) for key in parts[0]})
    assert [layer.groups for layer in together.convolutions] == [1] + [3] * (len(LAYERS[patch]) - 1)
    image = random_image(80).float()
    with torch.inference_mode():
        expected = torch.cat([network(image) for network in alone], 1)
        torch.testing.assert_close(together(image), expected, rtol=1e-4, atol=1e-5)


def test_the_shipped_teacher_loads_and_an_absent_one_is_named() -> None:
    teacher = load_patch_teacher(33, output_stride=4)
    assert (teacher.patch, teacher.output_stride, teacher.training) == (33, 4, False)
    with torch.inference_mode():
        described = teacher(random_image(48).float())
    assert described.isfinite().all() and described.std() > 0
    with pytest.raises(WeightsNotFound, match="cannot be read as the teacher for patches of 65 pixels") as caught:
        load_patch_teacher(65)
    assert "--patch 65" in str(caught.value)


def test_a_folder_of_teachers_is_read_and_wrong_files_are_named(tmp_path: Path) -> None:
    state = PatchNetwork(17).state_dict()
    save_file({key: value.half() for key, value in state.items()}, tmp_path / "patch_teacher_17.safetensors")
    loaded = load_patch_teacher(17, tmp_path, output_stride=2)
    assert loaded.output_stride == 2
    assert torch.equal(loaded.convolutions[0].weight, state["convolutions.0.weight"].half().float())
    with pytest.raises(WeightsNotFound, match=r"patch_teacher_33\.safetensors cannot be read"):
        load_patch_teacher(33, tmp_path)
    (tmp_path / "patch_teacher_33.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsNotFound, match=r"patch_teacher_33\.safetensors cannot be read"):
        load_patch_teacher(33, tmp_path)
    (tmp_path / "patch_teacher_17.safetensors").rename(tmp_path / "patch_teacher_65.safetensors")
    with pytest.raises(WeightsNotFound, match="does not describe patches of 65 pixels"):
        load_patch_teacher(65, tmp_path)
