"""All exact passes on the methods' own graphs: the same maps and scores, in the order and by the share they promise."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import onnx
import pytest
from onnx import ModelProto

from edge_ad.algebra import EXACT_PASSES, PassRow, macs_by_node, optimise, total_macs
from tests.algebra.graphs import assert_same_answers, exported, graph, node, noise, operators

CAMERA = (96, 128)
GRAPHS: dict[str, tuple[str, dict[str, Any]]] = {
    "efficientad-s": ("efficientad-s", {"image_size": 128}),
    "efficientad-s, padded": ("efficientad-s", {"image_size": 128, "padding": True}),
    "efficientad-s alone": ("efficientad-s", {"image_size": 128, "autoencoder": False}),
    "simplenet": ("simplenet", {"image_size": 64, "backbone": "resnet18"}),
    "supersimplenet": ("supersimplenet", {"image_size": 64, "backbone": "resnet18"}),
    "cutpaste": ("cutpaste", {"image_size": 64, "stage": 2}),
    "uninformed-students": ("uninformed-students", {"image_size": 64}),
}
DIFFERENCE = {"fold_affine": 2, "join_differences": 1}
PASSES = {
    "efficientad-s": DIFFERENCE | {"split_slices": 2, "crop": 10},
    "efficientad-s, padded": DIFFERENCE | {"split_slices": 2},
    "efficientad-s alone": DIFFERENCE | {"crop": 10},
    "simplenet": {"project_before_upsampling": 1},
    "supersimplenet": {"project_before_upsampling": 1, "convolve_before_upsampling": 1},
    "cutpaste": {},
    "uninformed-students": {},
}
MOST_OF_THE_WORK = {"simplenet": 0.95, "supersimplenet": 0.45, "efficientad-s": 0.995}  # share that may be left


@cache
def optimised(name: str) -> tuple[ModelProto, list[PassRow]]:
    method, options = GRAPHS[name]
    return optimise(exported(method, CAMERA, **options))


def original(name: str) -> ModelProto:
    method, options = GRAPHS[name]
    return exported(method, CAMERA, **options)


@pytest.mark.parametrize("name", GRAPHS)
def test_maps_and_scores_are_the_same(name: str) -> None:
    assert_same_answers(original(name), optimised(name)[0])


@pytest.mark.parametrize("name", GRAPHS)
def test_what_was_done_is_told(name: str) -> None:
    model, rows = optimised(name)
    assert [row.name for row in rows] == list(EXACT_PASSES)
    assert {row.name: row.applied for row in rows if row.applied} == PASSES[name]
    assert rows[0].macs_before == total_macs(original(name))
    assert rows[-1].macs_after == total_macs(model)
    for before, after in pairwise(rows):
        assert before.macs_after == after.macs_before
    assert all(row.macs_after <= row.macs_before for row in rows)


@pytest.mark.parametrize("name", MOST_OF_THE_WORK)
def test_it_pays(name: str) -> None:
    assert total_macs(optimised(name)[0]) < MOST_OF_THE_WORK[name] * total_macs(original(name))


def test_a_graph_without_any_pattern_is_left_as_it_is() -> None:
    for name, passes in PASSES.items():
        if not passes:
            assert optimised(name)[0] == original(name)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_second_time_finds_nothing(name: str) -> None:
    model, _ = optimised(name)
    again, rows = optimise(model)
    assert [row.applied for row in rows] == [0] * len(rows)
    assert again == model


def test_the_argument_is_not_changed() -> None:
    before = original("efficientad-s")
    kept = before.SerializeToString()
    optimise(before)
    assert before.SerializeToString() == kept


@pytest.mark.parametrize("name", GRAPHS)
def test_the_contract_of_the_graph_holds(name: str) -> None:
    """One Cast reads the image; standard operators; the heavy parts are Conv; nodes have names and tensors shapes."""
    before, (after, _) = original(name), optimised(name)
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert {one.op_type for one in after.graph.node if "image" in one.input} == {"Cast"}
    names = [one.name for one in after.graph.node]
    assert all(names) and len(set(names)) == len(names)
    described = {value.name for value in (*after.graph.value_info, *after.graph.output)}
    assert {tensor for one in after.graph.node for tensor in one.output} <= described
    assert {one.domain for one in after.graph.node} <= {"", "ai.onnx"}


def test_the_difference_of_student_and_teacher_is_one_convolution() -> None:
    """Over the features of both, 256 channels each; the autoencoder's has another kernel and stays apart."""
    model, _ = optimised("efficientad-s")
    kernels = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = sorted(kernels[one.input[1]] for one in model.graph.node if one.op_type == "Conv")
    assert shapes.count((384, 512, 4, 4)) == 1
    assert shapes.count((384, 256, 4, 4)) == 1
    assert shapes.count((384, 64, 3, 3)) == 1
    assert not {"Div"} & set(operators(model)), (
        "the teacher's deviations are in its weights, the camera's in the resize"
    )


def test_supersimplenets_features_are_never_made() -> None:
    """Neither upscaled nor stacked nor averaged; what mixes channels is Conv or the head's MatMul."""
    model, _ = optimised("supersimplenet")
    assert not {"Resize", "AveragePool"} & set(operators(model))
    macs = macs_by_node(model)
    convolutions = {one.name for one in model.graph.node if one.op_type == "Conv"}
    assert sum(count for name, count in macs.items() if name in convolutions) > 0.5 * sum(macs.values())


def test_an_empty_graph_has_no_work() -> None:
    model = graph([node("Relu", ["x"], ["y"])], {}, x=(3, 4))
    after, rows = optimise(model)
    assert (after, rows[-1].macs_after) == (model, 0)


def test_a_graph_that_returns_what_a_pass_would_replace_keeps_it() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Mul", ["c", "k"], ["y"])]
    before = graph(nodes, {"w": noise(2, 3, 2, 2), "k": noise(2, 1, 1)}, ("y", "c"), x=(3, 4, 4))
    after, _ = optimise(before)
    onnx.checker.check_model(after)
    assert [value.name for value in after.graph.output] == ["y", "c"]
    assert_same_answers(before, after)
