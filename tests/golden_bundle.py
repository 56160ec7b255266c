"""Whole small bundles, with golden vectors, and the means to spoil them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from edge_ad.backends.onnxruntime import OUTPUTS, open_session
from edge_ad.bundle import Bundle, create_bundle, sha256
from edge_ad.golden import GOLDEN_FILE, Golden
from edge_ad.manifest import MANIFEST, Manifest, PrecisionEntry, Size
from tests.tiny_bundle import FILES, tiny_graph

# The map is half the camera in each direction, so that boxes must be scaled; height and width differ, so swaps show.
CAMERA = Size(height=16, width=24)
HALF = Size(height=8, width=12)


def golden_bundle(path: Path, *precisions: str) -> Bundle:
    """A bundle of `tiny_graph`s with golden vectors and thresholds from noise images; fp32 where none is named."""
    return bundle_of(path, {name: tiny_graph(name) for name in precisions or ("fp32",)})


def brightness_bundle(path: Path, then: str | None = None) -> Bundle:
    """A bundle of `brightness_graph`: its answers can be worked out by hand."""
    return bundle_of(path, {"fp32": brightness_graph(then)})


def brightness_graph(then: str | None = None) -> bytes:
    """The map is the mean grey level of 2 x 2 pixels; the score is its maximum.

    Args:
        then: An ONNX operator applied to the map: "Log" makes -Inf of a black pixel, "Sqrt" (of the level minus 1) NaN.
    """
    last = "level" if then else "anomaly_map"
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["planes", "channel"], ["grey"], keepdims=1),
        helper.make_node("AveragePool", ["grey"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Squeeze", ["pooled", "channel"], [last]),
        *([helper.make_node("Sub", ["level", "one"], ["less"])] if then == "Sqrt" else []),
        *([helper.make_node(then, ["less" if then == "Sqrt" else "level"], ["anomaly_map"])] if then else []),
        helper.make_node("ReduceMax", ["anomaly_map", "axes"], ["score"], keepdims=0),
    ]
    constants = {"channel": np.array([1]), "axes": np.array([1, 2]), "one": np.array(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", CAMERA.height, CAMERA.width, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", HALF.height, HALF.width]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def bundle_of(path: Path, graphs: dict[str, bytes]) -> Bundle:
    """A bundle of graphs by precision. Sizes are read from the graphs, golden answers come from ONNX Runtime."""
    sessions = {name: open_session(graph, name) for name, graph in graphs.items()}
    first = next(iter(sessions.values()))
    camera = Size(height=first.get_inputs()[0].shape[1], width=first.get_inputs()[0].shape[2])
    of_map = Size(height=first.get_outputs()[0].shape[1], width=first.get_outputs()[0].shape[2])
    images = noise_images(camera, 8)
    answers = {name: tuple(session.run(OUTPUTS, {"image": images})) for name, session in sessions.items()}
    two = {name: (maps[:2], scores[:2]) for name, (maps, scores) in answers.items()}
    golden = Golden(image=images[:2], answers=two)
    entries = {
        name: PrecisionEntry(
            graph=FILES[name],
            threshold=float(scores.max()),
            threshold_version=1,
            false_reject_rate=0.01,
            normal_images=len(scores),
            score_spread=float(scores.std()),
        )
        for name, (_, scores) in answers.items()
    }
    manifest = Manifest(name="tiny", method="none", input=camera, map=of_map, precisions=entries)
    files = {FILES[name]: graph for name, graph in graphs.items()}
    return create_bundle(path, manifest, {**files, GOLDEN_FILE: golden.to_bytes()})


def noise_images(size: Size, count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(count, height, width, 3): grey levels from 1 on, so that none is black."""
    return np.random.default_rng(seed).integers(1, 200, (count, size.height, size.width, 3), dtype=np.uint8)


def spoil_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's tree in place; hashes of other files stay right."""
    tree = json.loads((bundle / MANIFEST).read_bytes())
    change(tree)
    (bundle / MANIFEST).write_text(json.dumps(tree))


def swap_file(bundle: Path, name: str, content: bytes) -> None:
    """Replace a file, and its hash, as whoever made the bundle could."""
    (bundle / name).write_bytes(content)
    spoil_manifest(bundle, lambda tree: tree["files"].update({name: sha256(content)}))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def contents(bundle: Bundle) -> dict[str, bytes]:
    """The files of a bundle by name, without the manifest."""
    return {name: bundle.read(name) for name in bundle.manifest.files}
