"""What tensors inside a graph hold for frames of the camera: the ground that budgeted passes stand on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from onnx import ModelProto, helper

from edge_ad.algebra.editor import Array
from edge_ad.backends.onnxruntime import open_session
from edge_ad.frame import Image
from edge_ad.progress import Progress

__all__ = ["responses"]


def responses(
    model: ModelProto, tensors: Sequence[str], frames: Iterable[Image], count: int, what: str
) -> Iterator[list[Array]]:
    """The tensors' values, (1, ...) each, frame by frame; what they do not need is not computed.

    Args:
        frames: (height, width, 3) uint8 of the camera's size.
        count: Of the frames.
        what: For the progress bar.
    """
    watched = ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    session = open_session(watched.SerializeToString(), f"the graph with its {what}")
    with Progress(what, count) as progress:
        for frame in frames:
            yield session.run(list(tensors), {"image": frame[None]})
            progress.step()
