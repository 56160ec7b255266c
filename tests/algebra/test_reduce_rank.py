"""Squared lengths from a few directions: exact where nothing is dropped, close where little is."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from edge_ad.algebra import total_macs
from edge_ad.algebra.reduce_rank import reduce_rank, sample_differences
from edge_ad.algebra.sketch import Sketch, fit_sketch, fit_sketches, smallest_within
from edge_ad.errors import CalibrationError
from tests.algebra.graphs import (
    answers,
    applied,
    assert_same_answers,
    efficientad,
    frames,
    graph,
    node,
    noise,
)

CHANNELS, STRONG = 48, 6


def differences(frames: int = 10, cells: int = 400, seed: int = 0) -> np.ndarray:
    """(frames, cells, 48): six directions, and six weaker ones that are as strong as theirs to a fixed share.

    Their signs are independent: nothing linear tells the weaker from the stronger, but their squares do.
    """
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(np.random.default_rng(5).standard_normal((CHANNELS, CHANNELS)))[0]
    strong = rng.standard_normal((frames, cells, STRONG))
    weak = strong * np.linspace(0, 0.9, STRONG) * rng.choice([-1, 1], strong.shape)
    vectors = np.concatenate([strong, weak], axis=-1) @ axes[:, : 2 * STRONG].T
    return (vectors + 0.02 * rng.standard_normal(vectors.shape)).astype(np.float32)


def missed(sketch: Sketch, vectors: np.ndarray) -> float:
    """Root mean square error of the squared lengths, in their standard deviations."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    lengths = np.square(flat).sum(1)
    return float(np.sqrt(np.square(sketch.squared_lengths(flat) - lengths).mean()) / lengths.std())


def test_the_squares_of_some_directions_tell_those_of_others() -> None:
    """The principal directions with the best slope and constant do not."""
    vectors = differences()
    flat = vectors.reshape(-1, CHANNELS)
    _, axes = np.linalg.eigh(flat.T @ flat)
    principal = axes[:, ::-1][:, :STRONG]
    slope, constant = np.polyfit(np.square(flat @ principal).sum(1), np.square(flat).sum(1), 1)
    by_energy = Sketch(directions=principal * np.sqrt(slope), constant=float(constant), error=0.0)
    fitted = fit_sketch(vectors, STRONG)
    assert fitted.rank == STRONG
    assert fitted.error < 0.1
    assert missed(fitted, differences(seed=1)) < 0.1 < missed(by_energy, differences(seed=1))


def test_the_error_is_that_of_frames_it_was_not_fitted_to() -> None:
    vectors = differences()
    vectors[8:] = 3 * noise(2, 400, CHANNELS)  # the last fifth is something else entirely
    assert fit_sketch(vectors, STRONG).error > 0.5


def test_the_same_seed_gives_the_same_sketch() -> None:
    one, two = (fit_sketch(differences(), 4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.directions, two.directions)


def test_ranks_are_chosen_by_their_error() -> None:
    sketches = fit_sketches({"d": differences()}, ranks=(8, 2, 4, CHANNELS, 64))
    assert [one.rank for one in sketches["d"]] == [2, 4, 8], "full rank and more is no sketch"
    assert sketches["d"][0].error > sketches["d"][1].error > sketches["d"][2].error
    assert smallest_within(sketches, sketches["d"][1].error)["d"].rank == 4
    assert smallest_within(sketches, 0.0) == {}


def squared(nodes: list, reduce: str = "ReduceMean") -> ModelProto:
    """A difference d, squared, averaged or summed over its channels."""
    constants = {
        "u": noise(CHANNELS, 3, 2, 2),
        "a": noise(CHANNELS),
        "v": noise(CHANNELS, 4, 3, 3, seed=1),
        "two": np.float32(2),
        "axis": np.array([1]),
    }
    tail = [node("Pow", ["d", "two"], ["s"]), node(reduce, ["s", "axis"], ["y"], keepdims=0)]
    return graph([*nodes, *tail], constants, x=(3, 5, 6), z=(4, 4, 5))


BOTH = [
    node("Conv", ["x", "u", "a"], ["p"], "p"),
    node("Conv", ["z", "v"], ["q"], "q", pads=[1, 1, 1, 1]),
    node("Sub", ["p", "q"], ["d"]),
]


@pytest.mark.parametrize("reduce", ["ReduceMean", "ReduceSum"])
def test_a_rotation_of_full_rank_is_exact(reduce: str) -> None:
    before = squared(BOTH, reduce)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS)))[0]
    sketch = Sketch(directions=rotation.astype(np.float32), constant=0.0, error=0.0)
    count, after = applied(lambda model: reduce_rank(model, {"y": sketch}), before)
    assert count == 1
    assert_same_answers(before, after)


