"""The one call: a frame in, an inspection out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from edge_ad.backends import Backend, open_proven
from edge_ad.backends.device_frame import DeviceArray, is_on_device
from edge_ad.bundle import Bundle
from edge_ad.errors import FrameError, InspectionFault
from edge_ad.frame import Frame, Image, check_image
from edge_ad.golden import Answer
from edge_ad.inspection import Inspection, find_regions

__all__ = ["AUTO_PRECISIONS", "Inspector"]

AUTO_PRECISIONS = ("int8", "fp32", "fp16", "fp8")
"""In the order in which "auto" prefers them."""


class Inspector:
    """Loads a bundle, proves it on this machine, and gives verdicts.

    Args:
        bundle: A bundle directory, or an opened Bundle.
        precision: "fp32", "fp16", "int8", "fp8", or "auto": the first of int8, fp32, fp16, fp8 that the bundle has.
        backend: "tensorrt", "openvino", "onnxruntime", or "auto": the first of them that can run the bundle on this
            machine and reproduces its golden vectors. `self.backend` and every Inspection say which.
        threads: Cores that a backend on the CPU may keep busy; None: all. Inspectors that run at the same time are
            fastest with the cores divided among them.

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

    def __init__(
        self,
        bundle: str | Path | Bundle,
        *,
        precision: str = "auto",
        backend: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        precisions = self.bundle.manifest.precisions
        preferred = [name for name in AUTO_PRECISIONS if name in precisions]
        self.precision = preferred[0] if precision == "auto" else precision
        self.threshold = self.bundle.precision(self.precision).threshold
        self.size = (self.bundle.manifest.input.height, self.bundle.manifest.input.width)
        self._backend: Backend = open_proven(self.bundle, self.precision, backend, threads=threads)
        self.backend = self._backend.name

    @property
    def model_sha256(self) -> str:
        """Hash of the file that runs: the graph, or the engine compiled from it."""
        return self.bundle.manifest.files[self._backend.file]

    def inspect(self, frame: Frame | Image | DeviceArray) -> Inspection:
        """Inspect one frame of the bundle's camera size.

        Args:
            frame: (H, W, 3) uint8 BGR; with TensorRT also an array that lies on the GPU (cupy, torch, pycuda): it is
                read there, once what the array's library queued for it is done.

        Raises:
            FrameError: Wrong type, dtype or size.
            InspectionFault: NaN or Inf in the answer, or the backend failed: no verdict.
        """
        return self.inspect_batch([frame])[0]

    def inspect_batch(self, frames: Sequence[Frame | Image | DeviceArray] | DeviceArray) -> list[Inspection]:
        """Inspect several frames in one run of the graph; `latency_ms` of each is that of the whole batch.

        Args:
            frames: Frames on the host; or one array (N, H, W, 3) on the GPU; or frames there, which run one by one.
        """
        start = time.perf_counter_ns()
        if is_on_device(frames):
            maps, scores = self.answer(frames)
        elif len(frames) == 0:
            return []
        else:
            maps, scores = self._answer_each([f.image if isinstance(f, Frame) else f for f in frames])
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

    def _answer_each(self, images: Sequence[Image | DeviceArray]) -> Answer:
        if any(is_on_device(image) for image in images):
            answers = [self._answer_one_on_device(image) for image in images]
            return np.concatenate([maps for maps, _ in answers]), np.concatenate([scores for _, scores in answers])
        checked = [check_image(image, self.size) for image in images]
        return self.answer(np.ascontiguousarray(checked[0][None]) if len(checked) == 1 else np.stack(checked))

    def _answer_one_on_device(self, image: DeviceArray) -> Answer:
        expected = f"one frame of shape {(*self.size, 3)} on the GPU"
        if not is_on_device(image):
            raise FrameError("The frames lie partly on the GPU.", expected=expected, got=f"a {type(image).__name__}")
        maps, scores = self.answer(image)
        if len(scores) != 1:
            raise FrameError(
                "The array holds several frames.",
                expected=expected,
                got=f"{len(scores)} frames",
                fix="inspector.inspect_batch(frames)",
            )
        return maps, scores

    def answer(self, images: npt.NDArray[np.uint8] | DeviceArray) -> Answer:
        """Maps (N, h, w) and scores (N,) of a batch (N, H, W, 3) uint8 BGR, without verdicts.

        Raises:
            InspectionFault: NaN or Inf in the answer, or the backend failed.
        """
        maps, scores = self._backend.run(images)
        self._check_shapes(len(images) if isinstance(images, np.ndarray) else len(scores), maps, scores)
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
