"""`edge-ad inspect BUNDLE SOURCE`: a verdict on every frame of a source, as lines or as JSON.

Image files are read and decoded by threads while the network runs. One inspector on all cores does the inspecting:
inspectors of one core each are a little faster on two cores (`python -m benchmarks scale`) and hold the network once
per core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
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
        Inspector(arguments.bundle, precision=arguments.precision, backend=arguments.backend) as inspector,
        closing(_outcomes(source, inspector, arguments)) as outcomes,
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
        print(f"{verdicts}; {inspector.precision} on {inspector.backend}")
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


def _outcomes(source: Source, inspector: Inspector, arguments: argparse.Namespace) -> Generator[Outcome, None, None]:
    look: Look = TiledInspector(inspector).inspect if arguments.tiled else inspector.inspect
    save = Path(arguments.save) if arguments.save else None
    if isinstance(source, ImageFiles):
        # Frames to be cut into tiles may be so large that few fit into memory, and reading is a small part of the work.
        return inspect_files(source, look, save, 2 if arguments.tiled else max(2, os.cpu_count() or 2))
    return _of_stream(source, look, save)


def inspect_files(files: ImageFiles, look: Look, save: Path | None, threads: int) -> Generator[Outcome, None, None]:
    """What comes of each file, in order; one that is unreadable or of the wrong size is a fault.

    One image is inspected at a time, while the other threads read theirs or draw overlays.

    Args:
        save: Folder for overlays.
        threads: At most as many images are in memory.
    """
    inspecting = threading.Lock()

    def work(sequence: int) -> Outcome:
        name = files.paths[sequence].name
        try:
            frame = files.read(sequence)
            with inspecting:
                inspection = look(frame)
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
