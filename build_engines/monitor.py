"""A progress bar from TensorRT's own progress monitor."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from edge_ad.progress import Progress

__all__ = ["TOTAL", "Build", "Phases", "progress_monitor"]

TOTAL = 100
"""Steps of the bar: percent."""


@dataclass(kw_only=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """TensorRT's tree of phases as one fraction.

    Phases open and close as the build goes and each counts as one step of its parent, so the fraction is what is
    known so far; it never goes back.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Phase] = {}
        self.fraction = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        self._open[name] = _Phase(parent=parent, steps=steps)

    def step(self, name: str, step: int) -> None:
        self._open[name].done = step + 1
        roots = [root for root, phase in self._open.items() if phase.parent is None]
        self.fraction = max(self.fraction, *(self._fraction(root) for root in roots))

    def finish(self, name: str) -> None:
        self._open.pop(name, None)

    def _fraction(self, name: str) -> float:
        phase = self._open[name]
        within = [self._fraction(child) for child, other in self._open.items() if other.parent == name]
        return min(1.0, (phase.done + max(within, default=0.0)) / phase.steps)


class Build:
    """One build under way: shows its progress, and ends it early on Ctrl-C or when the bar cannot be drawn.

    TensorRT calls back from C++ that no exception may cross, so exceptions are kept for `raise_failure`.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._phases = Phases()
        self._lock = threading.Lock()  # TensorRT calls from several threads
        self._failure: BaseException | None = None

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases.start(name, parent, steps)

    def phase_finish(self, name: str) -> None:
        with self._lock:
            self._phases.finish(name)

    def step_complete(self, name: str, step: int) -> bool:
        """Whether the build shall go on."""
        with self._lock:
            try:
                self._phases.step(name, step)
                self._show(int(self._phases.fraction * TOTAL), name)
            except Exception as exc:
                self._failure = exc
            return self._failure is None

    def _show(self, percent: int, phase: str) -> None:
        if percent > self._progress.done:
            self._progress.step(percent - self._progress.done, phase=phase.lower())

    def complete(self) -> None:
        """Fill the bar: some builds skip phases."""
        self._show(TOTAL, "done")

    def raise_failure(self) -> None:
        """Raise what ended the build early, if anything did."""
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, Ctrl-C ends the build at its next step instead of raising inside a callback."""
        if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._failure = KeyboardInterrupt()


def progress_monitor(trt: Any, build: Build) -> Any:
    """A trt.IProgressMonitor that reports to `build`; must outlive the builder's configuration."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base class exists only once trt is imported
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            build.phase_start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            build.phase_finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return build.step_complete(phase_name, step)

    return Monitor()
