"""Heads with fewer hidden units: what the units answer is what the graph answers, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper

from edge_ad.algebra import optimise, total_macs
from edge_ad.algebra.reduce_units import reduce_units, sample_hidden
from edge_ad.algebra.units import Units
from edge_ad.backends.onnxruntime import open_session
from tests.algebra.graphs import answers, assert_same_answers, exported, graph, node, noise

WIDTH = 256


def head(
    rectifier: str = "LeakyRelu", *, width: int = WIDTH, read_twice: bool = False, **attributes: float
) -> ModelProto:
    constants = {"m": noise(4, width), "b": noise(width), "v": noise(width, 1)}
    nodes = [
        node("MatMul", ["x", "m"], ["z"]),
        node("Add", ["z", "b"], ["e"]),
        node(rectifier, ["e"], ["h"], **attributes),
        node("MatMul", ["h", "v"], ["y"], "judge"),
        *([node("Neg", ["e"], ["w"])] if read_twice else []),
    ]
    return graph(nodes, constants, ("y", "w") if read_twice else ("y",), x=(6, 5, 4))


def units(width: int = WIDTH, few: int = 8) -> Units:
    rng = np.random.default_rng(1)
    mix, bias, out = rng.standard_normal((width, few)), rng.standard_normal(few), rng.standard_normal(few)
    return Units(mix=mix, bias=bias, few=out, constant=0.7, error=0.0)


def reduced(model: ModelProto, of_heads: dict[str, Units]) -> tuple[dict[str, int], ModelProto]:
    copy = ModelProto()
    copy.CopyFrom(model)
    return reduce_units(copy, of_heads), copy


@pytest.mark.parametrize(
    ("rectifier", "attributes", "slope"),
    [("Relu", {}, 0.0), ("LeakyRelu", {"alpha": 0.2}, 0.2), ("LeakyRelu", {}, 0.01)],
)
def test_the_graph_answers_what_the_units_answer(rectifier: str, attributes: dict, slope: float) -> None:
    before, one = head(rectifier, **attributes), units()
    changed, after = reduced(before, {"judge": one})
    assert changed == {"judge": 8}
    assert total_macs(after) == 30 * (4 * 8 + 8)
    before.graph.output[0].name = "e"
    (entering,) = answers(before, 3)
    mixed = entering @ one.mix + one.bias
    wanted = np.where(mixed > 0, mixed, slope * mixed) @ one.few[:, None] + one.constant
    np.testing.assert_allclose(answers(after, 3)[0], wanted, rtol=1e-4, atol=1e-3)


def test_all_units_unmixed_are_the_layer_itself() -> None:
    before = head("LeakyRelu", alpha=0.2)
    readout = noise(WIDTH, 1)[:, 0].astype(np.float64)
    same = Units(mix=np.eye(WIDTH), bias=np.zeros(WIDTH), few=readout, constant=0.0, error=0.0)
    changed, after = reduced(before, {"judge": same})
    assert changed == {"judge": WIDTH}
    assert_same_answers(before, after)


@pytest.mark.parametrize("case", ["narrow", "read elsewhere", "another head", "another width"])
def test_anything_else_is_left_alone(case: str) -> None:
    before = head(width=128 if case == "narrow" else WIDTH, read_twice=case == "read elsewhere")
    name = "other" if case == "another head" else "judge"
    changed, after = reduced(before, {name: units({"narrow": 128, "another width": 300}.get(case, WIDTH))})
    assert changed == {}
    assert after == before


def test_samples_are_what_comes_into_the_layer() -> None:
    """Their answers are cells of the map before it is enlarged: SuperSimpleNet's own, in the graph."""
    model = optimise(exported("supersimplenet", (64, 64), image_size=64, backbone="resnet18", hidden=256))[0]
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(3)]
    ((name, hidden),) = sample_hidden(model, iter(frames), 3).items()
    assert hidden.vectors.shape == (3, 16 * 16, 256)
    assert hidden.slope == pytest.approx(0.2)
    watched = ModelProto()
    watched.CopyFrom(model)
    answer = next(one.output[0] for one in model.graph.node if one.name == name)
    watched.graph.output.append(helper.make_empty_tensor_value_info(answer))
    session = open_session(watched.SerializeToString(), "a test's graph")
    for frame, vectors in zip(frames, hidden.vectors, strict=True):
        cells = session.run([answer], {"image": frame[None]})[0].ravel()
        came = np.where(vectors > 0, vectors, 0.2 * vectors.astype(np.float64)) @ hidden.readout
        np.testing.assert_allclose(np.sort(came), np.sort(cells), atol=2e-3 * np.abs(cells).max())  # float16


def test_a_graph_without_wide_heads_has_none() -> None:
    assert sample_hidden(head(width=64), iter([]), 4) == {}
