"""The stand-in's cuda.bindings.runtime: the functions the package calls, with their names, arguments and statuses."""

from __future__ import annotations

import enum
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from edge_ad.backends.standin.machine import DEFAULT_STREAMS, Machine, Misuse, Work

__all__ = ["CudaRuntime", "Status"]


class Status(enum.IntEnum):
    """The part of cudaError_t that the stand-in returns."""

    cudaSuccess = 0  # noqa: N815  # CUDA's own names, here and below
    cudaErrorInvalidValue = 1  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815
    cudaErrorNoDevice = 100  # noqa: N815
    cudaErrorECCUncorrectable = 214  # noqa: N815
    cudaErrorIllegalAddress = 700  # noqa: N815
    cudaErrorLaunchFailure = 719  # noqa: N815
    cudaErrorStreamCaptureUnsupported = 900  # noqa: N815


class _Refused(Exception):
    """A function returns another status than success."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


_LOSES = (Status.cudaErrorECCUncorrectable, Status.cudaErrorIllegalAddress, Status.cudaErrorLaunchFailure)
_DRIVER = 13000

# Allocating and releasing is forbidden to a thread that captures in any mode but the relaxed one.
_NOT_WHILE_CAPTURING = ("cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaFreeHost")


class CudaRuntime:
    """Functions return (status, *results), as cuda-python's do."""

    cudaHostAllocDefault, cudaHostAllocMapped, cudaEventDisableTiming = 0, 2, 2  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(  # noqa: N815
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDefault=4
    )
    cudaMemoryType = SimpleNamespace(  # noqa: N815
        cudaMemoryTypeUnregistered=0, cudaMemoryTypeHost=1, cudaMemoryTypeDevice=2, cudaMemoryTypeManaged=3
    )
    cudaStreamCaptureMode = SimpleNamespace(  # noqa: N815
        cudaStreamCaptureModeGlobal=0, cudaStreamCaptureModeThreadLocal=1, cudaStreamCaptureModeRelaxed=2
    )
    cudaDeviceAttr = SimpleNamespace(  # noqa: N815
        cudaDevAttrComputeCapabilityMajor="major",
        cudaDevAttrComputeCapabilityMinor="minor",
        cudaDevAttrIntegrated="integrated",
    )

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        implementation = _FUNCTIONS.get(name)
        if implementation is None:
            raise AttributeError(f"the stand-in has no {name}")

        def call(*arguments: Any) -> tuple[Any, ...]:
            with self._machine.lock:
                self._machine.calls.append(name)
                try:
                    self._refuse_as_told(name)
                    return (Status.cudaSuccess, *implementation(self._machine, *arguments))
                except _Refused as refused:
                    if name == "cudaStreamEndCapture":  # it ends, with or without a graph
                        self._machine.forget_capture(*arguments)
                    return (refused.status, *[None] * _RESULTS.get(name, 0))

        return call

    def _refuse_as_told(self, name: str) -> None:
        machine = self._machine
        if name in ("cudaGetErrorString", "cudaGetLastError"):
            return
        if machine.lost is not None:
            raise _Refused(Status[machine.lost])
        if name in machine.failing:
            status = Status[machine.failing[name]]
            machine.lost = status.name if status in _LOSES else None
            raise _Refused(status)
        if name in _NOT_WHILE_CAPTURING and machine.is_capturing():
            raise _Refused(Status.cudaErrorStreamCaptureUnsupported)


def _device_count(machine: Machine) -> tuple[int]:
    return (1,)


def _properties(machine: Machine, ordinal: int) -> tuple[Any]:
    return (SimpleNamespace(name=machine.name.encode()),)


def _attribute(machine: Machine, attribute: str, ordinal: int) -> tuple[int]:
    major, minor = machine.capability
    return ({"major": major, "minor": minor, "integrated": int(machine.integrated)}[attribute],)


def _error_string(machine: Machine, status: Status) -> tuple[bytes]:
    return (f"as the stand-in was told ({int(status)})".encode(),)


def _stream_synchronize(machine: Machine, stream: int) -> tuple[()]:
    if machine.is_capturing(stream):
        raise Misuse("a stream that is being captured cannot be waited for")
    machine.drain(stream)
    return ()


def _stream_destroy(machine: Machine, stream: int) -> tuple[()]:
    machine.remove_stream(stream)
    return ()


def _wait_event(machine: Machine, stream: int, event: int, flags: int) -> tuple[()]:
    recorded = _event(machine, event)
    if recorded is not None:
        other, work = recorded
        machine.queue(stream, Work(what="a wait", run=lambda: machine.drain(other, until=work)))
    return ()


def _event(machine: Machine, event: int) -> tuple[int, Work] | None:
    if event not in machine.events:
        raise Misuse(f"{event:#x} is no event, or was destroyed")
    return machine.events[event]


def _event_create(machine: Machine, flags: int) -> tuple[int]:
    event = machine.handle()
    machine.events[event] = None
    return (event,)


def _event_record(machine: Machine, event: int, stream: int) -> tuple[()]:
    _event(machine, event)
    machine.events[event] = (stream, machine.queue(stream, Work(what="an event", run=lambda: None)))
    return ()


def _event_destroy(machine: Machine, event: int) -> tuple[()]:
    _event(machine, event)
    del machine.events[event]
    return ()


def _elapsed(machine: Machine, start: int, end: int) -> tuple[float]:
    happened = []
    for event in (start, end):
        recorded = _event(machine, event)
        if recorded is None or not recorded[1].happened_ns:
            raise Misuse("the time of an event that has not happened; synchronise first")
        happened.append(recorded[1].happened_ns[0])
    return ((happened[1] - happened[0]) / 1e6,)


