"""What the float32 graph's activations look like on real frames: the ground that ranges and corrections stand on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, helper

from edge_ad.frame import Image, read_image
from edge_ad.progress import Progress
from edge_ad.training.defects import cut_paste

__all__ = ["CENTRES", "EDGES", "Histogram", "Observation", "evenly", "observe", "with_defects"]

SAMPLED = 1 << 16  # values of each tensor and frame that are counted; its largest always is
TENSORS_AT_ONCE = 32  # held in memory together
BINS_PER_OCTAVE = 64
LOWEST_OCTAVE, HIGHEST_OCTAVE = -40, 40  # magnitudes of 2**-40 to 2**40; smaller ones count as the smallest
_BINS = (HIGHEST_OCTAVE - LOWEST_OCTAVE) * BINS_PER_OCTAVE

Histogram = npt.NDArray[np.int64]
CENTRES = 2.0 ** (LOWEST_OCTAVE + (np.arange(_BINS) + 0.5) / BINS_PER_OCTAVE)
EDGES = 2.0 ** (LOWEST_OCTAVE + np.arange(_BINS + 1) / BINS_PER_OCTAVE)


@dataclass(kw_only=True, eq=False)
class Observation:
    """Of one tensor, over all frames.

    Attributes:
        histogram: Counts of the magnitudes CENTRES. Of a tensor that only ReLU reads, positive values alone count:
            what a rectifier will cut off needs no room, and quantising before and again after the ReLU rounds once.
        largest: The largest magnitude that counts.
        magnitude: The largest magnitude of all.
        channel_mean: Mean of every channel (axis 1) of an image-like tensor, weighted alike over frames.
        channel_largest: Largest magnitude of every channel.
    """

    histogram: Histogram = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    largest: float = 0.0
    magnitude: float = 0.0
    channel_mean: npt.NDArray[np.float64] | float = 0.0
    channel_largest: npt.NDArray[np.float32] | float = 0.0

    def add(self, value: npt.NDArray[np.float32], *, rectified: bool, share: float) -> None:
        """Count one frame's values, of which there are 1 / `share`."""
        counted = np.maximum(value, 0).ravel() if rectified else np.abs(value).ravel()
        self.largest = max(self.largest, float(counted.max()))
        self.magnitude = max(self.magnitude, float(np.abs(value).max()))
        self.histogram += _counts(counted[:: max(1, counted.size // SAMPLED)])
        if value.ndim == 4:
            self.channel_mean = self.channel_mean + share * value.mean((0, 2, 3), dtype=np.float64)
            self.channel_largest = np.maximum(self.channel_largest, np.abs(value).max((0, 2, 3)))


def observe(model: ModelProto, names: Sequence[str], paths: Sequence[Path], seed: int) -> dict[str, Observation]:
    """Observe float32 tensors of a graph.

    Args:
        names: The tensors.
        paths: Normal images of the camera's size. Each is seen as it is and with a synthetic defect: what is learned
            here must hold for what is to be found.
    """
    rectified = _only_rectified(model.graph)
    groups = [names[start : start + TENSORS_AT_ONCE] for start in range(0, len(names), TENSORS_AT_ONCE)]
    observations = {name: Observation() for name in names}
    share = 1 / (2 * len(paths))
    with Progress("activations", 2 * len(paths) * len(groups)) as progress:
        for group in groups:
            session = _session_with_outputs(model, group)
            for frame in with_defects(paths, seed):
                for name, value in zip(group, session.run(group, {"image": frame[None]}), strict=True):
                    observations[name].add(value, rectified=name in rectified, share=share)
                progress.step()
    return observations


def with_defects(paths: Sequence[Path], seed: int) -> Iterator[Image]:
    """Every image as it is, and then with a synthetic defect."""
    rng = np.random.default_rng(seed)
    for path in paths:
        image = read_image(path)
        yield image
        yield cut_paste(image, rng)


def evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of them, from all over the list."""
    step = max(1.0, len(paths) / count)
    return [paths[int(index * step)] for index in range(min(count, len(paths)))]


def _counts(magnitude: npt.NDArray[np.float32]) -> Histogram:
    octave = np.log2(np.maximum(magnitude, np.float32(2.0**LOWEST_OCTAVE)))
    bins = ((octave - LOWEST_OCTAVE) * BINS_PER_OCTAVE).astype(np.int64)
    return np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)


def _only_rectified(graph: GraphProto) -> set[str]:
    """Tensors that nothing but ReLU reads."""
    readers: dict[str, set[str]] = {output.name: {"output"} for output in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    return {name for name, kinds in readers.items() if kinds == {"Relu"}}


def _session_with_outputs(model: ModelProto, names: Sequence[str]) -> Any:
    """A session that gives these tensors; what they do not need is not computed."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
