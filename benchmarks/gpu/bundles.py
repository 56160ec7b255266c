"""What is measured: EfficientAD-S with random weights in every precision, and a graph that is nothing but convolutions.

Speed does not depend on what was learnt. Golden vectors are real, so that wrong answers are found here as anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.random_bundle import bundle_of_graph, drawn_frames, graph_of
from edge_ad.backends.onnxruntime import OUTPUTS
from edge_ad.bundle import Bundle

if TYPE_CHECKING:
    from edge_ad.methods.graph import InspectionGraph

METHOD = "efficientad-s"

# Of the graph of convolutions: large enough to fill any GPU for long, small enough for a Jetson's memory.
LAYERS, CHANNELS, SIDE = 8, 512, 64


def default_bundle(folder: Path, network: InspectionGraph) -> Bundle:
    """The network's graph, as it is exported, in every precision."""
    return bundle_of_graph(folder / f"{METHOD}.bundle", METHOD, graph_of(network), drawn_frames(network.camera))


def limit_bundle(folder: Path, *, layers: int = LAYERS, channels: int = CHANNELS, side: int = SIDE) -> Bundle:
    """Convolutions of 3 x 3 one after the other: how fast TensorRT computes when nothing else is to be done."""
    frames = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    return bundle_of_graph(folder / "limit.bundle", "limit", _convolutions_only(layers, channels, side), frames)


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
