"""The one graph: torch, ONNX Runtime and the pipeline of training give the same scores, at every camera and batch."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edge_ad.backends.onnxruntime import OUTPUTS, open_session
from edge_ad.training.export import onnx_from_graph
from tests.training.graphs import SIZE, inspection_graph, network, parts, plain_inputs

METHODS = ("simplenet", "efficientad-s")
# The network's own size, a large landscape camera, and an odd one.
CAMERAS = ((SIZE, SIZE), (1200, 1920), (333, 517))
PARITY = 1e-3  # largest score difference, in standard deviations of the scores of normal parts
SAME_RESIZE = 2e-2  # the same where the resize is torch's: 1e-4 of the image range, seen through the network

every_graph = pytest.mark.parametrize(
    ("method", "camera"), [(method, camera) for method in METHODS for camera in CAMERAS], ids=str
)


@cache
def exported(method: str, camera: tuple[int, int]) -> bytes:
    return onnx_from_graph(inspection_graph(method, camera))


@cache
def session(method: str, camera: tuple[int, int]) -> Any:
    return open_session(exported(method, camera), method)


@cache
def onnx_answers(method: str, camera: tuple[int, int], batch: int) -> list[np.ndarray]:
    """Maps and scores of the first parts, in one run."""
    answers: list[np.ndarray] = session(method, camera).run(OUTPUTS, {"image": parts(camera, 5)[:batch]})
    return answers


@cache
def spread(method: str) -> float:
    """Standard deviation of the scores of ten good parts, by the pipeline of training: the unit of all errors here."""
    with torch.inference_mode():
        return float(network(method)(plain_inputs(parts((SIZE, SIZE), 10, seed=2)))[1].std())


@every_graph
def test_torch_and_onnx_runtime_agree_for_every_batch(method: str, camera: tuple[int, int]) -> None:
    with torch.inference_mode():
        expected = [output.numpy() for output in inspection_graph(method, camera)(torch.from_numpy(parts(camera, 5)))]
    assert np.ptp(expected[1]) > 0.1 * spread(method), "different parts have different scores"
    for batch in (1, 2, 5):
        for wanted, came in zip(expected, onnx_answers(method, camera, batch), strict=True):
            assert np.abs(came - wanted[:batch]).max() / spread(method) < PARITY


@every_graph
def test_the_graph_answers_like_the_pipeline_of_training(method: str, camera: tuple[int, int]) -> None:
    with torch.inference_mode():
        expected = network(method)(plain_inputs(parts(camera, 2)))
    for wanted, came in zip(expected, onnx_answers(method, camera, 2), strict=True):
        assert np.abs(came - wanted.numpy()).max() / spread(method) < SAME_RESIZE


@pytest.mark.parametrize("camera", [*CAMERAS, (96, 128), (101, 300), (300, 101)], ids=str)
def test_preprocessing_is_that_of_training(camera: tuple[int, int]) -> None:
    """Noise has every frequency, so a filter that is slightly wrong shows; the range is that of 0 to 255 / std."""
    images = np.random.default_rng(0).integers(0, 256, (2, *camera, 3), dtype=np.uint8)
    prepared = inspection_graph("simplenet", camera).prepare(torch.from_numpy(images))
    assert prepared.shape == (2, 3, SIZE, SIZE) and prepared.dtype == torch.float32
    assert (prepared - plain_inputs(images)).abs().max() < 1e-4 / 0.224


def test_colours_are_not_swapped() -> None:
    """Pure blue, green and red pixels of a BGR camera arrive in the planes 2, 1 and 0."""
    for channel, plane in ((0, 2), (1, 1), (2, 0)):
        image = np.zeros((1, 40, 30, 3), np.uint8)
        image[..., channel] = 255
        prepared = inspection_graph("simplenet", (40, 30)).prepare(torch.from_numpy(image))[0]
        assert int(prepared.mean((1, 2)).argmax()) == plane


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_frames_one_by_one(method: str) -> None:
    camera = CAMERAS[-1]
    images = parts(camera, 5)
    alone = [session(method, camera).run(OUTPUTS, {"image": image[None]}) for image in images]
    for together, singles in zip(onnx_answers(method, camera, 5), zip(*alone, strict=True), strict=True):
        assert np.abs(together - np.concatenate(singles)).max() / spread(method) < PARITY


@every_graph
def test_inputs_and_outputs_are_the_contract(method: str, camera: tuple[int, int]) -> None:
    graph = onnx.load_model_from_string(exported(method, camera)).graph
    kinds = {"image": onnx.TensorProto.UINT8, "anomaly_map": onnx.TensorProto.FLOAT, "score": onnx.TensorProto.FLOAT}
    shapes = {"image": [*camera, 3], "anomaly_map": [SIZE, SIZE], "score": []}
    assert [value.name for value in graph.input] == ["image"]
    assert [value.name for value in graph.output] == ["anomaly_map", "score"]
    batches = set()
    for value in [*graph.input, *graph.output]:
        first, *rest = value.type.tensor_type.shape.dim
        assert value.type.tensor_type.elem_type == kinds[value.name]
        assert [dimension.dim_value for dimension in rest] == shapes[value.name]
        assert first.WhichOneof("value") == "dim_param"
        batches.add(first.dim_param)
    assert len(batches) == 1, "the batch has one name"


@pytest.mark.parametrize("method", METHODS)
def test_the_image_enters_a_cast(method: str) -> None:
    """TensorRT takes uint8 nowhere else."""
    graph = onnx.load_model_from_string(exported(method, CAMERAS[-1])).graph
    assert {node.op_type for node in graph.node if "image" in node.input} == {"Cast"}


@pytest.mark.parametrize("method", METHODS)
def test_only_standard_operators_and_nothing_of_this_machine(method: str) -> None:
    content = exported(method, CAMERAS[-1])
    model = onnx.load_model_from_string(content)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert not model.functions
    assert not {"BatchNormalization", "Dropout", "Constant", "Identity"} & {node.op_type for node in model.graph.node}
    text = b"".join(_without_weights(model).SerializeToString().split(b"\0"))
    for trace in (b"site-packages", b".py", b"/home", b"/work", b"/tmp", b"/usr", b"stack_trace"):
        assert trace not in text


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights are random bytes: four of them could spell a path."""
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    return model
