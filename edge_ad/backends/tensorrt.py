"""TensorRT and TensorRT-RTX: the bundle's engine for this machine's GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import numpy.typing as npt

from edge_ad.backends.cuda import RECREATE, Device, open_device
from edge_ad.backends.device_frame import DeviceArray, DeviceFrames, device_frames, is_on_device
from edge_ad.backends.engine import LoadedEngine, release_engine, share_engine
from edge_ad.backends.engine_choice import Machine, choose_engine
from edge_ad.backends.execution import Execution, ExecutionOptions
from edge_ad.backends.flavours import INPUT, Flavour, installed_flavours, load_flavour
from edge_ad.backends.onnxruntime import OUTPUTS
from edge_ad.backends.runtime_cache import RuntimeCacheFile
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineError, FrameError, InspectionFault
from edge_ad.golden import Answer
from edge_ad.manifest import EngineEntry

__all__ = ["TensorRtBackend"]


class TensorRtBackend:
    """The bundle's engine of one precision on the first visible GPU.

    Threads may share one: they take turns. For work side by side give each thread a backend of its own; they share the
    engine, and each has its own execution context, stream and buffers.

    Attributes:
        graph_state: Whether inferences are replayed as a CUDA graph, and why not; see Execution.

    Raises:
        MissingDependency, NoGpu: This machine cannot run TensorRT.
        EngineMismatch: The bundle has no engine for it.
        BundleCorrupt: The engine's file is not the one the manifest describes.
        EngineError: TensorRT or CUDA refuses; nothing is kept on the GPU.
    """

    name: str
    file: str

    def __init__(self, bundle: Bundle, precision: str, options: ExecutionOptions | None = None) -> None:
        self._turn = threading.Lock()
        self._broken: EngineError | None = None
        self._loaded: LoadedEngine | None = None
        self._execution: Execution | None = None
        self._device: Device = open_device()  # first: without a GPU there is no need to load TensorRT's libraries
        try:
            flavours = {flavour.name: flavour for flavour in map(load_flavour, installed_flavours() or (None,))}
            versions = {name: flavour.version for name, flavour in flavours.items()}
            machine = Machine(versions=versions, capability=self._device.capability)
            entry = choose_engine(bundle, precision, machine)
            with self._device.active():
                self._load(bundle, entry, flavours[entry.flavour], options)
        except BaseException as exc:
            if isinstance(exc, EngineError):
                self._broken = exc
            self.close()
            raise

    def _load(self, bundle: Bundle, entry: EngineEntry, flavour: Flavour, options: ExecutionOptions | None) -> None:
        self.name = "tensorrt-rtx" if flavour.name == "rtx" else "tensorrt"
        self.file, self._source = entry.file, str(bundle.path / entry.file)
        self._loaded = share_engine(bundle, entry, flavour)
        size, of_map = bundle.manifest.input, bundle.manifest.map
        self._size = (size.height, size.width)
        shapes = {
            INPUT: (entry.max_batch, size.height, size.width, 3),
            OUTPUTS[0]: (entry.max_batch, of_map.height, of_map.width),
            OUTPUTS[1]: (entry.max_batch,),
        }
        cache = None
        if hasattr(flavour.trt, "IRuntimeCache"):
            cache = RuntimeCacheFile(bundle.manifest.files[entry.file], flavour.version, self._device)
        self._execution = Execution(
            self._device, self._loaded, shapes, min_batch=entry.settings.min_batch, options=options, cache=cache
        )
        for _ in range(2):  # so that the golden vectors meet what serves: the second inference captures the graph
            self._execution.infer(1)
        self._execution.save_cache()

    @property
    def graph_state(self) -> str:
        return "closed" if self._execution is None else self._execution.graph_state

    def run(self, images: npt.NDArray[np.uint8] | DeviceArray) -> Answer:
        """See Backend.run. A batch larger than the engine's largest runs in chunks.

        Args:
            images: Also an array on the GPU, of one frame (H, W, 3) too; see edge_ad.backends.device_frame.

        Raises:
            FrameError: The images do not fit the engine; the next ones may.
            InspectionFault: TensorRT or CUDA failed; from here on this backend only says so.
        """
        with self._turn, self._work() as execution:
            if is_on_device(images):
                return self._run_on_device(execution, images)
            return self._run_from_host(execution, images)

    @contextmanager
    def exclusively(self) -> Iterator[tuple[Device, Execution]]:
        """The device and what runs on it, for measurements: current for this thread, and no other thread's turn."""
        with self._turn, self._work() as execution:
            yield self._device, execution

    @contextmanager
    def _work(self) -> Iterator[Execution]:
        if self._execution is None:
            raise InspectionFault("The inspector is closed.", fix="open a new Inspector")
        if self._broken is not None:
            raise self._fault("was stopped by an earlier error", self._broken)
        try:
            with self._device.active():
                yield self._execution
        except EngineError as exc:
            self._broken = exc
            raise self._fault("failed to run", exc) from exc
        except BaseException:  # Ctrl-C, say: nothing may be under way when the buffers are used or freed next
            with suppress(EngineError):
                self._device.synchronize(stream=self._execution.stream)
            raise

    def _fault(self, happened: str, cause: EngineError) -> InspectionFault:
        return InspectionFault(f"{self._source} {happened}.", got=cause, fix=cause.fix or RECREATE)

    def _run_from_host(self, execution: Execution, images: npt.NDArray[np.uint8]) -> Answer:
        image = execution.image
        if images.dtype != image.dtype or images.shape[1:] != image.shape[1:]:
            raise FrameError(
                "The batch does not fit the engine.",
                expected=f"uint8 array of shape {('N', *image.shape[1:])}",
                got=f"{images.dtype} array of shape {images.shape}",
            )

        def infer(start: int, count: int) -> None:
            image[:count] = images[start : start + count]
            execution.infer(count)

        return _in_chunks(execution, len(images), infer)

    def _run_on_device(self, execution: Execution, images: DeviceArray) -> Answer:
        frames = device_frames(images, self._size, stream=execution.stream)
        self._check_place(frames)
        frame_bytes = execution.image[:1].nbytes
        if frames.follow is not None:
            self._device.follow(frames.follow, stream=execution.stream)
        return _in_chunks(
            execution,
            frames.shape[0],
            lambda start, count: execution.infer_at(frames.pointer + start * frame_bytes, count),
        )

    def _check_place(self, frames: DeviceFrames) -> None:
        if frames.shape[0] and not self._device.holds(frames.pointer):
            raise FrameError(
                "The array lies on another GPU, or its memory was freed.",
                expected=f"memory of {self._device.name}, the first visible GPU",
                got=f"address {frames.pointer:#x}",
                fix="copy it to that GPU, or let CUDA_VISIBLE_DEVICES name one GPU only",
            )

    def close(self) -> None:
        """Release the engine and the GPU's memory, after an inference that runs now; a second call does nothing."""
        with self._turn:
            execution, self._execution = self._execution, None
            loaded, self._loaded = self._loaded, None
            told_already = (EngineError,) if self._broken is not None else ()
            with suppress(*told_already):
                try:
                    if loaded is not None:
                        with self._device.active():
                            self._release(execution, loaded)
                finally:
                    self._device.close()

    def _release(self, execution: Execution | None, loaded: LoadedEngine) -> None:
        try:
            if execution is not None:
                self._settle(execution)
                execution.close()
        finally:
            release_engine(loaded)

    def _settle(self, execution: Execution) -> None:
        if self._broken is None:
            execution.save_cache()
            return
        with suppress(EngineError):  # else what is freed may still be in use
            self._device.synchronize(stream=execution.stream)


def _in_chunks(execution: Execution, count: int, infer: Callable[[int, int], None]) -> Answer:
    """Call `infer(start, count)` for as many frames as the engine takes at once, and gather the answers."""
    anomaly_map, score = execution.answer
    maps, scores = np.empty((count, *anomaly_map.shape[1:]), np.float32), np.empty(count, np.float32)
    for start in range(0, count, execution.max_batch):
        rows = min(execution.max_batch, count - start)
        infer(start, rows)
        maps[start : start + rows], scores[start : start + rows] = anomaly_map[:rows], score[:rows]
    return maps, scores
