"""Convolutions by way of a few axes: exact where responses lie on them, as far off as is said where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper

from edge_ad.algebra import macs_by_node, optimise, total_macs
from edge_ad.algebra.low_rank import (
    Subspace,
    find_subspaces,
    find_upsampled_subspaces,
    lower_ranks,
    lower_upsampled_ranks,
)
from edge_ad.backends.onnxruntime import open_session
from edge_ad.errors import CalibrationError
from tests.algebra.graphs import (
    answers,
    assert_same_answers,
    efficientad,
    exported,
    frames,
    graph,
    node,
    noise,
    operators,
)

OUTPUTS = 64


def subspace(axes: np.ndarray, missed: np.ndarray, mean: np.ndarray | None = None) -> Subspace:
    return Subspace(mean=noise(OUTPUTS) if mean is None else mean, axes=axes.astype(np.float64), missed=missed)


def rotation() -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(3).standard_normal((OUTPUTS, OUTPUTS)))[0]


def share_of_axes(needed: int) -> np.ndarray:
    """All variance lies on the first `needed` axes, evenly."""
    return np.clip(1 - np.arange(OUTPUTS + 1) / needed, 0, 1)


def convolved(weight: np.ndarray, bias: np.ndarray | None, **attributes: object) -> ModelProto:
    constants = {"w": weight} | ({"b": bias} if bias is not None else {})
    nodes = [node("Conv", ["x", *constants], ["c"], "conv", **attributes), node("Relu", ["c"], ["y"], "relu")]
    return graph(nodes, constants, x=(8, 9, 10))


def lowered(model: ModelProto, found: Subspace, missed: float) -> tuple[dict[str, int], ModelProto]:
    copy = ModelProto()
    copy.CopyFrom(model)
    return lower_ranks(copy, {"conv": found}, missed), copy


@pytest.mark.parametrize("geometry", [{}, {"pads": [1, 2, 0, 1], "strides": [2, 1]}, {"dilations": [2, 2]}])
def test_responses_that_lie_on_few_axes_are_computed_exactly(geometry: dict) -> None:
    axes = rotation()
    on_them = axes[:, :16] @ noise(16, 8 * 9).astype(np.float64)
    before = convolved(on_them.reshape(OUTPUTS, 8, 3, 3).astype(np.float32), noise(OUTPUTS), **geometry)
    ranks, after = lowered(before, subspace(axes, share_of_axes(16), noise(OUTPUTS)), 1e-9)
    assert ranks == {"conv": 16}
    assert operators(after) == ["Conv", "Conv", "Relu"]
    assert total_macs(after) * OUTPUTS * 72 == total_macs(before) * 16 * (72 + OUTPUTS)
    assert_same_answers(before, after)


def test_what_lies_off_the_axes_is_lost_and_nothing_else() -> None:
    """Against the projection of the whole responses."""
    axes, mean = rotation(), noise(OUTPUTS).astype(np.float64)
    before = convolved(noise(OUTPUTS, 8, 4, 4), None)
    ranks, after = lowered(before, subspace(axes, share_of_axes(20), mean), 0.0)
    assert ranks == {"conv": 32}
    before.graph.output[0].name = "c"
    (responses,) = answers(before, 2)
    kept = axes[:, :32]
    off = responses.transpose(0, 2, 3, 1) - mean
    wanted = np.maximum(off @ kept @ kept.T + mean, 0).transpose(0, 3, 1, 2)
    (came,) = answers(after, 2)
    np.testing.assert_allclose(came, wanted, atol=1e-4)


def test_the_few_channels_vary_alike() -> None:
    """Eight bits share one scale among them."""
    axes = rotation()
    strengths = np.geomspace(100, 1, 16)
    on_them = (axes[:, :16] * strengths) @ noise(16, 72).astype(np.float64)
    before = convolved(on_them.reshape(OUTPUTS, 8, 3, 3).astype(np.float32), None)
    _, after = lowered(before, subspace(axes, share_of_axes(16), np.zeros(OUTPUTS)), 0.0)
    inner = after.graph.node[0].output[0]
    after.graph.output.extend([helper.make_empty_tensor_value_info(inner)])
    deviations = answers(after, 5)[1].std((0, 2, 3))
    assert deviations.max() < 4 * deviations.min(), "along the axes they would differ a hundredfold"


@pytest.mark.parametrize(
    ("needed", "missed", "rank"), [(1, 0.0, 16), (16, 0.0, 16), (17, 0.0, 32), (64, 0.5, 32), (50, 0.0, None)]
)
def test_ranks_come_in_blocks_and_only_where_they_pay(needed: int, missed: float, rank: int | None) -> None:
    """At 64 outputs of 128 products each, 32 axes save a quarter, and 64 nothing."""
    before = convolved(noise(OUTPUTS, 8, 4, 4), None)
    ranks, after = lowered(before, subspace(rotation(), share_of_axes(needed)), missed)
    assert ranks.get("conv") == rank
    assert (after == before) == (rank is None)


@pytest.mark.parametrize("case", ["grouped", "computed weights", "another convolution's axes"])
def test_anything_else_is_left_alone(case: str) -> None:
    before = convolved(noise(OUTPUTS, 4 if case == "grouped" else 8, 4, 4), None, group=2 if case == "grouped" else 1)
    if case == "computed weights":
        before.graph.node[0].input[1] = "v"
        before.graph.node.insert(0, node("Neg", ["w"], ["v"]))
    found = subspace(rotation(), share_of_axes(1))
    if case == "another convolution's axes":
        found = Subspace(mean=np.zeros(32), axes=np.eye(32), missed=np.zeros(33))
    ranks, after = lowered(before, found, 0.0)
    assert ranks == {}
    assert after == before


def test_axes_are_those_of_the_responses() -> None:
    """Against numpy's covariance of all responses to all frames."""
    model, seen = efficientad(), frames(3)
    found = find_subspaces(model, seen)
    name = max(macs_by_node(model), key=lambda one: macs_by_node(model)[one] if one in found else 0)
    tensor = next(one.output[0] for one in model.graph.node if one.name == name)
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend([helper.make_empty_tensor_value_info(tensor)])
    session = open_session(watched.SerializeToString(), "responses")
    vectors = np.concatenate([session.run([tensor], {"image": one[None]})[0][0].reshape(-1) for one in seen])
    channels = len(found[name].mean)
    vectors = vectors.reshape(3, channels, -1).transpose(0, 2, 1).reshape(-1, channels).astype(np.float64)
    np.testing.assert_allclose(found[name].mean, vectors.mean(0), rtol=1e-4, atol=1e-5 * np.abs(vectors).max())
    variances = np.sort(np.linalg.eigvalsh(np.cov(vectors.T, bias=True)))[::-1]
    wanted = 1 - np.cumsum(variances) / variances.sum()
    np.testing.assert_allclose(found[name].missed[1:], wanted, atol=1e-5)
    kept = found[name].axes[:, :20]
    off = vectors - vectors.mean(0)
    lost = np.square(off - off @ kept @ kept.T).sum() / np.square(off).sum()
    assert lost == pytest.approx(found[name].missed[20], abs=1e-5)