@pytest.mark.parametrize("reduce", ["ReduceMean", "ReduceSum"])
def test_a_sketch_is_computed_as_it_says(reduce: str) -> None:
    """Against the sketch applied to the whole difference."""
    before = squared(BOTH, reduce)
    sketch = Sketch(directions=noise(CHANNELS, 8), constant=7.0, error=0.0)
    _, after = applied(lambda model: reduce_rank(model, {"y": sketch}), before)
    before.graph.output[0].name = "d"
    before.graph.output[0].type.tensor_type.ClearField("shape")
    (d,) = answers(before, 2)
    (y,) = answers(after, 2)
    wanted = sketch.squared_lengths(d.transpose(0, 2, 3, 1).reshape(-1, CHANNELS)).reshape(2, 4, 5)
    np.testing.assert_allclose(y, wanted / (CHANNELS if reduce == "ReduceMean" else 1), rtol=1e-4)
    assert total_macs(after) * CHANNELS == total_macs(before) * 8


REFUSED = {
    "a rectified difference": [*BOTH[:2], node("Sub", ["p", "q"], ["e"]), node("Relu", ["e"], ["d"])],
    "a convolution read elsewhere": [*BOTH[:2], node("Sub", ["p", "q"], ["e"]), node("Add", ["e", "p"], ["d"])],
    "no convolution": [node("Relu", ["x"], ["d"])],
}


@pytest.mark.parametrize("case", [*REFUSED, "a sketch of something else", "no sketch"])
def test_anything_else_is_left_alone(case: str) -> None:
    before = squared(REFUSED.get(case, BOTH))
    sketch = Sketch(directions=noise(CHANNELS - (case == "a sketch of something else"), 8), constant=0.0, error=0.0)
    count, after = applied(lambda model: reduce_rank(model, {} if case == "no sketch" else {"y": sketch}), before)
    assert count == 0
    assert after == before


def test_both_differences_of_efficientad_are_sampled_and_reduced() -> None:
    model = efficientad()
    sampled = sample_differences(model, frames(3))
    assert [vectors.shape for vectors in sampled.values()] == [(3, 24 * 24, 384)] * 2
    sketches = {
        name: Sketch(
            directions=np.eye(384, 32, dtype=np.float32), constant=float(np.square(one).sum(-1).mean()), error=0
        )
        for name, one in sampled.items()
    }
    count, after = applied(lambda graph: reduce_rank(graph, sketches), model)
    assert count == 2
    assert total_macs(after) < 0.7 * total_macs(model)
    for wanted, came in zip(answers(model, 2), answers(after, 2), strict=True):
        assert came.shape == wanted.shape and np.isfinite(came).all()


def test_what_is_sampled_are_the_differences() -> None:
    """Their mean squares are the maps that the graph itself makes."""
    model = efficientad()
    (frame,) = frames(1)
    sampled = sample_differences(model, [frame])
    from edge_ad.backends.onnxruntime import open_session

    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(value for value in model.graph.value_info if value.name in sampled)
    maps = open_session(watched.SerializeToString(), "maps").run(list(sampled), {"image": frame[None]})
    for vectors, one in zip(sampled.values(), maps, strict=True):
        wanted = np.sort(np.square(vectors[0]).mean(1))
        np.testing.assert_allclose(wanted, np.sort(one.reshape(-1)), rtol=1e-4)


def test_no_frames_are_an_error() -> None:
    with pytest.raises(CalibrationError, match="Nothing to measure"):
        sample_differences(efficientad(), [])


def test_a_graph_without_differences_has_none() -> None:
    model = graph([node("Relu", ["x"], ["y"])], {}, x=(3, 4, 5))
    assert sample_differences(model, frames(1)) == {}
