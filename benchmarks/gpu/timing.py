"""Times of a backend on a device, real or the stand-in's. Nothing here knows which."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Barrier, Thread

import numpy as np
import numpy.typing as npt

from edge_ad.backends.cuda import Device
from edge_ad.backends.execution import Execution
from edge_ad.backends.tensorrt import TensorRtBackend

STAGES = ("host copy", "upload", "engine", "download")

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured.

    Attributes:
        image_size: Side of the default network's input.
        batches: For throughput.
        warm_up_s: Seconds of work before each measurement, until clocks have settled.
        samples: Of each latency, so many that the 99.9th percentile means something.
        most_s, most_s_throughput: Seconds after which a measurement of a latency, of a rate, ends with fewer.
        queued: Batches queued back to back.
        budget_s: Seconds after which nothing further is begun.
    """

    image_size: int = 256
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    warm_up_s: float = 0.3
    samples: int = 5000
    most_s: float = 2.0
    most_s_throughput: float = 0.5
    queued: int = 20
    budget_s: float = 400.0


class Deadline:
    """The end of the budget. What was left out for it is listed in `left_out`."""

    def __init__(self, budget_s: float) -> None:
        self._start, self._budget_s = time.perf_counter(), budget_s
        self.left_out: list[str] = []

    @property
    def spent_s(self) -> float:
        return time.perf_counter() - self._start

    def allows(self, what: str, *, reserve_s: float = 0.0) -> bool:
        """Whether there is time to begin something that may take `reserve_s`."""
        if self.spent_s + reserve_s <= self._budget_s:
            return True
        self.left_out.append(what)
        return False


def summary(samples_ms: list[float]) -> dict[str, float]:
    """Percentiles in milliseconds, to a tenth of a microsecond."""
    percentiles = np.percentile(samples_ms, (50, 99, 99.9))
    names = ("p50_ms", "p99_ms", "p99.9_ms")
    return {name: round(float(value), 4) for name, value in zip(names, percentiles, strict=True)} | {
        "samples": len(samples_ms)
    }


def wall_times_ms(call: Callable[[], object], settings: Settings, most_s: float | None = None) -> list[float]:
    """Wall time of each call, after warming up."""
    for _ in _until(settings.warm_up_s, settings.samples):
        call()
    times = []
    for _ in _until(most_s or settings.most_s, settings.samples):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def _until(seconds: float, most: int) -> Iterator[int]:
    """0, 1, 2 and so on: at least twice, until the time or the count is reached."""
    start = time.perf_counter()
    for number in range(max(most, 2)):
        if number >= 2 and time.perf_counter() - start > seconds:
            return
        yield number


def stage_times(backend: TensorRtBackend, frames: Frames, settings: Settings) -> dict[str, dict[str, float]]:
    """Each stage of an inference of a batch, kernel by kernel: the host's copy by its clock, the rest by CUDA events.

    Where the GPU works in the host's buffers, upload and download take the time of two events.
    """
    with backend.exclusively() as (device, execution):
        events = Events(device, execution, 4)
        execution.bind(len(frames))
        copies: list[float] = []
        queued: list[list[float]] = []

        def once() -> None:
            start = time.perf_counter_ns()
            execution.image[: len(frames)] = frames
            copies.append((time.perf_counter_ns() - start) / 1e6)
            events.record(0)
            for number, stage in enumerate((execution.upload, execution.enqueue, execution.download), 1):
                stage()
                events.record(number)
            execution.wait()
            queued.append([events.elapsed_ms(number, number + 1) for number in range(3)])

        counted = len(wall_times_ms(once, settings))
    columns = [copies, *map(list, zip(*queued, strict=True))]
    return {stage: summary(column[-counted:]) for stage, column in zip(STAGES, columns, strict=True)}


def gpu_times(backend: TensorRtBackend, batch: int, settings: Settings) -> dict[str, float]:
    """What the GPU works on a batch, copies counted in, as it is served: replayed where there is a graph."""
    with backend.exclusively() as (device, execution):
        events = Events(device, execution, 2)
        times: list[float] = []

        def once() -> None:
            events.record(0)
            execution.queue(batch)
            events.record(1)
            execution.wait()
            times.append(events.elapsed_ms(0, 1))

        counted = len(wall_times_ms(once, settings))
    return summary(times[-counted:])


def latency(backend: TensorRtBackend, frames: Frames, settings: Settings) -> dict[str, float]:
    """From a frame's bytes on the host to its map and score there."""
    return summary(wall_times_ms(lambda: backend.run(frames), settings))


def queued_throughput(backend: TensorRtBackend, batch: int, settings: Settings) -> float:
    """Images a second of the GPU alone: batches queued back to back, copies counted in."""
    with backend.exclusively() as (device, execution):
        events = Events(device, execution, 2)
        rates: list[float] = []

        def once() -> None:
            events.record(0)
            for _ in range(settings.queued):
                execution.queue(batch)
            events.record(1)
            execution.wait()
            rates.append(settings.queued * batch / events.elapsed_ms(0, 1) * 1e3)

        counted = len(wall_times_ms(once, settings, settings.most_s_throughput))
    return round(float(np.median(rates[-counted:])), 1)


def served_throughput(backends: list[TensorRtBackend], frames: Frames, settings: Settings) -> float:
    """Images a second from host bytes to host answers, by one thread for each backend."""
    for backend in backends:
        for _ in range(3):
            backend.run(frames)
    barrier, counts = Barrier(len(backends) + 1), [0] * len(backends)

    def serve(number: int) -> None:
        barrier.wait()
        for _ in _until(settings.most_s_throughput, settings.samples):
            backends[number].run(frames)
            counts[number] += 1

    threads = [Thread(target=serve, args=(number,)) for number in range(len(backends))]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return round(sum(counts) * len(frames) / (time.perf_counter() - start), 1)


def copy_bandwidth(device: Device, settings: Settings, *, size_bytes: int = 256 << 20) -> float:
    """GB/s that the GPU's memory moves, reads and writes counted, by copies larger than its caches."""
    with device.active():
        stream, start, end = device.stream(), device.event(), device.event()
        to, source = device.memory(size_bytes), device.memory(size_bytes)
        rates: list[float] = []

        def once() -> None:
            device.record(start, stream=stream)
            for _ in range(10):
                device.copy(to, source, size_bytes, stream=stream)
            device.record(end, stream=stream)
            device.synchronize(stream=stream)
            rates.append(10 * 2 * size_bytes / device.elapsed_ms(start, end) / 1e6)

        wall_times_ms(once, settings)
    return round(float(np.median(rates)), 1)


class Events:
    """A few CUDA events on an execution's stream, which go with the device."""

    def __init__(self, device: Device, execution: Execution, count: int) -> None:
        self._device, self._stream = device, execution.stream
        self._events = [device.event() for _ in range(count)]

    def record(self, number: int) -> None:
        self._device.record(self._events[number], stream=self._stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        return self._device.elapsed_ms(self._events[start], self._events[end])
