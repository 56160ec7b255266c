"""Runtimes behind one verb. A backend turns a batch of bytes into maps and scores; it decides nothing."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_ad.backends.device_frame import DeviceArray
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleMismatch, EngineError, MissingDependency
from edge_ad.golden import Answer

__all__ = ["BACKENDS", "Backend", "open_backend"]

BACKENDS = ("tensorrt", "onnxruntime")
"""In the order in which "auto" tries them."""


class Backend(Protocol):
    """One precision of one bundle, loaded into a runtime.

    Attributes:
        name: What runs, for example "onnxruntime-cpu" or "tensorrt-rtx".
        file: The bundle's file that runs: a graph or an engine.
    """

    name: str
    file: str

    def run(self, images: npt.NDArray[np.uint8] | DeviceArray) -> Answer:
        """(N, H, W, 3) uint8 BGR, C-contiguous, to (anomaly_map (N, h, w), score (N,)); the arrays are the caller's.

        Raises:
            FrameError: Not of the bundle's size, or an array on the GPU for a backend that has none.
        """
        ...

    def close(self) -> None:
        """Release everything; a second call does nothing."""
        ...


def open_backend(bundle: Bundle, precision: str, backend: str) -> Backend:
    """Open `backend`, or with "auto" the first of BACKENDS that this machine and this bundle offer.

    Raises:
        EngineError, MissingDependency, BundleMismatch: From the backend asked for.
    """
    match backend:
        case "onnxruntime":
            from edge_ad.backends.onnxruntime import OnnxRuntimeBackend

            return OnnxRuntimeBackend(bundle, precision)
        case "tensorrt":
            from edge_ad.backends.tensorrt import TensorRtBackend

            return TensorRtBackend(bundle, precision)
        case "auto":
            return _best_available(bundle, precision)
    raise BundleMismatch(f"There is no backend {backend!r}.", expected=" or ".join((*BACKENDS, "auto")), got=backend)


def _best_available(bundle: Bundle, precision: str) -> Backend:
    if any(engine.precision == precision for engine in bundle.manifest.engines):
        try:
            return open_backend(bundle, precision, "tensorrt")
        except (EngineError, MissingDependency):
            pass  # no GPU, no TensorRT or no engine for it here: the CPU, and Inspection.backend says so
    return open_backend(bundle, precision, "onnxruntime")
