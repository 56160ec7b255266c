"""Training Uninformed Students: windows, statistics of teachers and maps, a loss that falls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edge_ad.methods.patch_network import PatchNetwork
from edge_ad.methods.uninformed_students import Ensemble, UninformedStudents
from edge_ad.training.dataset import open_dataset
from edge_ad.training.fit_uninformed_students import _window, fit_uninformed_students
from edge_ad.training.images import load_rgb, normalise
from edge_ad.training.run import split_images
from edge_ad.training.schedule import warm_up_cosine
from edge_ad.training.train import load_run
from tests.trained import OPTIONS, TRAIN, VALIDATION

TINY = OPTIONS["uninformed-students"]


@pytest.fixture
def trained(trained_run: Callable[[str], Path]) -> UninformedStudents:
    network, _, _ = load_run(trained_run("uninformed-students"))
    assert isinstance(network, UninformedStudents)
    return network


def images_of(paths: tuple[Path, ...]) -> torch.Tensor:
    return torch.stack([normalise(load_rgb(path, TINY.image_size)) for path in paths])


def test_teachers_are_normalised_over_the_training_images(trained: UninformedStudents, parts_dataset: Path) -> None:
    """Every entry has mean 0 and standard deviation 1 over all descriptors; measured in half precision."""
    paths = open_dataset(parts_dataset).train
    assert len(paths) == TRAIN
    for ensemble in trained.ensembles:
        with torch.inference_mode():
            descriptors = ensemble.teacher(ensemble.teacher.mirrored(images_of(paths)))
        assert descriptors.mean((0, 2, 3)).abs().max() < 0.05
        torch.testing.assert_close(descriptors.std((0, 2, 3)), torch.ones(128), atol=0.05, rtol=0)


def test_map_statistics_are_those_of_the_validation_images(trained: UninformedStudents, parts_dataset: Path) -> None:
    paths = open_dataset(parts_dataset).validation
    assert len(paths) == VALIDATION
    for index, ensemble in enumerate(trained.ensembles):
        with torch.inference_mode():
            maps = ensemble.maps(images_of(paths)).double().numpy()
        for kind in (0, 1):
            assert trained.mean[index, kind].item() == pytest.approx(np.mean(maps[:, kind]), rel=1e-3)
            assert trained.std[index, kind].item() == pytest.approx(np.std(maps[:, kind]), rel=1e-3)


def test_a_window_holds_descriptors_of_the_whole_image() -> None:
    """All that its pixels allow: at a corner on the grid they are a block of the image's own."""
    torch.manual_seed(0)
    ensemble = Ensemble(PatchNetwork(33, output_stride=4), 1)
    image = torch.randn(1, 3, 64, 64)

    class Corner:
        """Draws this corner and remembers what there was to draw from."""

        def integers(self, low: int, high: int, count: int) -> list[int]:
            self.drawn_from = (low, high, count)
            return [8, 28]

    corner = Corner()
    with torch.inference_mode():
        whole = ensemble.teacher(ensemble.teacher.mirrored(image))
        part = ensemble.teacher(_window(ensemble, image, 32, corner))
    torch.testing.assert_close(part, whole[:, :, 2:10, 7:15], rtol=1e-4, atol=1e-4)
    assert corner.drawn_from == (0, 64 - 32 + 1, 2)


def test_training_lowers_the_loss(parts_dataset: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(PatchNetwork(33).state_dict(), tmp_path / "patch_teacher_33.safetensors")
    split = split_images(open_dataset(parts_dataset), 0)
    image = images_of(tuple(split.validation[:1]))
    losses = []
    for steps in (0, 30):
        options = dataclasses.replace(TINY, teachers=tmp_path, steps=steps)
        network = fit_uninformed_students(split, options, tmp_path)
        (ensemble,) = network.ensembles
        with torch.inference_mode():
            losses.append(ensemble.loss(ensemble.teacher.mirrored(image)).item())
    assert losses[1] < 0.7 * losses[0]


def test_the_learning_rate_warms_up_and_decays() -> None:
    shares = [warm_up_cosine(step, 100) for step in range(100)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert shares[5] == 1.0 and shares == [*shares[:5], *sorted(shares[5:], reverse=True)]
    assert warm_up_cosine(5 + 95 // 2, 100) == pytest.approx(0.5, abs=0.02) and shares[-1] < 0.01
    assert 0 <= warm_up_cosine(0, 1) <= 1
