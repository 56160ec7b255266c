"""`edge-ad inspect BUNDLE SOURCE`: a verdict on every frame of a source, as lines or as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from edge_ad.cameras import Source, open_source
from edge_ad.errors import FrameFault
from edge_ad.frame import Frame
from edge_ad.inspection import Inspection
from edge_ad.inspector import Inspector
from edge_ad.overlay import save_overlay

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Inspect until the source ends; a camera has no end but Ctrl-C. Returns 0 whatever the verdicts are."""
    counts = {"good": 0, "ANOMALOUS": 0, "fault": 0}
    with (
        open_source(arguments.source) as source,
        Inspector(arguments.bundle, precision=arguments.precision, backend=arguments.backend) as inspector,
    ):
        try:
            for outcome in _outcomes(source):
                counts[_report(outcome, inspector, arguments)] += 1
        except KeyboardInterrupt:
            if source.total is not None:
                raise
        if not arguments.json:
            faults = f", {counts['fault']} faults" if counts["fault"] else ""
            verdicts = f"{counts['good']} good, {counts['ANOMALOUS']} anomalous{faults}"
            print(f"{verdicts}; {inspector.precision} on {inspector.backend}")
    return 0


def _outcomes(source: Source) -> Iterator[Frame | FrameFault]:
    frames = iter(source)
    while True:
        try:
            yield next(frames)
        except StopIteration:
            return
        except FrameFault as fault:
            yield fault


def _report(outcome: Frame | FrameFault, inspector: Inspector, arguments: argparse.Namespace) -> str:
    """Print the verdict or fault and return it."""
    if isinstance(outcome, FrameFault):
        row = {"frame": outcome.camera, "sequence": outcome.sequence, "fault": type(outcome).__name__}
        line = f"{outcome.camera} #{outcome.sequence}: fault     {outcome.what}"
        verdict = "fault"
    else:
        inspection = inspector.inspect(outcome)
        if arguments.save:
            save_overlay(Path(arguments.save), outcome, inspection)
        row = {"frame": outcome.camera, "sequence": outcome.sequence, **inspection.to_json()}
        verdict = "ANOMALOUS" if inspection.is_anomalous else "good"
        line = _line(outcome, verdict, inspection)
    print(json.dumps(row) if arguments.json else line, flush=True)
    return verdict


def _line(frame: Frame, verdict: str, inspection: Inspection) -> str:
    return (
        f"{frame.camera} #{frame.sequence}: {verdict:<9} score {inspection.score:.4g} "
        f"(threshold {inspection.threshold:.4g}) {inspection.latency_ms:.1f} ms"
    )
