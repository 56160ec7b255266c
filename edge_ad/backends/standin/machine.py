"""Memory, streams, events and graphs of the stand-in: ordinary memory, and work that waits until it is asked for.

Real addresses, real bytes. Queued work runs only when a stream is synchronised, so what a GPU would do "some time
later" is never done by luck: reading too early gives NaN, and what CUDA leaves undefined is a Misuse.
"""

from __future__ import annotations

import itertools
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from edge_ad.golden import Answer

__all__ = ["DEFAULT_STREAMS", "Block", "Machine", "Misuse", "Range", "Work"]

DEFAULT_STREAMS = (0, 1, 2)
"""Handles of CUDA's default streams: 0 and 1 the legacy one, 2 the thread's."""

_POISON = 0xFF  # as float32 it is NaN: what was never computed shows
_ALIGNMENT = 256

Range = tuple[int, int]
"""(address, size_bytes)."""


class Misuse(AssertionError):
    """What CUDA or TensorRT leaves undefined, or forbids, was done. A mistake of the program, not of the machine."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Allocated memory.

    Attributes:
        kind: "gpu", "pinned" (on the host) or "mapped" (on the host, and the GPU reaches it).
    """

    kind: str
    address: int
    size_bytes: int
    backing: npt.NDArray[np.uint8]

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """Its bytes."""
        offset = self.address - self.backing.ctypes.data
        return self.backing[offset : offset + self.size_bytes]


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """Something queued on a stream.

    Attributes:
        reads, writes: The memory it touches.
        valid: Raises Misuse where a graph with this work may not be launched any more.
        order: Running number of its queuing.
        seen: Checksums of what it reads on the host, taken when it was queued.
    """

    what: str
    run: Callable[[], None]
    reads: tuple[Range, ...] = ()
    writes: tuple[Range, ...] = ()
    valid: Callable[[], None] = lambda: None
    order: int = 0
    seen: tuple[tuple[Range, int], ...] = ()
    happened_ns: list[int] = field(default_factory=list)


