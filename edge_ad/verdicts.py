"""`edge-ad inspect BUNDLE SOURCE`: a verdict on every frame of a source, as lines or as JSON.

Image files are read and decoded while the network runs. Of few files, one inspector on all cores inspects one after the
other; of many, inspectors share the cores and their files: that is faster (`python -m benchmarks scale`), and worth
opening the network several times.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

from edge_ad.ahead import in_order
from edge_ad.cameras import ImageFiles, Source, open_source
from edge_ad.errors import EdgeAdError, FrameError, FrameFault, SourceError, UnreadableImage
from edge_ad.frame import Frame
from edge_ad.inspection import Inspection
from edge_ad.inspector import Inspector
from edge_ad.overlay import save_overlay
from edge_ad.progress import Progress
from edge_ad.tiled import TiledInspector

__all__ = ["Outcome", "inspect_files", "run"]

Look: TypeAlias = Callable[[Frame], Inspection]

MANY = 50  # files for each inspector: opening one takes as long as inspecting a few
MOST_INSPECTORS = 8  # of which each holds the network


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one frame.

    Attributes:
        name: Of the file or camera.
        sequence: The frame's number.
        result: An inspection, or why there is none.
    """

    name: str
    sequence: int
    result: Inspection | EdgeAdError

    @property
    def verdict(self) -> str:
        """Whether it is "good", "ANOMALOUS" or a "fault"."""
        if isinstance(self.result, EdgeAdError):
            return "fault"
        return "ANOMALOUS" if self.result.is_anomalous else "good"

    def as_json(self) -> str:
        """One line of JSON."""
        result = self.result
        told = {"fault": type(result).__name__} if isinstance(result, EdgeAdError) else result.to_json()
        return json.dumps({"frame": self.name, "sequence": self.sequence, **told})

    def as_text(self) -> str:
        """One line for people."""
        if isinstance(self.result, EdgeAdError):
            told = self.result.what
        else:
            score, threshold = self.result.score, self.result.threshold
            told = f"score {score:.4g} (threshold {threshold:.4g}) {self.result.latency_ms:.1f} ms"
        return f"{self.name} #{self.sequence}: {self.verdict:<9} {told}"


def run(arguments: argparse.Namespace) -> int:
    """Inspect until the source ends; a camera has no end but Ctrl-C. Returns 0 whatever the verdicts are.

    Raises:
        SourceError: Image files that are unreadable or of the wrong size, once all the others have their verdicts.
    """
    counts = {"good": 0, "ANOMALOUS": 0, "fault": 0}
    first_fault: Outcome | None = None
    with (
        open_source(arguments.source) as source,
        _inspectors(source, arguments) as inspectors,
        closing(_outcomes(source, inspectors, arguments)) as outcomes,
        _progress(source) as progress,
    ):
        try:
            for outcome in outcomes:
                counts[outcome.verdict] += 1
                if outcome.verdict == "fault":
                    first_fault = first_fault or outcome
                print(outcome.as_json() if arguments.json else outcome.as_text(), flush=True)
                if progress is not None:
                    progress.step()
        except KeyboardInterrupt:
            if source.total is not None:
                raise
    if not arguments.json:
        faults = f", {counts['fault']} faults" if counts["fault"] else ""
        verdicts = f"{counts['good']} good, {counts['ANOMALOUS']} anomalous{faults}"
        print(f"{verdicts}; {inspectors[0].precision} on {inspectors[0].backend}")
    if first_fault is not None and isinstance(source, ImageFiles):
        raise _without_verdict(counts["fault"], source.total, first_fault)
    return 0


def _progress(source: Source) -> Progress | nullcontext[None]:
    """For many images whose verdicts go elsewhere: lines on a terminal are progress enough."""
    if source.total in (None, 1) or sys.stdout.isatty():
        return nullcontext()
    return Progress("inspecting", source.total)


def _without_verdict(count: int, total: int, first: Outcome) -> SourceError:
    error = first.result
    assert isinstance(error, EdgeAdError)
    return SourceError(
        f"{count} of {total} images got no verdict, {first.name} the first: {error.what}",
        expected=error.expected,
        got=error.got,
        fix=error.fix,
    )


@contextmanager
def _inspectors(source: Source, arguments: argparse.Namespace) -> Iterator[list[Inspector]]:
    """One inspector, or where a CPU has many files to inspect, several that divide its cores among them."""
    cores = os.cpu_count() or 1
    count = 1
    if isinstance(source, ImageFiles) and not arguments.tiled:
        count = max(1, min(cores, MOST_INSPECTORS, source.total // MANY))

    def one() -> Inspector:
        threads = cores // count if count > 1 else None
        inspector = Inspector(
            arguments.bundle, precision=arguments.precision, backend=arguments.backend, threads=threads
        )
        return opened.enter_context(inspector)

    with ExitStack() as opened:
        first = one()
        yield [first, *(one() for _ in range(count - 1) if first.backend.endswith("-cpu"))]


def _outcomes(
    source: Source, inspectors: Sequence[Inspector], arguments: argparse.Namespace
) -> Generator[Outcome, None, None]:
    looks = [TiledInspector(one).inspect if arguments.tiled else one.inspect for one in inspectors]
    save = Path(arguments.save) if arguments.save else None
    if isinstance(source, ImageFiles):
        # Frames to be cut into tiles may be so large that few fit into memory, and reading is a small part of the work.
        return inspect_files(source, looks, save, 2 if arguments.tiled else max(2, os.cpu_count() or 2))
    return _of_stream(source, looks[0], save)


def inspect_files(
    files: ImageFiles, looks: Sequence[Look], save: Path | None, threads: int
) -> Generator[Outcome, None, None]:
    """What comes of each file, in order; one that is unreadable or of the wrong size is a fault.

    As many images are inspected at a time as there are `looks`, while the other threads read theirs or draw overlays.

    Args:
        looks: Each is used by one thread at a time.
        save: Folder for overlays.
        threads: At most as many images are in memory.
    """
    free: SimpleQueue[Look] = SimpleQueue()
    for look in looks:
        free.put(look)

    def work(sequence: int) -> Outcome:
        name = files.paths[sequence].name
        try:
            frame = files.read(sequence)
            look = free.get()
            try:
                inspection = look(frame)
            finally:
                free.put(look)
        except (UnreadableImage, FrameError) as error:
            return Outcome(name=name, sequence=sequence, result=error)
        if save:
            save_overlay(save, frame, inspection)
        return Outcome(name=name, sequence=sequence, result=inspection)

    return in_order(work, range(files.total), threads=threads)


def _of_stream(source: Source, look: Look, save: Path | None) -> Generator[Outcome, None, None]:
    frames = iter(source)
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            return
        except FrameFault as fault:
            yield Outcome(name=fault.camera, sequence=fault.sequence, result=fault)
            continue
        inspection = look(frame)
        if save:
            save_overlay(save, frame, inspection)
        yield Outcome(name=frame.camera, sequence=frame.sequence, result=inspection)
