"""A fleet's engines: bundles x precisions x targets, compiled by several processes, stored by one.

TensorRT-RTX compiles on the processor, one engine per process and core. TensorRT measures kernels on the GPU, where two
builds at once would spoil each other's measurements: its engines are built one at a time.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from build_engines.builder import BuiltEngine, compile_engine, current_engine, engine_entries, store_engine
from build_engines.engine import Compiled
from build_engines.fleet_file import FleetTarget
from build_engines.trtexec import write_trtexec
from edge_ad.backends.flavours import load_flavour
from edge_ad.bundle import Bundle
from edge_ad.errors import EdgeAdError
from edge_ad.manifest import PRECISIONS, EngineEntry
from edge_ad.progress import Progress

__all__ = ["FleetEngine", "build_fleet", "default_jobs"]


@dataclass(frozen=True, kw_only=True)
class FleetEngine:
    """One cell of the matrix.

    Attributes:
        target: The target's name in the file.
        compiled_for: "sm89" and its like; empty where that was not found out.
        state: "built", "cached", "trtexec" (scripts were written) or "failed".
        reason: Why it failed, or what whoever built it should know.
        folder: Where trtexec's scripts were written.
    """

    bundle: str
    target: str
    state: str
    method: str = ""
    compiled_for: str = ""
    precision: str = ""
    bytes: int = 0
    seconds: float = 0.0
    precision_confirmed: bool | None = None
    file: str = ""
    reason: str = ""
    folder: str = ""


@dataclass(frozen=True, kw_only=True)
class _Job:
    target: FleetTarget
    bundle: Bundle
    entry: EngineEntry

    @property
    def place(self) -> tuple[Path, str]:
        return self.bundle.path.resolve(), self.entry.file

    def row(self, state: str, reason: str = "") -> FleetEngine:
        return FleetEngine(
            bundle=str(self.bundle.path),
            method=self.bundle.manifest.method,
            target=self.target.name,
            compiled_for=self.entry.target,
            precision=self.entry.precision,
            state=state,
            file=self.entry.file,
            reason=reason,
        )

    def done(self, built: BuiltEngine) -> FleetEngine:
        return replace(
            self.row("cached" if built.cached else "built", "; ".join(built.notes)),
            bytes=built.size_bytes,
            seconds=built.seconds,
            precision_confirmed=built.entry.precision_confirmed,
        )


def default_jobs() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def build_fleet(
    targets: Sequence[FleetTarget], *, jobs: int | None = None, force: bool = False, trtexec: Path | None = None
) -> list[FleetEngine]:
    """Build what is not current; a failure is a row and stops nothing else.

    Args:
        jobs: Most processes at once; None: as many as there are cores.
        force: Build even what is current.
        trtexec: Where to write trtexec's scripts for targets of TensorRT that cannot be compiled here; None: they fail.
    """
    rows: list[FleetEngine] = []
    planned: list[_Job] = []
    for target in targets:
        for path in target.bundles:
            found = _planned(target, path, trtexec)
            if isinstance(found, FleetEngine):
                rows.append(found)
            else:
                planned += found
    firsts: dict[tuple[Path, str], _Job] = {}
    for job in planned:
        firsts.setdefault(job.place, job)
    with Progress("fleet", len(firsts)) as progress:
        for row in _built(list(firsts.values()), jobs or default_jobs(), force):
            rows.append(row)
            progress.step(engine=f"{row.bundle} {row.precision} {row.target}", state=row.state)
    rows += [_repeated(job, firsts[job.place]) for job in planned if firsts[job.place] is not job]
    order = [(target.name, str(path)) for target in targets for path in target.bundles]
    return sorted(
        rows, key=lambda row: (order.index((row.target, row.bundle)), PRECISIONS.index(row.precision or "fp32"))
    )


def _planned(target: FleetTarget, path: Path, trtexec: Path | None) -> list[_Job] | FleetEngine:
    """The engines of one bundle for one target, or the row that says why there are none."""
    options, nothing = target.options, FleetEngine(bundle=str(path), target=target.name, state="failed")
    try:
        bundle = Bundle(path)
        nothing = replace(nothing, method=bundle.manifest.method, compiled_for=" ".join(options.targets))
        try:
            entries = engine_entries(bundle, options, load_flavour(options.flavour))
        except EdgeAdError:
            if trtexec is None or options.flavour != "trt":
                raise
            folder = trtexec / target.name / path.name
            write_trtexec(folder, bundle, options.precisions, options.max_batch, options.settings, options.timing_cache)
            return replace(nothing, state="trtexec", folder=str(folder))
    except EdgeAdError as error:
        return replace(nothing, reason=_reason(error))
    return [_Job(target=target, bundle=bundle, entry=entry) for entry in entries]


def _repeated(job: _Job, first: _Job) -> FleetEngine:
    """An engine that another target has asked for before. A bundle holds one of each precision and GPU."""
    if job.entry != first.entry:
        return job.row("failed", f"{first.target.name} asks for the same engine with other settings")
    built = current_engine(Bundle(job.bundle.path), job.entry)
    return job.row("failed", f"as for {first.target.name}") if built is None else job.done(built)


def _reason(error: EdgeAdError) -> str:
    rows = {"got": error.got, "fix": error.fix}
    return " ".join([error.what, *(f"{name}: {' '.join(str(row).split())};" for name, row in rows.items() if row)])


# --- processes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What a process made of a job."""

    compiled: Compiled | None = None
    seconds: float = 0.0
    reason: str = ""


