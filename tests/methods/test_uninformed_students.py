"""Uninformed Students against the paper's formulas, written out plainly."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edge_ad.methods.patch_network import LAYERS, PatchNetwork
from edge_ad.methods.uninformed_students import Ensemble, UninformedStudents, UninformedStudentsOptions

SIDE, STRIDE = 64, 8
OPTIONS = UninformedStudentsOptions(image_size=SIDE, receptive_fields=(33, 65), students=3, output_stride=STRIDE)


def build(options: UninformedStudentsOptions = OPTIONS) -> UninformedStudents:
    """Random weights; statistics that are neither zero nor one."""
    torch.manual_seed(0)
    teachers = [PatchNetwork(patch, output_stride=options.output_stride) for patch in options.receptive_fields]
    made = UninformedStudents(teachers, options).eval().requires_grad_(False)
    made.mean.uniform_(1.0, 2.0)
    made.std.uniform_(0.5, 3.0)
    return made


@pytest.fixture(scope="module")
def network() -> UninformedStudents:
    return build()


def images(count: int) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(count))


def outputs(ensemble: Ensemble, image: Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    """Descriptors of the teacher and of every student, each a network of its own; (N, 128, h, w) double."""
    border = ensemble.teacher.mirrored(image)
    students = []
    for state in range(ensemble.students.groups):
        one = PatchNetwork(ensemble.teacher.patch, output_stride=ensemble.teacher.output_stride)
        parts = {
            key: value.chunk(ensemble.students.groups)[state] for key, value in ensemble.students.state_dict().items()
        }
        one.load_state_dict(parts)
        students.append(one)
    with torch.inference_mode():
        return ensemble.teacher(border).double().numpy(), [one(border).double().numpy() for one in students]


def plain_maps(ensemble: Ensemble, image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Equations 8 and 9 as they are printed, one pixel after another."""
    target, students = outputs(ensemble, image)
    count, _, height, width = target.shape
    error, variance = np.zeros((count, height, width)), np.zeros((count, height, width))
    for n, r, c in np.ndindex(count, height, width):
        mu = sum(student[n, :, r, c] for student in students) / len(students)
        error[n, r, c] = np.linalg.norm(mu - target[n, :, r, c]) ** 2
        variance[n, r, c] = (
            sum(np.linalg.norm(student[n, :, r, c]) ** 2 for student in students) / len(students)
            - np.linalg.norm(mu) ** 2
        )
    return error, variance


@pytest.mark.parametrize("index", [0, 1])
def test_error_and_variance_are_the_papers(network: UninformedStudents, index: int) -> None:
    ensemble, image = network.ensembles[index], images(2)
    with torch.inference_mode():
        error, variance = ensemble.maps(image).unbind(1)
    expected_error, expected_variance = plain_maps(ensemble, image)
    np.testing.assert_allclose(error, expected_error, rtol=1e-3)
    np.testing.assert_allclose(variance, expected_variance, rtol=1e-3)


def test_variance_is_the_trace_of_the_students_covariance(network: UninformedStudents) -> None:
    ensemble, image = network.ensembles[0], images(1)
    _, students = outputs(ensemble, image)
    with torch.inference_mode():
        variance = ensemble.maps(image)[0, 1]
    for r, c in [(0, 0), (3, 5), (7, 7)]:
        drawn = np.stack([student[0, :, r, c] for student in students])
        assert variance[r, c].item() == pytest.approx(np.trace(np.cov(drawn.T, bias=True)), rel=1e-3)


