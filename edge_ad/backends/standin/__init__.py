"""A GPU with CUDA and TensorRT made of ordinary memory, for tests without a GPU: yours as well as this package's.

The package runs unchanged, call for call; only the vendors' modules are replaced. Inspectors give real verdicts,
because ONNX Runtime computes what the engine would. What a GPU would forgive by luck fails here with a Misuse: work
queued before an address is set, a buffer too small, a result read before the stream was waited for, work that does not
wait for another stream's, capture without an inference before it, a graph whose context changed, memory used after it
was freed, anything left behind at the end. It says nothing of speed.

    from edge_ad import Bundle, Inspector
    from edge_ad.backends import standin

    bundle = Bundle("copy_of_my.bundle")           # a copy: an engine for the stand-in is put into it
    standin.add_engine(bundle, "int8")
    with standin.gpu() as gpu, Inspector(bundle, precision="int8", backend="tensorrt") as inspector:
        inspector.inspect(frame)                   # from the host
        on_gpu = gpu.array(frame)                  # as a camera or decoder library would have it on the GPU
        inspector.inspect(on_gpu)
        on_gpu.free()
        gpu.fail("cudaStreamSynchronize", "cudaErrorLaunchFailure")
        inspector.inspect(frame)                   # InspectionFault, as on a GPU that died
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt

from edge_ad.backends import vendor
from edge_ad.backends.cuda import BINDINGS
from edge_ad.backends.flavours import MODULES
from edge_ad.backends.standin.arrays import StandInArray, StandInDlpackArray
from edge_ad.backends.standin.cuda import CudaRuntime, Status
from edge_ad.backends.standin.machine import Machine, Misuse
from edge_ad.backends.standin.trt import VERSION, TensorRt, engine_from_graph
from edge_ad.bundle import Bundle
from edge_ad.golden import Answer
from edge_ad.manifest import EngineEntry, EngineSettings

__all__ = ["VERSION", "Gpu", "Misuse", "StandInArray", "StandInDlpackArray", "add_engine", "gpu"]


class Gpu:
    """The stand-in, while it lasts.

    Attributes:
        calls: Names of the CUDA and TensorRT functions called so far, in order.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.calls = machine.calls

    def array(self, values: npt.NDArray[Any], *, stream: int = 1) -> StandInArray:
        """An array on this GPU, filled by work queued on a stream (1: the default stream); `free()` it at the end."""
        with self.machine.lock:
            return StandInArray(self.machine, values, stream)

    def dlpack(self, array: StandInArray) -> StandInDlpackArray:
        """The same array, by DLPack instead of `__cuda_array_interface__`."""
        return StandInDlpackArray(array, self.machine)

    def stream(self) -> int:
        """A stream of your own for `array`."""
        return self.machine.add_stream()

    def fail(self, function: str, error: str) -> None:
        """From now on a CUDA function returns an error: fail("cudaMalloc", "cudaErrorMemoryAllocation").

        After cudaErrorLaunchFailure, cudaErrorIllegalAddress and cudaErrorECCUncorrectable every other fails too, as
        with CUDA.
        """
        self.machine.failing[function] = Status[error].name

    def refuse(self, method: str, message: str) -> None:
        """From now on a TensorRT method refuses: refuse("create_execution_context", "out of memory").

        Also "deserialize_cuda_engine" and "execute_async_v3". The message is what TensorRT logs.
        """
        self.machine.refusing[method] = message

    def distort(self, change: Callable[[Answer], Answer] | None) -> None:
        """From now on engines answer what `change` makes of their (anomaly_map, score); None: as they should."""
        self.machine.distort = change

    def mend(self) -> None:
        """End what fail, refuse and distort began."""
        self.machine.failing.clear()
        self.machine.refusing.clear()
        self.machine.distort = self.machine.lost = None

    def held(self) -> dict[str, int]:
        """How many things of each kind are not released now: buffers, streams, events, graphs, contexts, engines."""
        with self.machine.lock:
            return self.machine.held()

    @property
    def compilations(self) -> int:
        """Kernels that TensorRT-RTX finished here, because no runtime cache had them."""
        return self.machine.compilations


@contextmanager
def gpu(
    *,
    capability: tuple[int, int] = (8, 9),
    integrated: bool = False,
    memory_bytes: int = 8 << 30,
    flavour: str = "rtx",
) -> Iterator[Gpu]:
    """Until the block ends this process has one GPU, cuda-python and a TensorRT, all of them the stand-in's.

    Args:
        integrated: Host and GPU share one memory, as on a Jetson.
        flavour: "rtx" for TensorRT-RTX or "trt" for TensorRT.

    Raises:
        Misuse: Something was left behind at the end; or, at once, what the module's text lists.
    """
    machine = Machine(capability=capability, integrated=integrated, memory_bytes=memory_bytes)
    modules = {BINDINGS["cuda-python"]: CudaRuntime(machine), MODULES[flavour]: TensorRt(machine, flavour)}
    with vendor.replaced(modules):
        yield Gpu(machine)
    left = machine.held()
    if left and machine.lost is None:  # of a lost GPU nothing can be released
        raise Misuse(f"left behind: {', '.join(f'{count} {what}' for what, count in left.items())}")


def add_engine(
    bundle: Bundle,
    precision: str,
    *,
    target: str = "sm89",
    flavour: str = "rtx",
    min_batch: int = 1,
    max_batch: int = 1,
) -> EngineEntry:
    """Put an engine that only the stand-in runs into a bundle.

    Args:
        bundle: A copy of yours, since its manifest changes.
    """
    graph = bundle.precision(precision).graph
    entry = EngineEntry(
        file=f"engines/{precision}-{flavour}-stand-in-{target}.engine",
        flavour=flavour,
        version=VERSION,
        target=target,
        precision=precision,
        graph_sha256=bundle.manifest.files[graph],
        max_batch=max_batch,
        settings=EngineSettings(min_batch=min_batch),
    )
    content = engine_from_graph(bundle.read(graph), target=target, min_batch=min_batch, max_batch=max_batch)
    with bundle.edit() as edit:
        edit.write(entry.file, content)
        others = (other for other in edit.manifest.engines if other.file != entry.file)
        edit.manifest = dataclasses.replace(edit.manifest, engines=(*others, entry))
    return entry
