"""Small graphs with a trunk of two convolutions, and bundles of real images to calibrate them with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edge_ad.bundle import Bundle
from tests.golden_bundle import CAMERA, bundle_of


def two_convolutions(*, gain: float = 0.05, outlier: float = 1.0, channels: int = 8, rank: int | None = None) -> bytes:
    """Cast, Transpose, Div; Conv, Relu, Resize, Conv; Mul, ReduceMax. 16 x 24 pixels, the map the same.

    Args:
        gain: Scale of the first convolution's weights.
        outlier: Factor on one of its input channels, which its weights more than divide out. All channels of a
            tensor share one INT8 scale, so a large factor leaves no steps for the others: only here, not after it.
        channels: Between the convolutions.
        rank: Of the first convolution's weights, by default the full one.
    """
    rng = np.random.default_rng(0)
    first = gain * rng.standard_normal((channels, 3, 3, 3)).astype(np.float32)
    if rank is not None:
        axes, _ = np.linalg.qr(rng.standard_normal((channels, rank)))
        first = (axes @ axes.T @ first.reshape(channels, -1)).reshape(first.shape).astype(np.float32)
    second = rng.standard_normal((1, channels, 3, 3)).astype(np.float32)
    first[:, 0] /= outlier**2
    white = np.array([255 / outlier, 255, 255], np.float32).reshape(3, 1, 1)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], "to_nchw", perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "white"], ["normalised"], "normalise"),
        helper.make_node("Conv", ["normalised", "w1", "b1"], ["features"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["features"], ["rectified"], "relu"),
        helper.make_node("Resize", ["rectified", "", "scales"], ["resized"], "resize", mode="linear"),
        helper.make_node("Conv", ["resized", "w2"], ["distance"], "conv2", pads=[1] * 4),
        helper.make_node("Mul", ["distance", "gain"], ["scaled"], "scale"),
        helper.make_node("Squeeze", ["scaled", "channel"], ["anomaly_map"], "squeeze"),
        helper.make_node("ReduceMax", ["anomaly_map", "axes"], ["score"], "max", keepdims=0),
    ]
    constants = {
        "white": white,
        "w1": first,
        "b1": 0.1 * rng.standard_normal(channels).astype(np.float32),
        "scales": np.ones(4, np.float32),
        "w2": second,
        "gain": np.array(0.5, np.float32),
        "channel": np.array([1]),
        "axes": np.array([1, 2]),
    }
    graph = helper.make_graph(
        nodes,
        "two_convolutions",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", CAMERA.height, CAMERA.width, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", CAMERA.height, CAMERA.width]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def small_bundle(path: Path) -> Bundle:
    """A float32 bundle that calibrates in a second."""
    return bundle_of(path, {"fp32": two_convolutions()})


def write_images(folder: Path, count: int, *, seed: int = 0, size: tuple[int, int] = (16, 24)) -> list[Path]:
    """Smooth noise of the camera's size and of varying brightness, so that scores vary; 00.png and on."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{index:02}.png" for index in range(count)]
    for path in paths:
        brightest = int(rng.integers(60, 256))
        image = cv2.GaussianBlur(rng.integers(0, brightest, (*size, 3), dtype=np.uint8), (0, 0), 1)
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return paths
