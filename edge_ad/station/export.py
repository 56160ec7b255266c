"""The record as a table for other programs: csv, or parquet with pyarrow. Constant memory for any size."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from edge_ad.errors import MissingDependency, RecordError
from edge_ad.station.verdict import FAULT, Verdict

__all__ = ["COLUMNS", "export_verdicts"]

_ROWS = 10_000  # of a row group of parquet

COLUMNS = tuple(Verdict(run=0, number=0, time_ns=0, camera="", recipe="", verdict=FAULT).to_json())
"""In their order; those of Verdict.to_json, with regions as JSON."""

_TYPES = {
    "id": "int64",
    "sequence": "int64",
    "threshold_version": "int64",
    "score": "float64",
    "threshold": "float64",
    "capture_ms": "float64",
    "wait_ms": "float64",
    "inspect_ms": "float64",
}
"""What is no text, in pyarrow's names."""

_TIMES = ("time", "captured")


def export_verdicts(verdicts: Iterable[Verdict], path: Path, *, force: bool = False) -> int:
    """Write verdicts to a .csv or .parquet file, which appears whole or not at all; returns how many.

    Raises:
        RecordError: Another suffix, a file that is there already (without `force`), or one that cannot be written.
        MissingDependency: Parquet without pyarrow.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise RecordError(f"{path} is of no kind that can be written.", expected=".csv or .parquet", got=path.suffix)
    if path.exists() and not force:
        raise RecordError(f"{path} already exists.", fix="choose another -o, or add --force")
    scratch = path.with_name(path.name + ".partial")
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    try:
        count = write((_row(verdict) for verdict in verdicts), scratch)
        os.replace(scratch, path)
    except OSError as exc:
        raise RecordError(
            f"{path} could not be written.", expected="a writable place with enough room", got=exc.strerror or exc
        ) from exc
    finally:
        with suppress(OSError):
            scratch.unlink()
    return count


def _row(verdict: Verdict) -> dict[str, Any]:
    tree = verdict.to_json()
    return {**tree, "regions": json.dumps(tree["regions"])}


def _write_csv(rows: Iterator[dict[str, Any]], path: Path) -> int:
    count = 0
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _spreadsheet_safe(value) for name, value in row.items()})
            count += 1
    return count


def _spreadsheet_safe(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula is told apart by an apostrophe: part ids come from outside."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise MissingDependency(
            "pyarrow is not installed.", fix="pip install 'edge-ad[parquet]', or -o FILE.csv"
        ) from exc
    as_text = pyarrow.schema([(name, pyarrow.type_for_alias(_TYPES.get(name, "string"))) for name in COLUMNS])
    schema, moment = as_text, pyarrow.timestamp("us", tz="UTC")
    for name in _TIMES:
        schema = schema.set(schema.get_field_index(name), pyarrow.field(name, moment))
    count = 0
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(rows, _ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=as_text).cast(schema))
            count += len(group)
    return count
