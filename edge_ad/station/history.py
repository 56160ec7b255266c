"""What `edge-ad history` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge_ad.errors import RecordError
from edge_ad.inspector import Inspector
from edge_ad.progress import Progress
from edge_ad.station.export import export_verdicts
from edge_ad.station.images import image_path
from edge_ad.station.query import Query, Reader
from edge_ad.station.replay import Replayed, replay, summary
from edge_ad.station.verdict import Verdict

__all__ = ["export", "replay_record", "show"]

_HEAD = f"{'id':>8}  {'time':<27} {'part':<20} {'camera':<10} {'verdict':<9} {'score':>9} {'threshold':>9}  "
_REPLAY_HEAD = f"{'id':>8}  {'part':<20} {'camera':<10} {'before':<19} {'now':<19} {'difference':>10}"


def show(reader: Reader, query: Query, *, as_json: bool) -> Iterator[str]:
    """The verdicts as lines of a table, the newest last as in a log, or as JSON."""
    if not as_json:
        yield _HEAD + "bundle, or reason"
    for verdict in reversed(list(reader.verdicts(query))):
        yield json.dumps(verdict.to_json()) if as_json else _line(verdict, reader)
    if not as_json:
        counts = reader.counts(replace(query, limit=None))
        yield f"in all: {', '.join(f'{count} {name}' for name, count in sorted(counts.items())) or 'none'}"


def _line(verdict: Verdict, reader: Reader) -> str:
    tree, model = verdict.to_json(), verdict.model
    score, threshold = _number(verdict.score), _number(model.threshold if model else None)
    kept = ", image" if image_path(reader.folder, reader.uid, verdict).exists() else ""
    served = f"{model.bundle} {model.bundle_sha256[:8]} v{model.threshold_version} {model.precision}" if model else ""
    return (
        f"{verdict.id:>8}  {tree['time']:<27} {verdict.part_id or '-':<20} {verdict.camera:<10} "
        f"{verdict.verdict:<9} {score:>9} {threshold:>9}  {verdict.reason or served}{kept}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def export(reader: Reader, query: Query, path: Path, *, force: bool) -> str:
    """Write the verdicts, oldest first; returns what was done."""
    count = export_verdicts(reader.verdicts(replace(query, oldest_first=not query.limit)), path, force=force)
    return f"{path}: {count} verdicts"


def replay_record(reader: Reader, query: Query, bundle: Path, precision: str, backend: str, *, as_json: bool) -> str:
    """Judge the kept images of the verdicts through a bundle; a table of the differences, or JSON.

    Raises:
        RecordError: None of the verdicts has its image any more.
        EdgeAdError: The bundle cannot be used.
    """
    with_image = [v for v in reader.verdicts(query) if image_path(reader.folder, reader.uid, v).exists()]
    if not with_image:
        asked = sum(reader.counts(query).values())
        raise RecordError(
            "None of these verdicts has its image." if asked else "There is no such verdict in the record.",
            expected="rejects, faults with a frame or sampled accepts, not given up for the quota",
            got=f"{asked} verdicts without" if asked else "none",
        )
    rows = []
    with Inspector(bundle, precision=precision, backend=backend) as inspector:
        with Progress("replay", len(with_image)) as progress:
            for row in replay(with_image, reader.folder, reader.uid, inspector):
                rows.append(row)
                progress.step()
        name = f"{inspector.bundle.manifest.name} in {inspector.precision} on {inspector.backend}"
    if as_json:
        return "\n".join([*(json.dumps(row.to_json()) for row in rows), json.dumps({"summary": summary(rows)})])
    counts = summary(rows)
    turned = f"{counts['good_to_anomalous']} good to anomalous, {counts['anomalous_to_good']} anomalous to good"
    last = f"{name}: {counts['replayed']} judged again, {counts['not_judged']} not; {turned}"
    return "\n".join([_REPLAY_HEAD, *(_replayed_line(row) for row in rows), last])


def _replayed_line(row: Replayed) -> str:
    before = f"{row.before.verdict} {_number(row.before.score)}"
    now = row.reason if row.verdict is None else f"{row.verdict} {_number(row.score)}"
    difference = row.to_json()["difference"]
    return (
        f"{row.before.id:>8}  {row.before.part_id or '-':<20} {row.before.camera:<10} {before:<19} {now:<19} "
        f"{'' if difference is None else f'{difference:+.4g}':>10}{'  <- turned' if row.is_flip else ''}"
    )