class Machine:
    """One GPU and its host.

    Attributes:
        calls: Names of the functions called, in order.
        lost: The CUDA error after which every call of the process fails.
        failing: CUDA errors by the name of the function that returns them.
        refusing: Messages for TensorRT's log by the name of the method that refuses.
        distort: Changes what engines answer.
        capturable: What TensorRT-RTX says of stream capture.
        compilations: Kernels finished on this machine since it began, one for each engine and batch.
    """

    def __init__(self, *, capability: tuple[int, int], integrated: bool, memory_bytes: int) -> None:
        self.name, self.capability, self.integrated = "stand-in GPU", capability, integrated
        self.memory_bytes = memory_bytes
        self.calls: list[str] = []
        self.lost: str | None = None
        self.failing: dict[str, str] = {}
        self.refusing: dict[str, str] = {}
        self.distort: Callable[[Answer], Answer] | None = None
        self.capturable = True
        self.compilations = 0
        self.lock = threading.RLock()
        self.blocks: dict[int, Block] = {}
        self.reserved: dict[object, tuple[str, int]] = {}
        self.events: dict[int, tuple[int, Work] | None] = {}
        self.graphs: dict[int, list[Work]] = {}
        self._streams: dict[int, deque[Work]] = {stream: deque() for stream in DEFAULT_STREAMS}
        self._captures: dict[int, tuple[int, list[Work]]] = {}
        self._handles = itertools.count(0x1000, 0x10)
        self._orders = itertools.count()

    def handle(self) -> int:
        """A number no other stream, event or graph has."""
        return next(self._handles)

    # Memory

    @property
    def free_bytes(self) -> int:
        """Of the GPU's memory, engines and execution contexts counted in; other threads may change it meanwhile."""
        taken = sum(block.size_bytes for block in list(self.blocks.values()) if block.kind == "gpu")
        return self.memory_bytes - taken - sum(size_bytes for _, size_bytes in list(self.reserved.values()))

    def allocate(self, kind: str, size_bytes: int) -> int:
        """Memory that holds nothing useful yet."""
        backing = np.full(size_bytes + _ALIGNMENT, _POISON, np.uint8)
        address = -(-backing.ctypes.data // _ALIGNMENT) * _ALIGNMENT
        self.blocks[address] = Block(kind=kind, address=address, size_bytes=size_bytes, backing=backing)
        return address

    def release(self, address: int, *kinds: str) -> None:
        """Free it; work that still needs it is a Misuse when it comes to run."""
        block = self.blocks.pop(address, None)
        if block is None or block.kind not in kinds:
            raise Misuse(f"{address:#x} is not allocated as {' or '.join(kinds)} memory, or was freed before")
        block.memory[:] = _POISON

    def block(self, place: Range, *kinds: str) -> Block:
        """The block that a range lies in.

        Raises:
            Misuse: None, or of another kind.
        """
        address, size_bytes = place
        for block in list(self.blocks.values()):
            if block.address <= address < block.address + block.size_bytes:
                if address + size_bytes > block.address + block.size_bytes:
                    raise Misuse(f"{size_bytes} bytes at {address:#x} go beyond the buffer of {block.size_bytes} bytes")
                if kinds and block.kind not in kinds:
                    raise Misuse(f"{address:#x} is {block.kind} memory, not {' or '.join(kinds)}")
                return block
        raise Misuse(f"{address:#x} is not allocated, or was freed")

    def bytes_at(self, place: Range) -> npt.NDArray[np.uint8]:
        """The bytes of a range, to be read and written."""
        block, (address, size_bytes) = self.block(place), place
        return block.memory[address - block.address :][:size_bytes]

    # Streams

    def add_stream(self) -> int:
        """A new stream."""
        stream = self.handle()
        self._streams[stream] = deque()
        return stream

    def remove_stream(self, stream: int) -> None:
        """Destroy a stream; what is queued on it is still done, as CUDA does."""
        self.drain(stream)
        del self._streams[stream]

    @property
    def own_streams(self) -> list[int]:
        """Streams that were created and not destroyed."""
        return [stream for stream in self._streams if stream not in DEFAULT_STREAMS]

    def _queue_of(self, stream: int) -> deque[Work]:
        if stream not in self._streams:
            raise Misuse(f"{stream:#x} is no stream, or was destroyed")
        return self._streams[stream]

    def queue(self, stream: int, work: Work) -> Work:
        """Queue work, or record it where the stream is being captured."""
        waiting = self._queue_of(stream)
        if stream in self._captures:
            thread, recorded = self._captures[stream]
            if thread != threading.get_ident():
                raise Misuse(f"{work.what} by another thread than the one that captures the stream")
            recorded.append(work)
            return work
        on_host = [place for place in work.reads if self.block(place).kind != "gpu"]
        seen = tuple((place, zlib.crc32(self.bytes_at(place).data)) for place in on_host)
        queued = replace(work, order=next(self._orders), seen=seen, happened_ns=[])
        for place in work.writes:
            if self.block(place).kind != "gpu":
                self.bytes_at(place)[:] = _POISON  # the host must not read it before it has waited
        waiting.append(queued)
        return queued

    def drain(self, stream: int, until: Work | None = None) -> None:
        """Do what is queued on a stream, to its end or to one piece of work."""
        waiting = self._queue_of(stream)
        while waiting and (until is None or not until.happened_ns):
            work = waiting[0]
            self._check(stream, work)
            work.run()
            work.happened_ns.append(time.perf_counter_ns())
            waiting.popleft()

    def _check(self, stream: int, work: Work) -> None:
        for place in (*work.reads, *work.writes):
            self.block(place)
        for place, checksum in work.seen:
            if zlib.crc32(self.bytes_at(place).data) != checksum:
                raise Misuse(f"the host changed what {work.what} reads before it had waited for the stream")
        for other in self._unordered(stream, work):
            if _overlap(other.writes, (*work.reads, *work.writes)) or _overlap(other.reads, work.writes):
                raise Misuse(f"{work.what} does not wait for {other.what}, which is queued on another stream")

    def _unordered(self, stream: int, work: Work) -> Iterator[Work]:
        for other_stream, waiting in self._streams.items():
            if other_stream != stream:
                yield from (other for other in waiting if other.order < work.order)

    # Capture and graphs

    def begin_capture(self, stream: int) -> None:
        """Record what is queued on the stream from here on."""
        self._queue_of(stream)
        if stream in DEFAULT_STREAMS or stream in self._captures:
            raise Misuse("a default stream, or one that is being captured, cannot be captured")
        self._captures[stream] = (threading.get_ident(), [])

    def end_capture(self, stream: int) -> int:
        """The graph of what was recorded."""
        if stream not in self._captures:
            raise Misuse("the stream is not being captured")
        graph = self.handle()
        self.graphs[graph] = self._captures.pop(stream)[1]
        return graph

    def forget_capture(self, stream: int) -> None:
        """Leave capture without a graph."""
        self._captures.pop(stream, None)

    def is_capturing(self, stream: int | None = None) -> bool:
        """Whether the stream is being captured; without one, whether this thread captures any."""
        if stream is not None:
            return stream in self._captures
        return any(thread == threading.get_ident() for thread, _ in self._captures.values())

    def launch(self, graph: int, stream: int) -> None:
        """Queue a graph's work."""
        if graph not in self.graphs:
            raise Misuse(f"{graph:#x} is no graph, or was destroyed")
        for work in self.graphs[graph]:
            work.valid()
            self.queue(stream, work)

    # What is left

    def held(self) -> dict[str, int]:
        """How many things of each kind are not released."""
        kinds = [f"{block.kind} buffers" for block in list(self.blocks.values())]
        kinds += [what for what, _ in list(self.reserved.values())]
        kinds += ["streams"] * len(self.own_streams) + ["events"] * len(self.events) + ["graphs"] * len(self.graphs)
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _overlap(some: tuple[Range, ...], others: tuple[Range, ...]) -> bool:
    return any(a < b + size_b and b < a + size_a for a, size_a in some for b, size_b in others)