def test_a_whole_network_keeps_its_answers() -> None:
    model = efficientad()
    found = find_subspaces(model, frames(3))
    copy = ModelProto()
    copy.CopyFrom(model)
    ranks = lower_ranks(copy, found, 0.001)
    assert len(ranks) > 2 and total_macs(copy) < total_macs(model)
    (map_before, score_before), (map_after, score_after) = answers(model, 2), answers(copy, 2)
    assert np.corrcoef(map_before.ravel(), map_after.ravel())[0, 1] > 0.99
    np.testing.assert_allclose(score_after, score_before, rtol=0.02)


def test_upsampled_taps_are_of_the_few_axes_alone() -> None:
    """Against the projection of the whole response, at the context of SuperSimpleNet's classification head."""
    model = optimise(exported("supersimplenet", (64, 64), image_size=64, backbone="resnet18", hidden=256))[0]
    name, tensor = "node_conv2d_15", "conv2d_15"
    axes, mean = np.linalg.qr(noise(128, 128).astype(np.float64))[0], noise(128).astype(np.float64)
    missed = np.clip(1 - np.arange(129) / 40, 0, 1)
    copy = ModelProto()
    copy.CopyFrom(model)
    assert lower_upsampled_ranks(copy, {name: Subspace(mean=mean, axes=axes, missed=missed)}, 0.5) == {name: 32}
    assert total_macs(copy) < total_macs(model)
    watched = helper.make_empty_tensor_value_info(tensor)
    came, response = (answers(_with_output(one, watched), 2)[-1] for one in (copy, model))
    kept = axes[:, :32]
    wanted = mean + (response.transpose(0, 2, 3, 1) - mean) @ kept @ kept.T
    np.testing.assert_allclose(came, wanted.transpose(0, 3, 1, 2), atol=1e-4 * np.abs(wanted).max())
    whole = Subspace(mean=mean, axes=axes, missed=missed)
    assert lower_upsampled_ranks(copy, {name: whole}, 0.0) == {}, "48 axes would be few enough, and it is a Conv now"
    found = find_upsampled_subspaces(model, [np.full((64, 64, 3), shade, np.uint8) for shade in (9, 99)])
    assert {*found} == {name}
    assert found[name].axes.shape == (128, 128)


def _with_output(model: ModelProto, output: object) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend([output])
    return copy


def test_no_frames_are_an_error() -> None:
    with pytest.raises(CalibrationError, match="Nothing to measure"):
        find_subspaces(efficientad(), [])


def test_a_graph_without_wide_convolutions_has_none() -> None:
    assert find_subspaces(graph([node("Relu", ["x"], ["y"])], {}, x=(3, 4, 5)), frames(1)) == {}
