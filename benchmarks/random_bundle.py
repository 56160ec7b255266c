"""Bundles of full-size networks as they are before training: speed does not depend on what was learnt.

FP16 halves the whole trunk and INT8 quantises every convolution that it is not told to leave out. Golden vectors
are real: wrong answers are found as in any other bundle.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx

from calibration.fp16 import trunk_tensors
from calibration.half import halve
from calibration.observe import observe
from calibration.qdq import INT8, convolutions, quantise
from calibration.rounding import golden_tolerances
from calibration.trunk import load_named, trunk_of
from edge_ad.algebra import optimise
from edge_ad.backends.onnxruntime import answer_frames, open_session
from edge_ad.bundle import Bundle, create_bundle
from edge_ad.demo.parts import draw_part
from edge_ad.errors import MissingDependency
from edge_ad.frame import Image
from edge_ad.golden import GOLDEN_FILE, Answer, Golden
from edge_ad.manifest import Manifest, PrecisionEntry, Size

if TYPE_CHECKING:
    from edge_ad.methods.graph import InspectionGraph

__all__ = ["PRECISIONS", "bundle_of_graph", "drawn_frames", "graph_of", "random_network"]

PRECISIONS = ("fp32", "fp16", "int8")
TOLERANCE_FRAMES = 16


def random_network(method: str, camera: tuple[int, int] | None = None, **options: Any) -> InspectionGraph:
    """A method's network with random weights, in torch, in evaluation mode.

    Args:
        camera: (height, width); by default that of the network's own input, which then needs no resize.
        options: Of the method, where they are not its defaults.

    Raises:
        MissingDependency: There is no torch to make it with.
    """
    try:
        import torch
    except ImportError as exc:
        raise MissingDependency(
            "Networks are made with torch.",
            expected="torch; one without CUDA will do, and is then not measured on a GPU",
            got=exc,
            fix="pip install '.[train]', or measure a bundle of yours with --bundle",
        ) from exc

    from edge_ad.methods.graph import InspectionGraph
    from edge_ad.training.registry import METHODS

    entry = METHODS[method].load()
    if "pretrained" in {field.name for field in dataclasses.fields(entry.options)}:
        options |= {"pretrained": False}  # the file's weights would be overwritten anyway
    chosen = entry.options(**options)
    torch.manual_seed(chosen.seed)
    side = chosen.image_size
    return InspectionGraph(entry.empty(chosen), camera or (side, side), side).eval()


def graph_of(network: InspectionGraph, *, exact_passes: bool = True) -> bytes:
    """Its float32 graph, as `edge-ad export` writes it, or without the exact passes of edge_ad.algebra."""
    from edge_ad.training.export import onnx_from_graph

    content = onnx_from_graph(network)
    if not exact_passes:
        return content
    optimised: bytes = optimise(onnx.load_from_string(content))[0].SerializeToString()
    return optimised


def drawn_frames(camera: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Two drawn parts: to measure ranges on, and to answer for."""
    return np.stack([*_drawn(camera, 2)])


def _drawn(camera: tuple[int, int], count: int) -> Iterator[Image]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield draw_part(rng, size=camera)[0]


def bundle_of_graph(
    path: Path,
    method: str,
    content: bytes,
    frames: npt.NDArray[np.uint8],
    precisions: Sequence[str] = PRECISIONS,
    left_out: Collection[str] = (),
) -> Bundle:
    """A bundle of a float32 graph in these precisions, with its answers to the frames as golden vectors.

    Args:
        frames: (N, height, width, 3) of the camera's size.
        precisions: "fp32", "fp16", "int8".
        left_out: Convolutions that INT8 leaves in float32.
    """
    graphs = _in_precisions(content, frames, precisions, left_out)
    answers = {name: answer_frames(open_session(graph, name), frames) for name, graph in graphs.items()}
    entries = {name: _entry(name, graphs[name], frames, answer) for name, answer in answers.items()}
    height, width = frames.shape[1:3]
    map_height, map_width = next(iter(answers.values()))[0].shape[1:]
    manifest = Manifest(
        name=path.stem,
        method=method,
        input=Size(height=height, width=width),
        map=Size(height=map_height, width=map_width),
        precisions=entries,
    )
    files = {entries[name].graph: graph for name, graph in graphs.items()}
    return create_bundle(path, manifest, {**files, GOLDEN_FILE: Golden(image=frames, answers=answers).to_bytes()})


def _in_precisions(
    content: bytes, frames: npt.NDArray[np.uint8], precisions: Sequence[str], left_out: Collection[str]
) -> dict[str, bytes]:
    makers = {
        "fp32": lambda: content,
        "fp16": lambda: _all_half(content),
        "int8": lambda: _int8(content, frames, left_out),
    }
    return {precision: makers[precision]() for precision in precisions}


def _all_half(content: bytes) -> bytes:
    model = load_named(content)
    half: bytes = halve(model, trunk_of(model.graph)).SerializeToString()
    return half


def _int8(content: bytes, frames: npt.NDArray[np.uint8], left_out: Collection[str]) -> bytes:
    model = load_named(content)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(len(frames))]
        for path, frame in zip(paths, frames, strict=True):
            cv2.imwrite(str(path), frame)
        seen = observe(model, trunk_tensors(model), paths, seed=0)
    layers = convolutions(model)
    clips = {name: seen[name].largest or 1.0 for node in layers for name in (node.input[0], node.output[0])}
    names = [node.name for node in layers if node.name not in left_out]
    quantised: bytes = quantise(model, names, clips, INT8).SerializeToString()
    return quantised


def _entry(precision: str, graph: bytes, frames: npt.NDArray[np.uint8], answer: Answer) -> PrecisionEntry:
    height, width = frames.shape[1:3]
    spread = float(answer[0].std())  # two frames differ little in an untrained network's eyes; the map's own instead
    return PrecisionEntry(
        graph=f"{precision}.onnx",
        threshold=float(answer[1].max()),
        threshold_version=1,
        false_reject_rate=0.0,
        normal_images=len(answer[1]),
        score_spread=spread,
        **golden_tolerances(graph, precision, _drawn((height, width), TOLERANCE_FRAMES), spread),
    )
