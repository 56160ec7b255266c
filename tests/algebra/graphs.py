"""Graphs by hand, and what ONNX Runtime makes of a graph before and after a pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edge_ad.algebra import optimise
from edge_ad.backends.onnxruntime import open_session
from edge_ad.methods.graph import InspectionGraph
from edge_ad.training.export import onnx_from_graph
from edge_ad.training.registry import METHODS

BATCHES = (1, 2, 5)
ROUNDING = 1e-5  # largest error of a float32 sum in another order, relative to the largest value

node = helper.make_node


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal, float32."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def graph(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    outputs: tuple[str, ...] = ("y",),
    **inputs: tuple[int, ...],
) -> ModelProto:
    """A model of opset 18 with named nodes; `inputs` by name without their batch."""
    for index, one in enumerate(nodes):
        one.name = one.name or f"{one.op_type.lower()}_{index}"
    made = helper.make_graph(
        nodes,
        "by_hand",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True)


def answers(model: ModelProto, batch: int) -> list[np.ndarray]:
    """All outputs for a batch of noise, or of random bytes."""
    session = open_session(model.SerializeToString(), "a test's graph")
    feeds: dict[str, Any] = {}
    for value in session.get_inputs():
        shape = (batch, *value.shape[1:])
        pixels = np.random.default_rng((batch, 1)).integers(0, 256, shape, dtype=np.uint8)
        feeds[value.name] = pixels if value.type == "tensor(uint8)" else noise(*shape, seed=batch)
    result: list[np.ndarray] = session.run(None, feeds)
    return result


def assert_same_answers(before: ModelProto, after: ModelProto) -> None:
    """For every batch, up to the rounding of float32."""
    onnx.checker.check_model(after, full_check=True)
    for batch in BATCHES:
        for wanted, came in zip(answers(before, batch), answers(after, batch), strict=True):
            assert came.shape == wanted.shape
            assert np.abs(wanted).max() > 0
            assert np.abs(came - wanted).max() <= ROUNDING * np.abs(wanted).max()


def applied(algebra: Callable[[ModelProto], int], model: ModelProto) -> tuple[int, ModelProto]:
    """How often the pass applied to a copy, and the copy."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return algebra(copy), copy


def operators(model: ModelProto) -> list[str]:
    """Of the nodes, in order."""
    return [one.op_type for one in model.graph.node]


@cache
def exported(method: str, camera: tuple[int, int], **options: Any) -> ModelProto:
    """A method's graph as `onnx_from_graph` leaves it, with random weights and statistics that are not the identity."""
    entry = METHODS[method].load()
    chosen = entry.options(**options)
    torch.manual_seed(0)
    network = entry.empty(chosen).eval()
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "teacher_mean", "gaussian.mean")):
                buffer.normal_(0, 0.1)
            elif name.endswith(("running_var", "teacher_std")):
                buffer.uniform_(0.5, 1.5)
    content = onnx_from_graph(InspectionGraph(network, camera, chosen.image_size).eval())
    return onnx.load_model_from_string(content)


@cache
def efficientad() -> ModelProto:
    """EfficientAD-S after the exact passes, for frames of 96 x 128; not to be changed."""
    return optimise(exported("efficientad-s", (96, 128), image_size=128))[0]


def frames(count: int) -> list[np.ndarray]:
    """Of noise, as `efficientad` takes them."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(count)]
