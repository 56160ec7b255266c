"""The one call: a frame in, an inspection out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from edge_ad.backends import Backend, open_backend
from edge_ad.bundle import Bundle
from edge_ad.errors import InspectionFault
from edge_ad.frame import Frame, Image, check_image
from edge_ad.golden import Answer, check_golden
from edge_ad.inspection import Inspection, find_regions

__all__ = ["AUTO_PRECISIONS", "Inspector"]

AUTO_PRECISIONS = ("int8", "fp32", "fp16", "fp8")
"""In the order in which "auto" prefers them."""


class Inspector:
    """Loads a bundle, proves it on this machine, and gives verdicts.

    Args:
        bundle: A bundle directory, or an opened Bundle.
        precision: "fp32", "fp16", "int8", "fp8", or "auto": the first of int8, fp32, fp16, fp8 that the bundle has.
        backend: "onnxruntime", "tensorrt", or "auto": TensorRT where an engine of the bundle fits this
            machine's GPU, else ONNX Runtime on the CPU. `self.backend` and every Inspection say which.

    Attributes:
        size: (height, width) of the frames it takes.

    Raises:
        BundleCorrupt: A file is missing, truncated or altered.
        BundleMismatch: The golden vectors are not reproduced here, or the precision is not in the bundle.
        EngineMismatch, NoGpu, MissingDependency: The backend that was asked for cannot run here.

    Example:
        >>> with Inspector("bottle.bundle") as inspector:          # doctest: +SKIP
        ...     inspection = inspector.inspect(cv2.imread("part.png"))
        ...     print(inspection.is_anomalous, inspection.score)
    """

    def __init__(self, bundle: str | Path | Bundle, *, precision: str = "auto", backend: str = "auto") -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        precisions = self.bundle.manifest.precisions
        preferred = [name for name in AUTO_PRECISIONS if name in precisions]
        self.precision = preferred[0] if precision == "auto" else precision
        self.threshold = self.bundle.precision(self.precision).threshold
        self.size = (self.bundle.manifest.input.height, self.bundle.manifest.input.width)
        self._backend: Backend = open_backend(self.bundle, self.precision, backend)
        self.backend = self._backend.name
        try:
            check_golden(self.bundle, self.precision, self.backend, self._backend.run)
        except BaseException:
            self._backend.close()
            raise

    @property
    def model_sha256(self) -> str:
        """Hash of the file that runs: the graph, or the engine compiled from it."""
        return self.bundle.manifest.files[self._backend.file]

    def inspect(self, frame: Frame | Image) -> Inspection:
        """Inspect one frame of the bundle's camera size.

        Raises:
            FrameError: Wrong type, dtype or size.
            InspectionFault: NaN or Inf in the answer, or the backend failed: no verdict.
        """
        return self.inspect_batch([frame])[0]

    def inspect_batch(self, frames: Sequence[Frame | Image]) -> list[Inspection]:
        """Inspect several frames in one run of the graph; `latency_ms` of each is that of the whole batch."""
        start = time.perf_counter_ns()
        if len(frames) == 0:
            return []
        images = [check_image(f.image if isinstance(f, Frame) else f, self.size) for f in frames]
        batch = np.ascontiguousarray(images[0][None]) if len(images) == 1 else np.stack(images)
        maps, scores = self.answer(batch)
        found = [find_regions(anomaly_map, self.threshold, self.size) for anomaly_map in maps]
        latency_ms = (time.perf_counter_ns() - start) / 1e6
        return [
            Inspection(
                score=float(score),
                threshold=self.threshold,
                anomaly_map=anomaly_map,
                regions=regions,
                latency_ms=latency_ms,
                precision=self.precision,
                backend=self.backend,
            )
            for score, anomaly_map, regions in zip(scores, maps, found, strict=True)
        ]

    def answer(self, images: npt.NDArray[np.uint8]) -> Answer:
        """Maps (N, h, w) and scores (N,) of a batch (N, H, W, 3) uint8 BGR, without verdicts.

        Raises:
            InspectionFault: NaN or Inf in the answer, or the backend failed.
        """
        maps, scores = self._backend.run(images)
        self._check_shapes(len(images), maps, scores)
        if not (np.isfinite(scores).all() and np.isfinite(maps).all()):
            raise InspectionFault(
                "The answer holds NaN or Inf, so there is no verdict.",
                expected="finite scores and maps",
                got=f"scores {scores.tolist()}",
                fix=f"edge-ad verify {self.bundle.path}",
            )
        return maps, scores

    def _check_shapes(self, count: int, maps: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> None:
        of_map = self.bundle.manifest.map
        if maps.shape != (count, of_map.height, of_map.width) or scores.shape != (count,):
            raise InspectionFault(
                f"{self.backend} gave an answer of the wrong shape.",
                expected=f"maps ({count}, {of_map.height}, {of_map.width}), scores ({count},)",
                got=f"maps {maps.shape}, scores {scores.shape}",
                fix=f"edge-ad verify {self.bundle.path}",
            )

    def close(self) -> None:
        """Release the backend; a second call does nothing."""
        self._backend.close()

    def __enter__(self) -> Inspector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
