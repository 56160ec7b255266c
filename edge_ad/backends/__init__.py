"""Runtimes behind one verb. A backend turns a batch of bytes into maps and scores; it decides nothing."""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_ad.backends.device_frame import DeviceArray
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleMismatch, EngineError, MissingDependency
from edge_ad.golden import Answer, check_golden

__all__ = ["BACKENDS", "Backend", "open_backend", "open_proven"]

BACKENDS = ("tensorrt", "openvino", "onnxruntime")
"""The fastest first, as measured (docs/performance-notes.md): "auto" tries them in this order."""

_log = logging.getLogger(__name__)


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


def open_backend(bundle: Bundle, precision: str, backend: str, *, threads: int | None = None) -> Backend:
    """Open one of BACKENDS, whose answers are not proven yet.

    Args:
        threads: Cores that a CPU backend may keep busy; None: all.

    Raises:
        EngineError, MissingDependency, BundleMismatch, BundleCorrupt: It cannot run this bundle here.
    """
    if threads is not None and threads < 1:
        raise EngineError("A backend needs a core.", expected="threads from 1 on, or None for all cores", got=threads)
    match backend:
        case "onnxruntime":
            from edge_ad.backends.onnxruntime import OnnxRuntimeBackend

            return OnnxRuntimeBackend(bundle, precision, threads=threads)
        case "openvino":
            from edge_ad.backends.openvino import OpenVinoBackend

            return OpenVinoBackend(bundle, precision, threads=threads)
        case "tensorrt":
            from edge_ad.backends.tensorrt import TensorRtBackend

            return TensorRtBackend(bundle, precision)
    raise BundleMismatch(f"There is no backend {backend!r}.", expected=" or ".join((*BACKENDS, "auto")), got=backend)


def open_proven(bundle: Bundle, precision: str, backend: str, *, threads: int | None = None) -> Backend:
    """Open a backend that reproduces the bundle's golden vectors on this machine.

    Args:
        backend: One of BACKENDS; "auto": the first of them that is installed, can run the bundle and reproduces the
            golden vectors. What is passed over is logged, with the reason.
        threads: Cores that a CPU backend may keep busy; None: all.

    Raises:
        EngineError, MissingDependency, BundleCorrupt: From the backend asked for.
        BundleMismatch: The golden vectors are not reproduced, or the bundle lacks what was asked of it.
    """
    if backend != "auto":
        return _proven(bundle, precision, open_backend(bundle, precision, backend, threads=threads))
    has_engine = any(engine.precision == precision for engine in bundle.manifest.engines)
    *preferred, last = BACKENDS if has_engine else BACKENDS[1:]
    for name in preferred:
        try:
            opened = open_backend(bundle, precision, name, threads=threads)
        except (EngineError, MissingDependency) as error:
            _log.info("%s cannot run %s in %s here: %s", name, bundle.path, precision, error)
            continue
        try:
            return _proven(bundle, precision, opened)
        except BundleMismatch as error:
            _log.warning("%s is passed over for the next backend: %s", opened.name, error)
    return _proven(bundle, precision, open_backend(bundle, precision, last, threads=threads))


def _proven(bundle: Bundle, precision: str, opened: Backend) -> Backend:
    try:
        check_golden(bundle, precision, opened.name, opened.run)
    except BaseException:
        opened.close()
        raise
    return opened
