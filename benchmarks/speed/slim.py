"""Graphs of random weights with the ranks that `calibrate --slim` chose for trained ones.

Random weights have no low rank; but time depends on shapes alone, and shapes on ranks.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.random_bundle import bundle_of_graph, drawn_frames, graph_of, random_network
from benchmarks.speed import options_of
from edge_ad.algebra.editor import Array
from edge_ad.algebra.low_rank import (
    Subspace,
    find_subspaces,
    find_upsampled_subspaces,
    lower_ranks,
    lower_upsampled_ranks,
)
from edge_ad.algebra.reduce_rank import reduce_rank, sample_differences
from edge_ad.algebra.reduce_units import reduce_units, sample_hidden
from edge_ad.algebra.sketch import Sketch
from edge_ad.algebra.units import Units
from edge_ad.bundle import Bundle
from edge_ad.errors import CalibrationError

__all__ = ["RANKS_FILE", "ChosenRanks", "bundle_of_method", "chosen_ranks", "slim_graph"]

RANKS_FILE = Path(__file__).with_name("ranks.json")


@dataclass(frozen=True, kw_only=True)
class ChosenRanks:
    """Attributes:
    command: That chose them.
    data: What they were chosen on.
    differences, units, convolutions: By name, as in calibration.slim.Slimmed.
    left_out: Convolutions that INT8 then left out.
    """

    command: str
    data: str
    differences: dict[str, int]
    units: dict[str, int]
    convolutions: dict[str, int]
    left_out: tuple[str, ...] = ()


def chosen_ranks(method: str) -> list[ChosenRanks]:
    """Of a method's network at its default size, those first that leave most work; none where none are kept."""
    return [ChosenRanks(**kept) for kept in json.loads(RANKS_FILE.read_text()).get(method, [])]


def bundle_of_method(path: Path, method: str, precision: str, ranks: ChosenRanks | None) -> Bundle:
    """A method's network of random weights at its default size, in these ranks or as `edge-ad export` writes it.

    Raises:
        MissingDependency: There is no torch to make it with.
        CalibrationError: The ranks are another graph's.
    """
    network = random_network(method, **options_of(method))
    frames, graph = drawn_frames(network.camera), graph_of(network)
    if ranks is not None:
        graph = slim_graph(graph, ranks, frames[0])
    left_out = ranks.left_out if ranks is not None else ()
    return bundle_of_graph(path, method, graph, frames, (precision,), left_out)


def slim_graph(content: bytes, ranks: ChosenRanks, frame: npt.NDArray[np.uint8]) -> bytes:
    """A float32 graph after `optimise` with its differences and convolutions in these ranks.

    Args:
        frame: (height, width, 3) of the camera's size, on which responses are measured.

    Raises:
        CalibrationError: The graph has no such differences or convolutions.
    """
    model = onnx.load_from_string(content)
    differences = sample_differences(model, [frame])
    sketches = {
        name: _random_sketch(differences[name].shape[-1], rank)
        for name, rank in ranks.differences.items()
        if name in differences
    }
    reduce_rank(model, sketches)
    hidden = sample_hidden(model, [frame], 1)
    units = {
        name: _random_units(len(hidden[name].readout), count) for name, count in ranks.units.items() if name in hidden
    }
    got = {name: one.rank for name, one in sketches.items()} | reduce_units(model, units)
    for measure, lower in ((find_upsampled_subspaces, lower_upsampled_ranks), (find_subspaces, lower_ranks)):
        measured = measure(model, [frame])
        chosen = {name: _of_rank(measured[name], rank) for name, rank in ranks.convolutions.items() if name in measured}
        got |= lower(model, chosen, missed=0.0)
    left_out = {node.name: "left out of INT8" for node in model.graph.node if node.name in ranks.left_out}
    expected = ranks.differences | ranks.units | ranks.convolutions | dict.fromkeys(ranks.left_out, "left out of INT8")
    if (got := got | left_out) != expected:
        raise CalibrationError(
            "The ranks are those of another graph.",
            expected=expected,
            got=got,
            fix=f"choose them again: {ranks.command}",
        )
    slim: bytes = model.SerializeToString()
    return slim


def _random_sketch(channels: int, rank: int) -> Sketch:
    axes: Array = np.linalg.qr(np.random.default_rng(rank).standard_normal((channels, rank)))[0]
    return Sketch(directions=axes.astype(np.float32), constant=0.0, error=0.0)


def _random_units(width: int, count: int) -> Units:
    rng = np.random.default_rng(count)
    mix = rng.standard_normal((width, count)) / np.sqrt(width)
    return Units(mix=mix, bias=np.zeros(count), few=rng.standard_normal(count), constant=0.0, error=0.0)


def _of_rank(subspace: Subspace, rank: int) -> Subspace:
    """As if nothing lay outside its first axes."""
    return dataclasses.replace(subspace, missed=(np.arange(len(subspace.missed)) < rank).astype(np.float64))
