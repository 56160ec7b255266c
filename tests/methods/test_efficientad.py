"""EfficientAD against the paper's formulas, written out plainly."""

from __future__ import annotations

import math

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edge_ad.errors import TrainingError
from edge_ad.methods.efficientad import Autoencoder, EfficientAd, EfficientAdOptions, hard_feature_loss
from edge_ad.methods.graph import InspectionGraph
from edge_ad.methods.pdn import PdnMedium, PdnSmall
from edge_ad.training.export import onnx_from_graph


@pytest.fixture(scope="module")
def network() -> EfficientAd:
    """Random weights; statistics and quantiles that are neither zero nor one."""
    torch.manual_seed(0)
    made = EfficientAd(PdnSmall()).eval().requires_grad_(False)
    for weight in (value for value in made.autoencoder.parameters() if value.ndim == 4):
        weight.mul_(2)  # new layers shrink what passes: unscaled, biases alone would decide the reconstruction
    made.teacher_mean.normal_(std=0.1)
    made.teacher_std.uniform_(0.05, 0.1)
    made.quantiles.copy_(torch.tensor([[0.2, 0.9], [0.01, 0.05]]))
    return made


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 256, 256, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count", [1, 2, 999, 1000, 1001, 5003])
@pytest.mark.parametrize("fraction", [0.999, 0.9, 0.0])
def test_hard_feature_loss_is_the_mean_above_the_quantile(count: int, fraction: float) -> None:
    """Section 3.2: the mean of all elements at or above the quantile, by torch.quantile and a mask."""
    difference = torch.rand(count, generator=torch.Generator().manual_seed(count)).double().reshape(1, 1, -1)
    masked = difference[difference >= torch.quantile(difference, fraction)]
    assert hard_feature_loss(difference, fraction).item() == pytest.approx(masked.mean().item())


def plain_losses(network: EfficientAd, image: Tensor, recoloured: Tensor, natural: Tensor | None) -> list[Tensor]:
    """Algorithm 1, one network pass per line."""

    def teacher(x: Tensor) -> Tensor:
        return (network.teacher(x) - network.teacher_mean) / network.teacher_std

    distance = (teacher(image) - network.student(image)[:, :384]) ** 2
    reconstruction = network.autoencoder(recoloured)
    losses = [
        distance[distance >= torch.quantile(distance.flatten()[: 2**24], 0.999)].mean(),
        ((teacher(recoloured) - reconstruction) ** 2).mean(),
        ((reconstruction - network.student(recoloured)[:, 384:]) ** 2).mean(),
    ]
    return losses if natural is None else [*losses, (network.student(natural)[:, :384] ** 2).mean()]


@pytest.mark.parametrize("with_penalty", [False, True])
def test_losses_are_those_of_algorithm_1(network: EfficientAd, with_penalty: bool) -> None:
    weaker, stronger = 0.3, 3.0  # so different that taking one image for another shows
    image, recoloured, natural = (images(3) * torch.tensor([1.0, weaker, stronger]).view(3, 1, 1, 1)).split(1)
    natural = natural if with_penalty else None
    losses = network.losses(image, recoloured, natural, 0.999)
    expected = plain_losses(network, image, recoloured, natural)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-6)
    assert len({round(loss.item(), 4) for loss in losses}) == len(losses), "distinct terms, so swaps would show"


def test_gradients_reach_student_and_autoencoder_but_not_the_teacher() -> None:
    network = EfficientAd(PdnSmall())
    image, recoloured = images(2).split(1)
    torch.stack(network.losses(image, recoloured, None, 0.999)).sum().backward()
    assert all(parameter.grad is None for parameter in network.teacher.parameters())
    for trained in (network.student, network.autoencoder):
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained.parameters())