def test_scores_of_all_scales_are_normalised_added_averaged_and_enlarged(network: UninformedStudents) -> None:
    """Equations 10 and 11; the map is enlarged bilinearly."""
    image = images(2)
    with torch.inference_mode():
        anomaly_map, score = network(image)
    total = np.zeros((2, SIDE // STRIDE, SIDE // STRIDE))
    for ensemble, (e_mean, v_mean), (e_std, v_std) in zip(
        network.ensembles, network.mean.tolist(), network.std.tolist(), strict=True
    ):
        error, variance = plain_maps(ensemble, image)
        total += ((error - e_mean) / e_std + (variance - v_mean) / v_std) / 2
    expected = F.interpolate(torch.from_numpy(total)[:, None], size=(SIDE, SIDE), mode="bilinear")[:, 0].float()
    torch.testing.assert_close(anomaly_map, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(score, expected.amax((1, 2)), rtol=1e-3, atol=1e-3)


def test_one_student_has_an_error_and_no_variance() -> None:
    """The paper's M = 1."""
    network = build(UninformedStudentsOptions(image_size=SIDE, students=1, output_stride=STRIDE))
    network.std[:, 1] = 1e-12  # what training leaves where the variance is 0 everywhere
    network.mean[:, 1] = 0
    image = images(1)
    with torch.inference_mode():
        error, variance = network.ensembles[0].maps(image)[0]
        anomaly_map, _ = network(image)
    assert not variance.any()
    expected = (error - network.mean[0, 0]) / network.std[0, 0]
    enlarged = F.interpolate(expected[None, None], size=(SIDE, SIDE), mode="bilinear")[0]
    torch.testing.assert_close(anomaly_map, enlarged, rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_mean_over_students_pixels_and_entries(network: UninformedStudents) -> None:
    """Equation 7 of every student over 128, averaged over the students."""
    ensemble, image = network.ensembles[0], images(2)
    target, students = outputs(ensemble, image)
    expected = np.mean([np.square(student - target).sum(1).mean() / 128 for student in students])
    with torch.inference_mode():
        loss = ensemble.loss(ensemble.teacher.mirrored(image))
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_teacher_takes_over_the_normalisation(network: UninformedStudents) -> None:
    teacher = PatchNetwork(33, output_stride=STRIDE).requires_grad_(False)
    ensemble = Ensemble(teacher, 1)
    image = images(1)
    mean, std = torch.randn(128), torch.rand(128) + 0.5
    with torch.inference_mode():
        expected = (teacher(image) - mean[:, None, None]) / std[:, None, None]
        ensemble.normalise_teacher(mean, std)
        torch.testing.assert_close(teacher(image), expected, rtol=1e-4, atol=1e-4)


def test_students_begin_apart_and_gradients_reach_them_but_not_the_teacher() -> None:
    ensemble = Ensemble(PatchNetwork(33, output_stride=STRIDE), 3)
    ensemble.loss(images(1)).backward()
    assert all(parameter.grad is None for parameter in ensemble.teacher.parameters())
    for parameter in ensemble.students.parameters():
        for of_one in parameter.grad.chunk(3):
            assert of_one.any()
    first, second, third = ensemble.students.convolutions[0].weight.chunk(3)
    assert not torch.equal(first, second) and not torch.equal(second, third)


def test_the_help_tells_the_cost_of_a_network() -> None:
    """Multiply-adds by the sizes of what each convolution puts out; on the meta device nothing is computed."""
    text = UninformedStudentsOptions.__dataclass_fields__["output_stride"].metadata["help"]
    said = {int(p): (int(a), int(b)) for p, a, b in re.findall(r"p = (\d+)\D+?(\d+)\D+?(?:4 and|and) (\d+)", text)}
    for patch in LAYERS:
        for stride, billions in zip((4, 1), said[patch], strict=True):
            with torch.device("meta"):
                network = PatchNetwork(patch, output_stride=stride)
                image = torch.zeros(1, 3, 256, 256)
            counted: list[int] = []

            def count(x: Tensor, weight: Tensor, *args: object, into: list[int] = counted, **named: object) -> Tensor:
                y: Tensor = torch.conv2d(x, weight, *args, **named)
                into.append(y.numel() * weight[0].numel())
                return y

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(F, "conv2d", count)
                network(network.mirrored(image))
            assert round(sum(counted) / 1e9) == billions
