"""ONNX Runtime on the CPU: the reference every engine is compared with, and the default without a GPU."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edge_ad.backends.device_frame import DeviceArray, check_on_host
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleCorrupt, InspectionFault
from edge_ad.golden import Answer

__all__ = ["DISABLED_OPTIMIZERS", "OUTPUTS", "OnnxRuntimeBackend", "answer_frames", "open_session"]

OUTPUTS = ("anomaly_map", "score")
DISABLED_OPTIMIZERS = ("CommonSubexpressionElimination",)
"""It would join equal Q/DQ pairs, and what is read twice becomes no kernel of integers. Graphs are exported without
common subexpressions."""


def open_session(graph: bytes, source: str, *, integer_kernels: bool = True, threads: int | None = None) -> Any:
    """An ONNX Runtime CPU session of a graph.

    Args:
        source: What it is, for messages.
        integer_kernels: Whether Q/DQ pairs may become kernels of integers. FP8 has none here, and is emulated.
        threads: That compute one operator together; None: one for each physical core.

    Raises:
        BundleCorrupt: ONNX Runtime refuses the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    # Planned blocks come on top of what the first run took: 414 MB instead of 248 for EfficientAD-S in INT8.
    options.enable_mem_pattern = False
    _share_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    if not integer_kernels:
        # The further optimisations take FP8 for INT8: they ask for QLinearConv, and drop a ReLU before QuantizeLinear.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        return onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=[*DISABLED_OPTIMIZERS]
        )
    except Exception as exc:  # onnxruntime's errors share no base class of their own
        raise BundleCorrupt(f"ONNX Runtime {onnxruntime.__version__} refuses {source}.", got=exc) from exc


@cache
def _share_memory() -> None:
    """One arena for what all sessions of this process compute.

    A session that waits, such as a station's next recipe, then holds its weights alone: of SuperSimpleNet 6 MB instead
    of 70.
    """
    import onnxruntime

    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    arena = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(arena, None)


def answer_frames(session: Any, images: npt.NDArray[np.uint8]) -> Answer:
    """Maps and scores of (N, H, W, 3) uint8, frame by frame: memory stays that of one frame.

    Raises:
        InspectionFault: A map or score is NaN or Inf.
    """
    pairs = [session.run(OUTPUTS, {"image": images[index : index + 1]}) for index in range(len(images))]
    maps, scores = zip(*pairs, strict=True)
    answer: Answer = np.concatenate(maps), np.concatenate(scores)
    if not all(np.isfinite(part).all() for part in answer):
        raise InspectionFault("The graph answers a real frame with NaN or Inf.", expected="finite maps and scores")
    return answer


class OnnxRuntimeBackend:
    """The bundle's ONNX graph in ONNX Runtime on the CPU."""

    name = "onnxruntime-cpu"

    def __init__(self, bundle: Bundle, precision: str, *, threads: int | None = None) -> None:
        self.file = graph = bundle.precision(precision).graph
        source = str(bundle.path / graph)
        self._session = open_session(bundle.read(graph), source, integer_kernels=precision != "fp8", threads=threads)

    def run(self, images: npt.NDArray[np.uint8] | DeviceArray) -> Answer:
        if self._session is None:
            raise InspectionFault("The inspector is closed.", fix="open a new Inspector")
        check_on_host(images)
        try:
            return cast(Answer, tuple(self._session.run(OUTPUTS, {"image": images})))
        except Exception as exc:  # see open_session
            raise InspectionFault("ONNX Runtime failed to run the graph.", got=exc) from exc

    def close(self) -> None:
        self._session = None
