"""Ranges of activations: where to clip each tensor so that INT8 loses least.

The largest value ever seen is a poor range: it is rare, and every value pays for it with a coarser step. Here each
tensor a convolution reads or writes gets the range of least mean squared error over its own histogram
(Banner et al., "Post Training 4-bit Quantization of Convolutional Networks", NeurIPS 2019, sec. 3). What a
rectifier will cut off does not count: a tensor that only ReLU reads has the range of its positive values, so that
quantising it before and again after the ReLU rounds once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, helper
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

from edge_ad.frame import Image, read_image
from edge_ad.progress import Progress
from edge_ad.training.defects import cut_paste

__all__ = ["LEVELS", "activation_ranges", "best_clip"]

LEVELS = 127  # of symmetric INT8, on each side of 0
SAMPLED = 1 << 16  # values of each tensor and frame that are counted; its largest always is
TENSORS_AT_ONCE = 32  # held in memory together
BINS_PER_OCTAVE = 64
LOWEST_OCTAVE, HIGHEST_OCTAVE = -40, 40  # magnitudes of 2**-40 to 2**40; smaller ones count as the smallest
CLIPS = 2.0 ** -(np.arange(65) / 16)  # of the largest value: down to a sixteenth of it

Histogram = npt.NDArray[np.int64]
CENTRES = 2.0 ** (
    LOWEST_OCTAVE + (np.arange((HIGHEST_OCTAVE - LOWEST_OCTAVE) * BINS_PER_OCTAVE) + 0.5) / BINS_PER_OCTAVE
)


def activation_ranges(content: bytes, paths: Sequence[Path], seed: int) -> TensorsData:
    """A symmetric range for every tensor a convolution of the graph reads or writes.

    Args:
        content: The float32 graph.
        paths: Normal images of the camera's size. Each is seen as it is and with a synthetic defect: ranges must hold
            for what is to be found.
    """
    model = onnx.load_model_from_string(content)
    rectified = _only_rectified(model.graph)
    groups = _grouped(_tensors_of_convolutions(model.graph))
    ranges = {}
    with Progress("int8 ranges", 2 * len(paths) * len(groups)) as progress:
        for group in groups:
            session = _session_with_outputs(model, group)
            histograms = {name: np.zeros(len(CENTRES), np.int64) for name in group}
            largest = dict.fromkeys(group, 0.0)
            for frame in _frames(paths, seed):
                for name, value in zip(group, session.run(group, {"image": frame[None]}), strict=True):
                    magnitude = np.maximum(value, 0).ravel() if name in rectified else np.abs(value).ravel()
                    largest[name] = max(largest[name], float(magnitude.max()))
                    _count(histograms[name], magnitude[:: max(1, magnitude.size // SAMPLED)])
                progress.step()
            for name in group:
                clip = np.float32(best_clip(histograms[name], largest[name]) or 1.0)
                ranges[name] = TensorData(lowest=-clip, highest=clip)
    return TensorsData(CalibrationMethod.MinMax, ranges)


def _frames(paths: Sequence[Path], seed: int) -> Iterator[Image]:
    rng = np.random.default_rng(seed)
    for path in paths:
        image = read_image(path)
        yield image
        yield cut_paste(image, rng)


def best_clip(histogram: Histogram, largest: float) -> float:
    """The range of least mean squared error, 0 where every value is 0.

    Args:
        histogram: Counts of the magnitudes CENTRES.
        largest: Largest magnitude, with which the search begins.
    """
    present = histogram.nonzero()[0]
    count, value = histogram[present], np.minimum(CENTRES[present], largest)
    errors = [float(count @ _squared_error(value, largest * clip)) for clip in CLIPS]
    return float(largest * CLIPS[int(np.argmin(errors))])


def _squared_error(value: npt.NDArray[np.float64], clip: float) -> npt.NDArray[np.float64]:
    """Expected error of rounding magnitudes to multiples of clip / 127, at most clip."""
    width = clip / LEVELS
    rounding = np.where(value < width / 2, value**2, width**2 / 12)
    return np.where(value > clip, (value - clip) ** 2, rounding)


def _count(histogram: Histogram, magnitude: npt.NDArray[np.float32]) -> None:
    octave = np.log2(np.maximum(magnitude, np.float32(2.0**LOWEST_OCTAVE)))
    bins = ((octave - LOWEST_OCTAVE) * BINS_PER_OCTAVE).astype(np.int64)
    histogram += np.bincount(np.minimum(bins, len(histogram) - 1), minlength=len(histogram))


def _tensors_of_convolutions(graph: GraphProto) -> list[str]:
    names = [name for node in graph.node if node.op_type == "Conv" for name in (node.input[0], node.output[0])]
    return list(dict.fromkeys(names))


def _only_rectified(graph: GraphProto) -> set[str]:
    """Tensors that nothing but ReLU reads."""
    readers: dict[str, set[str]] = {output.name: {"output"} for output in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    return {name for name, kinds in readers.items() if kinds == {"Relu"}}


def _grouped(names: list[str]) -> list[list[str]]:
    return [names[start : start + TENSORS_AT_ONCE] for start in range(0, len(names), TENSORS_AT_ONCE)]


def _session_with_outputs(model: ModelProto, names: Sequence[str]) -> Any:
    """A session that gives these tensors; what they do not need is not computed."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
