"""A bundle of a method's full-size network as it is before training: speed does not depend on what was learnt.

INT8 quantises every convolution, with ranges from drawn parts. Golden vectors and thresholds are real, so an Inspector
opens it as any other.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch

from calibration.fp16 import trunk_tensors
from calibration.observe import observe
from calibration.qdq import INT8, convolutions, quantise
from calibration.ranges import CLIPPING
from calibration.trunk import load_named
from edge_ad.algebra import optimise
from edge_ad.backends.onnxruntime import answer_frames, open_session
from edge_ad.bundle import Bundle, create_bundle
from edge_ad.demo.parts import draw_part
from edge_ad.golden import GOLDEN_FILE, Golden
from edge_ad.manifest import Manifest, PrecisionEntry, Size
from edge_ad.methods.graph import InspectionGraph
from edge_ad.threshold import fit_threshold
from edge_ad.training.export import onnx_from_graph
from edge_ad.training.registry import METHODS

__all__ = ["random_bundles", "random_network"]

FRAMES = 4


def random_network(method: str) -> InspectionGraph:
    """The network of a method at its default size, behind a camera of that size."""
    entry = METHODS[method].load()
    options = entry.options()
    if "pretrained" in {field.name for field in dataclasses.fields(options)}:
        options = dataclasses.replace(options, pretrained=False)
    torch.manual_seed(options.seed)
    return InspectionGraph(entry.empty(options).eval(), (options.image_size, options.image_size), options.image_size)


def random_bundles(method: str, folder: Path, *, plain: bool) -> dict[str, Bundle]:
    """A bundle in fp32 and int8, and with `plain` another one without the exact passes of edge_ad.algebra."""
    graph = random_network(method).eval()
    rng = np.random.default_rng(0)
    frames = [draw_part(rng, size=graph.camera)[0] for _ in range(FRAMES)]
    content = onnx_from_graph(graph)
    optimised, _ = optimise(onnx.load_from_string(content))
    bundles = {"": _bundle(folder / f"{method}.bundle", method, optimised.SerializeToString(), frames)}
    if plain:
        bundles["plain"] = _bundle(folder / f"{method}-plain.bundle", method, content, frames)
    return bundles


def _bundle(path: Path, method: str, content: bytes, frames: Sequence[Any]) -> Bundle:
    graphs = {"fp32": content, "int8": _all_int8(content, frames)}
    entries, answers = {}, {}
    images = np.stack(frames[:2])
    for precision, graph in graphs.items():
        session = open_session(graph, precision)
        fitted = fit_threshold(answer_frames(session, np.stack(frames))[1])
        answers[precision] = answer_frames(session, images)
        # Drawn parts differ little in an untrained network's eyes: the golden vectors' unit is the range of its maps.
        spread = max(fitted.score_spread, float(np.ptp(answers[precision][0])))
        fields = dataclasses.asdict(fitted) | {"score_spread": spread}
        entries[precision] = PrecisionEntry(graph=f"{precision}.onnx", threshold_version=1, **fields)
    height, width = images.shape[1:3]
    map_height, map_width = answers["fp32"][0].shape[1:]
    manifest = Manifest(
        name=path.stem,
        method=method,
        input=Size(height=height, width=width),
        map=Size(height=map_height, width=map_width),
        precisions=entries,
    )
    files = {f"{precision}.onnx": graph for precision, graph in graphs.items()}
    return create_bundle(path, manifest, {**files, GOLDEN_FILE: Golden(image=images, answers=answers).to_bytes()})


def _all_int8(content: bytes, frames: Sequence[Any]) -> bytes:
    model = load_named(content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.png"
        cv2.imwrite(str(path), frames[0])
        observations = observe(model, trunk_tensors(model), [path], 0)
    clips = {name: CLIPPING["minmax"](observation) for name, observation in observations.items()}
    quantised: bytes = quantise(model, [node.name for node in convolutions(model)], clips, INT8).SerializeToString()
    return quantised