def test_the_combined_map_is_the_papers(network: EfficientAd) -> None:
    """Sections 3.3 and 3.4, padded by zeros and enlarged as nelson1425/EfficientAD does."""
    batch = images(2)
    with torch.inference_mode():
        anomaly_map, score = network(batch)
        teacher = (network.teacher(batch) - network.teacher_mean) / network.teacher_std
        student, reconstruction = network.student(batch), network.autoencoder(batch)
    local = ((teacher - student[:, :384]) ** 2).mean(1, keepdim=True)
    of_logic = ((reconstruction - student[:, 384:]) ** 2).mean(1, keepdim=True)
    local = 0.1 * (local - 0.2) / (0.9 - 0.2)
    of_logic = 0.1 * (of_logic - 0.01) / (0.05 - 0.01)
    padded = F.pad(0.5 * local + 0.5 * of_logic, (4, 4, 4, 4))
    expected = F.interpolate(padded, size=(256, 256), mode="bilinear")[:, 0]
    torch.testing.assert_close(anomaly_map, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(score, expected.amax((1, 2)), rtol=1e-4, atol=1e-4)


def without_autoencoder(network: EfficientAd) -> EfficientAd:
    """The same teacher and the part of the same student that imitates it."""
    made = EfficientAd(network.teacher, 256, autoencoder=False).eval()
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("autoencoder.")}
    for key in ("student.conv4.weight", "student.conv4.bias"):
        state[key] = state[key][:384]
    made.load_state_dict({**state, "quantiles": state["quantiles"][:1]})
    return made


