"""What is measured: EfficientAD-S with random weights in every precision, and a graph that is nothing but convolutions.

Speed does not depend on what was learnt. Golden vectors are real, so that wrong answers are found here as anywhere.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from calibration.fp16 import trunk_tensors
from calibration.half import halve
from calibration.observe import observe
from calibration.qdq import INT8, convolutions, quantise
from calibration.trunk import load_named, trunk_of
from edge_ad.backends.onnxruntime import OUTPUTS, answer_frames, open_session
from edge_ad.bundle import Bundle, create_bundle
from edge_ad.errors import MissingDependency
from edge_ad.golden import GOLDEN_FILE, Answer, Golden
from edge_ad.manifest import Manifest, PrecisionEntry, Size

METHOD = "efficientad-s"

# Of the graph of convolutions: large enough to fill any GPU for long, small enough for a Jetson's memory.
LAYERS, CHANNELS, SIDE = 8, 512, 64


def default_network(image_size: int) -> Any:
    """EfficientAD-S behind a camera of its own size, in torch, in evaluation mode.

    Raises:
        MissingDependency: There is no torch to make it with.
    """
    try:
        import torch
    except ImportError as exc:
        raise MissingDependency(
            "The default network is made with torch.",
            expected="torch; one without CUDA will do, and is then not measured",
            got=exc,
            fix="pip install '.[train,build,tensorrt]', or measure a bundle of yours with --bundle",
        ) from exc

    from edge_ad.methods.graph import InspectionGraph
    from edge_ad.training.registry import METHODS

    method = METHODS[METHOD].load()
    torch.manual_seed(0)
    network = method.empty(method.options(image_size=image_size))
    return InspectionGraph(network, (image_size, image_size), image_size).eval()


def default_bundle(folder: Path, network: Any) -> Bundle:
    """The network's graph in fp32, fp16 and int8, with golden vectors."""
    from edge_ad.demo.parts import draw_part
    from edge_ad.training.export import onnx_from_graph

    rng = np.random.default_rng(0)
    frames = np.stack([draw_part(rng, size=network.camera)[0] for _ in range(2)])
    return _bundle(folder / f"{METHOD}.bundle", _precisions(onnx_from_graph(network), frames), frames)


def limit_bundle(folder: Path, *, layers: int = LAYERS, channels: int = CHANNELS, side: int = SIDE) -> Bundle:
    """Convolutions of 3 x 3 one after the other: how fast TensorRT computes when nothing else is to be done."""
    frames = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    return _bundle(folder / "limit.bundle", _precisions(_convolutions_only(layers, channels, side), frames), frames)


def _convolutions_only(layers: int, channels: int, side: int) -> bytes:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["x0"], "to_nchw", perm=[0, 3, 1, 2]),
    ]
    constants = {"axes": np.array([1, 2])}
    for layer in range(layers + 1):
        inputs = 3 if layer == 0 else channels
        # He's scale keeps the activations as large as the pixels, layer after layer.
        weights = rng.standard_normal((channels, inputs, 3, 3), np.float32) * np.sqrt(
            2 / (9 * inputs), dtype=np.float32
        )
        constants[f"w{layer}"] = weights / (100 if layer == 0 else 1)
        nodes.append(helper.make_node("Conv", [f"x{layer}", f"w{layer}"], [f"y{layer}"], f"c{layer}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"y{layer}"], [f"x{layer + 1}"], f"relu{layer}"))
    nodes += [
        helper.make_node("ReduceMean", [f"x{layers + 1}", "channel"], [OUTPUTS[0]], "map", keepdims=0),
        helper.make_node("ReduceMax", [OUTPUTS[0], "axes"], [OUTPUTS[1]], "score", keepdims=0),
    ]
    constants["channel"] = np.array([1])
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])],
        [
            helper.make_tensor_value_info(OUTPUTS[0], TensorProto.FLOAT, ["N", side, side]),
            helper.make_tensor_value_info(OUTPUTS[1], TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()
    return content


def _precisions(content: bytes, frames: npt.NDArray[np.uint8]) -> dict[str, bytes]:
    """The graph, its trunk in float16, and all its convolutions in INT8 with the ranges of the frames."""
    model = load_named(content)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(len(frames))]
        for path, frame in zip(paths, frames, strict=True):
            cv2.imwrite(str(path), frame)
        seen = observe(model, trunk_tensors(model), paths, seed=0)
    layers = convolutions(model)
    clips = {name: seen[name].largest or 1.0 for node in layers for name in (node.input[0], node.output[0])}
    return {
        "fp32": content,
        "fp16": halve(model, trunk_of(model.graph)).SerializeToString(),
        "int8": quantise(model, [node.name for node in layers], clips, INT8).SerializeToString(),
    }


def _bundle(path: Path, graphs: dict[str, bytes], frames: npt.NDArray[np.uint8]) -> Bundle:
    answers = {name: answer_frames(open_session(graph, name), frames) for name, graph in graphs.items()}
    entries = {name: _entry(name, answer) for name, answer in answers.items()}
    height, width = frames.shape[1:3]
    map_height, map_width = answers["fp32"][0].shape[1:]
    manifest = Manifest(
        name=path.stem,
        method=path.stem,
        input=Size(height=height, width=width),
        map=Size(height=map_height, width=map_width),
        precisions=entries,
    )
    golden = Golden(image=frames, answers=answers)
    files = {entries[name].graph: graph for name, graph in graphs.items()}
    return create_bundle(path, manifest, {**files, GOLDEN_FILE: golden.to_bytes()})


def _entry(precision: str, answer: Answer) -> PrecisionEntry:
    return PrecisionEntry(
        graph=f"{precision}.onnx",
        threshold=float(answer[1].max()),
        threshold_version=1,
        false_reject_rate=0.0,
        normal_images=len(answer[1]),
        # Two frames differ little in an untrained network's eyes; the map's own spread is the unit instead.
        score_spread=float(answer[0].std()),
    )
