"""Bundles of random networks: precisions are what they are called, slim ones have the ranks that were asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.random_bundle import PRECISIONS, bundle_of_graph, drawn_frames, graph_of, random_network
from benchmarks.speed import options_of
from benchmarks.speed.slim import ChosenRanks, chosen_ranks, slim_graph
from edge_ad.algebra import total_macs
from edge_ad.bundle import Bundle
from edge_ad.errors import CalibrationError
from tests.tiny_bundle import HEIGHT, WIDTH, tiny_graph


def graph(bundle: Bundle, precision: str) -> onnx.GraphProto:
    return onnx.load_model_from_string(bundle.read(bundle.precision(precision).graph)).graph


def test_no_precision_falls_back_on_another(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    bundle = bundle_of_graph(tmp_path / "tiny.bundle", "tiny", tiny_graph(), frames)
    assert tuple(bundle.manifest.precisions) == PRECISIONS
    for precision, reads in {"fp16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}.items():
        made = graph(bundle, precision)
        kinds = {tensor.name: tensor.data_type for tensor in made.initializer}
        through = {node.output[0]: node.input[0] for node in made.node if node.op_type == "DequantizeLinear"}
        convolutions = [node for node in made.node if node.op_type == "Conv"]
        assert len(convolutions) == 2
        assert {kinds[through.get(node.input[1], node.input[1])] for node in convolutions} == {reads}


@pytest.mark.slow
def test_a_method_behind_another_camera_gives_a_bundle(tmp_path: Path) -> None:
    network = random_network("simplenet", (96, 128), image_size=64, hidden=32)
    frames = drawn_frames(network.camera)
    bundle = bundle_of_graph(tmp_path / "a.bundle", "simplenet", graph_of(network), frames, ("fp32", "int8"))
    assert (bundle.manifest.input.height, bundle.manifest.input.width) == (96, 128)
    assert tuple(bundle.manifest.precisions) == ("fp32", "int8")
    sizes = [len(bundle.read(bundle.precision(precision).graph)) for precision in ("fp32", "int8")]
    assert sizes[0] > 2 * sizes[1]


def test_ours_is_compared_on_a_backbone_that_others_have() -> None:
    network = random_network("supersimplenet", image_size=64, **options_of("supersimplenet"))
    assert network.network.features.channels == 128 + 256


@pytest.fixture(scope="module")
def efficientad() -> bytes:
    return graph_of(random_network("efficientad-s"))


def test_a_slim_graph_has_the_ranks_that_were_chosen(efficientad: bytes) -> None:
    (ranks,) = chosen_ranks("efficientad-s")
    assert "--slim" in ranks.command
    slim = onnx.load_from_string(slim_graph(efficientad, ranks, drawn_frames((256, 256))[0]))
    outputs = {node.name: node.input[1] for node in slim.graph.node if node.op_type == "Conv"}
    channels = {tensor.name: tensor.dims[0] for tensor in slim.graph.initializer if tensor.dims}
    for name, rank in ranks.convolutions.items():
        assert channels[outputs[f"{name}_axes"]] == rank
    assert channels[outputs["node_sub_33"]] == ranks.differences["mean_1"]
    assert total_macs(slim) < 0.3 * total_macs(onnx.load_from_string(efficientad))


def test_a_slim_head_has_the_units_and_the_rank_that_were_chosen() -> None:
    *_, ranks = chosen_ranks("supersimplenet")
    assert ranks.units and not chosen_ranks("cutpaste")
    whole = graph_of(random_network("supersimplenet", **options_of("supersimplenet")))
    slim = onnx.load_from_string(slim_graph(whole, ranks, drawn_frames((256, 256))[0]))
    shapes = {tensor.name: tuple(tensor.dims) for tensor in slim.graph.initializer}
    nodes = {node.name: node for node in slim.graph.node}
    for name, count in ranks.units.items():
        assert shapes[nodes[f"{name}_product"].input[1]] == (count, 1)
    for name, rank in ranks.convolutions.items():
        assert shapes[nodes[name].input[1]][1] == rank
    assert total_macs(slim) < 0.8 * total_macs(onnx.load_from_string(whole))


def test_int8_leaves_out_what_it_is_told(tmp_path: Path) -> None:
    frames = drawn_frames((256, 256))
    whole = graph_of(random_network("supersimplenet", **options_of("supersimplenet")))
    left_out = [node.name for node in onnx.load_from_string(whole).graph.node if node.op_type == "Conv"][:2]
    bundle = bundle_of_graph(tmp_path / "a.bundle", "supersimplenet", whole, frames, ("int8",), left_out)
    graph = onnx.load_from_string(bundle.read("int8.onnx")).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    floats = {
        node.name for node in graph.node if node.op_type == "Conv" and made_by[node.input[0]] != "DequantizeLinear"
    }
    assert floats == {*left_out} != set()


def test_ranks_of_another_graph_are_refused() -> None:
    ranks = ChosenRanks(command="c", data="d", differences={}, units={}, convolutions={"conv_of_another": 16})
    with pytest.raises(CalibrationError, match="those of another graph"):
        slim_graph(tiny_graph(), ranks, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    missing = dataclasses.replace(ranks, convolutions={}, differences={"mean_of_another": 16})
    with pytest.raises(CalibrationError, match="mean_of_another"):
        slim_graph(tiny_graph(), missing, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    unknown = dataclasses.replace(ranks, convolutions={}, left_out=("conv_of_another",))
    with pytest.raises(CalibrationError, match="left out of INT8"):
        slim_graph(tiny_graph(), unknown, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