def _malloc(machine: Machine, size_bytes: int) -> tuple[int]:
    if size_bytes > machine.free_bytes:
        raise _Refused(Status.cudaErrorMemoryAllocation)
    return (machine.allocate("gpu", size_bytes),)


def _host_alloc(machine: Machine, size_bytes: int, flags: int) -> tuple[int]:
    return (machine.allocate("mapped" if flags & CudaRuntime.cudaHostAllocMapped else "pinned", size_bytes),)


def _free(machine: Machine, address: int) -> tuple[()]:
    machine.release(address, "gpu")
    return ()


def _free_host(machine: Machine, address: int) -> tuple[()]:
    machine.release(address, "pinned", "mapped")
    return ()


def _device_pointer(machine: Machine, address: int, flags: int) -> tuple[int]:
    machine.block((address, 1), "mapped")
    return (address,)


def _pointer_attributes(machine: Machine, address: int) -> tuple[Any]:
    kinds = CudaRuntime.cudaMemoryType
    try:
        block = machine.block((address, 1))
    except Misuse:
        return (SimpleNamespace(type=kinds.cudaMemoryTypeUnregistered, device=-2),)
    kind = kinds.cudaMemoryTypeDevice if block.kind == "gpu" else kinds.cudaMemoryTypeHost
    return (SimpleNamespace(type=kind, device=0),)


_SIDES = {
    1: (("pinned", "mapped"), ("gpu",)),
    2: (("gpu",), ("pinned", "mapped")),
    3: (("gpu",), ("gpu",)),
    4: ((), ()),
}


def _memcpy(machine: Machine, to: int, source: int, size_bytes: int, kind: int, stream: int) -> tuple[()]:
    if stream in DEFAULT_STREAMS:
        raise Misuse("a copy on the default stream, which waits for everybody else")
    from_kinds, to_kinds = _SIDES[kind]
    machine.block((source, size_bytes), *from_kinds)
    machine.block((to, size_bytes), *to_kinds)

    def run() -> None:
        machine.bytes_at((to, size_bytes))[:] = machine.bytes_at((source, size_bytes))

    machine.queue(stream, Work(what="a copy", run=run, reads=((source, size_bytes),), writes=((to, size_bytes),)))
    return ()


def _begin_capture(machine: Machine, stream: int, mode: int) -> tuple[()]:
    machine.begin_capture(stream)
    return ()


def _graph_instantiate(machine: Machine, graph: int, flags: int) -> tuple[int]:
    instance = machine.handle()
    machine.graphs[instance] = list(machine.graphs[graph])
    return (instance,)


def _graph_launch(machine: Machine, graph: int, stream: int) -> tuple[()]:
    machine.launch(graph, stream)
    return ()


def _graph_destroy(machine: Machine, graph: int) -> tuple[()]:
    if machine.graphs.pop(graph, None) is None:
        raise Misuse(f"{graph:#x} is no graph, or was destroyed before")
    return ()


_FUNCTIONS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "cudaGetDeviceCount": _device_count,
    "cudaGetDeviceProperties": _properties,
    "cudaDeviceGetAttribute": _attribute,
    "cudaDriverGetVersion": lambda machine: (_DRIVER,),
    "cudaSetDevice": lambda machine, ordinal: (),
    "cudaGetErrorString": _error_string,
    "cudaGetLastError": lambda machine: (),
    "cudaMemGetInfo": lambda machine: (machine.free_bytes, machine.memory_bytes),
    "cudaStreamCreateWithFlags": lambda machine, flags: (machine.add_stream(),),
    "cudaStreamSynchronize": _stream_synchronize,
    "cudaStreamDestroy": _stream_destroy,
    "cudaStreamWaitEvent": _wait_event,
    "cudaEventCreateWithFlags": _event_create,
    "cudaEventRecord": _event_record,
    "cudaEventElapsedTime": _elapsed,
    "cudaEventDestroy": _event_destroy,
    "cudaMalloc": _malloc,
    "cudaFree": _free,
    "cudaHostAlloc": _host_alloc,
    "cudaFreeHost": _free_host,
    "cudaHostGetDevicePointer": _device_pointer,
    "cudaPointerGetAttributes": _pointer_attributes,
    "cudaMemcpyAsync": _memcpy,
    "cudaStreamBeginCapture": _begin_capture,
    "cudaStreamEndCapture": lambda machine, stream: (machine.end_capture(stream),),
    "cudaGraphInstantiate": _graph_instantiate,
    "cudaGraphLaunch": _graph_launch,
    "cudaGraphDestroy": _graph_destroy,
    "cudaGraphExecDestroy": _graph_destroy,
}

# How many results a failing call leaves empty.
_RESULTS = {
    "cudaGetDeviceCount": 1,
    "cudaGetDeviceProperties": 1,
    "cudaDeviceGetAttribute": 1,
    "cudaDriverGetVersion": 1,
    "cudaMemGetInfo": 2,
    "cudaStreamCreateWithFlags": 1,
    "cudaEventCreateWithFlags": 1,
    "cudaEventElapsedTime": 1,
    "cudaMalloc": 1,
    "cudaHostAlloc": 1,
    "cudaHostGetDevicePointer": 1,
    "cudaPointerGetAttributes": 1,
    "cudaStreamEndCapture": 1,
    "cudaGraphInstantiate": 1,
}