def test_without_the_autoencoder_the_map_is_student_and_teacher_alone(network: EfficientAd) -> None:
    batch = images(1)
    with torch.inference_mode():
        anomaly_map, score = without_autoencoder(network)(batch)
        local, _ = network.maps(batch)
    padded = F.pad(0.1 * (local[:, None] - 0.2) / (0.9 - 0.2), (4, 4, 4, 4))
    expected = F.interpolate(padded, size=(256, 256), mode="bilinear")[:, 0]
    torch.testing.assert_close(anomaly_map, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(score, expected.amax((1, 2)), rtol=1e-4, atol=1e-4)


def test_the_graph_without_the_autoencoder_does_not_compute_it() -> None:
    """Only eight convolutions, of teacher and student, and no weight beside theirs."""
    graphs = {}
    for autoencoder in (False, True):
        torch.manual_seed(0)
        made = EfficientAd(PdnSmall(), 128, autoencoder=autoencoder).eval().requires_grad_(False)
        graphs[autoencoder] = onnx.load_model_from_string(onnx_from_graph(InspectionGraph(made, (128, 128), 128))).graph
    convolutions = {key: [node for node in graph.node if node.op_type == "Conv"] for key, graph in graphs.items()}
    assert {key: len(nodes) for key, nodes in convolutions.items()} == {False: 8, True: 8 + 5 + 1 + 6 + 2}
    weights = sum(math.prod(one.dims) for one in graphs[False].initializer)
    assert weights < 2 * 2_694_144 + 20_000


def test_without_the_autoencoder_only_the_student_is_trained() -> None:
    network = EfficientAd(PdnSmall(), 128, autoencoder=False)
    image, recoloured, natural = images(3)[:, :, :128, :128].split(1)
    losses = network.losses(image, recoloured, natural, 0.999)
    with torch.no_grad():
        distance = (network.normalised_teacher(image) - network.student(image)) ** 2
        hard = distance[distance >= torch.quantile(distance, 0.999)].mean()
        torch.testing.assert_close(losses, [hard, (network.student(natural) ** 2).mean()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "size", "padding"), [(PdnSmall, 128, True), (PdnMedium, 128, False)])
def test_maps_reach_as_far_as_the_teacher_sees(kind: type[PdnSmall | PdnMedium], size: int, padding: bool) -> None:
    """A bright cell of the map lies where the patch it describes is centred; unpadded maps are zero at the border."""
    torch.manual_seed(0)
    network = EfficientAd(kind(padding=padding), size).eval().requires_grad_(False)
    border = 0 if padding else 4
    cells = size // 4 - 2 * border
    image = images(1)[:, :, :size, :size]
    assert [tuple(one.shape) for one in network.maps(image)] == 2 * [(1, cells, cells)]
    one_cell = torch.zeros(1, cells, cells)
    one_cell[0, 3, 5] = 1.0
    network.maps = lambda _: (one_cell, one_cell)  # type: ignore[method-assign]
    anomaly_map, _ = network(image)
    assert anomaly_map.shape == (1, size, size)
    rows, columns = (anomaly_map[0] * torch.arange(size)[:, None]).sum(), (anomaly_map[0] * torch.arange(size)).sum()
    centre = (rows / anomaly_map.sum()).item(), (columns / anomaly_map.sum()).item()
    # Cell i of the padded map describes the 33 pixels around 4 i; bilinear enlarging puts it at 4 i + 1.5.
    assert centre == pytest.approx((4 * (3 + border) + 1.5, 4 * (5 + border) + 1.5), abs=1e-3)
    network.maps = lambda _: (torch.ones(1, cells, cells),) * 2  # type: ignore[method-assign]
    assert (network(image)[0][0, 0, 0].item() > 0) == padding


@pytest.mark.parametrize(("column", "value"), [(0, 0.0), (1, 0.1)])
def test_quantiles_map_to_zero_and_a_tenth(
    network: EfficientAd, column: int, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = tuple(quantile.expand(1, 56, 56) for quantile in network.quantiles[:, column])
    monkeypatch.setattr(network, "maps", lambda _: maps)
    anomaly_map, _ = network(images(1))
    torch.testing.assert_close(anomaly_map[0, 40:216, 40:216], torch.full((176, 176), value), atol=1e-6, rtol=1e-5)


def test_the_autoencoder_goes_through_64_numbers() -> None:
    autoencoder = Autoencoder().eval()
    squeezed = []
    autoencoder.bottleneck.register_forward_hook(lambda *call: squeezed.append(call[2].shape))
    with torch.inference_mode():
        assert autoencoder(images(2)).shape == (2, 384, 56, 56)
    assert squeezed == [(2, 64, 1, 1)]


@pytest.mark.parametrize("size", [128, 160, 256])
def test_the_autoencoder_follows_the_image_size(size: int) -> None:
    """At 256 pixels the decoder's sizes are those of appendix A.1."""
    autoencoder = Autoencoder(size, size // 4).eval()
    squeezed = []
    autoencoder.bottleneck.register_forward_hook(lambda *call: squeezed.append(call[2].shape))
    with torch.inference_mode():
        assert autoencoder(torch.zeros(1, 3, size, size)).shape == (1, 384, size // 4, size // 4)
    assert squeezed == [(1, 64, 1, 1)]
    assert Autoencoder().sizes == [3, 8, 15, 32, 63, 127]


def test_dropout_acts_in_training_only() -> None:
    autoencoder = Autoencoder()
    image = images(1)
    with torch.inference_mode():
        assert not torch.equal(autoencoder(image), autoencoder(image))
        autoencoder.eval()
        assert torch.equal(autoencoder(image), autoencoder(image))
    assert autoencoder.dropout.p == 0.2


def test_the_papers_settings_are_the_defaults() -> None:
    options = EfficientAdOptions()
    assert (options.steps, options.hard_fraction, options.image_size) == (70_000, 0.999, 256)
    assert (options.quantile_low, options.quantile_high) == (0.9, 0.995)
    assert (options.padding, options.autoencoder, options.map_normalisation) == (False, True, "quantile")
    assert (options.learning_rate, options.weight_decay, options.decay_at) == (1e-4, 1e-5, 0.95)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"image_size": 96}, "images of that size"),
        ({"image_size": 250}, "images of that size"),
        ({"quantile_low": 0.995, "quantile_high": 0.9}, "these quantiles"),
        ({"quantile_high": 1.1}, "these quantiles"),
        ({"hard_fraction": 1.5}, "such a share"),
    ],
)
def test_options_that_make_no_network_are_refused(wrong: dict[str, float], what: str) -> None:
    with pytest.raises(TrainingError, match=what) as caught:
        EfficientAdOptions(**wrong)
    assert caught.value.fix