def _built(jobs: Sequence[_Job], processes: int, force: bool) -> Iterator[FleetEngine]:
    """A row for each job, as they end."""
    by_processor, on_the_gpu = [], []
    for job in jobs:
        built = None if force else current_engine(job.bundle, job.entry)
        if built is not None:
            yield job.done(built)
        elif job.entry.flavour == "rtx":
            by_processor.append(job)
        else:
            on_the_gpu.append(job)
    for group, most in ((by_processor, processes), (on_the_gpu, 1)):
        for job, answer in _compiled(group, most):
            yield _stored(job, answer)


def _stored(job: _Job, answer: _Answer) -> FleetEngine:
    if answer.compiled is None:
        return job.row("failed", answer.reason)
    try:
        return job.done(store_engine(job.bundle, job.entry, answer.compiled, answer.seconds))
    except EdgeAdError as error:
        return job.row("failed", _reason(error))


def _compiled(jobs: Sequence[_Job], processes: int) -> Iterator[tuple[_Job, _Answer]]:
    """Compile in processes of their own; where one dies with its compiler, the unfinished go on one by one."""
    unfinished = []
    for job, answer in _in_processes(jobs, min(processes, len(jobs))):
        if answer is None:
            unfinished.append(job)
        else:
            yield job, answer
    for lone in unfinished:
        for job, answer in _in_processes([lone], 1):
            yield job, answer or _Answer(reason="The compiler crashed, and its process with it.")


def _in_processes(jobs: Sequence[_Job], processes: int) -> Iterator[tuple[_Job, _Answer | None]]:
    """Jobs with their answers, as they end; None where the process died."""
    if not jobs:
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would share TensorRT's and CUDA's state
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_silence) as pool:
        futures = {
            pool.submit(_compile, job.bundle.path, job.entry, job.target.options.timing_cache): job for job in jobs
        }
        try:
            for future in as_completed(futures):
                yield futures[future], _result_of(future)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _result_of(future: Future[_Answer]) -> _Answer | None:
    try:
        return future.result()
    except BrokenProcessPool:
        return None


def _silence() -> None:
    """Nothing on standard error, not even from C++: the parent shows the progress of all."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _compile(path: Path, entry: EngineEntry, timing_cache: Path | None) -> _Answer:
    """In a process of its own: one engine's bytes."""
    started = time.monotonic()
    try:
        compiled = compile_engine(Bundle(path), entry, load_flavour(entry.flavour), timing_cache)
    except EdgeAdError as error:
        return _Answer(reason=_reason(error))
    except KeyboardInterrupt:
        return _Answer(reason="Interrupted.")
    return _Answer(compiled=compiled, seconds=time.monotonic() - started)
