"""Run folders: resolved options beside the outputs, checkpoints that resume, files that are whole or absent.

torch loads with the first checkpoint: calibration reads run records on machines that have none.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

from edge_ad.durable import discard, write_durably
from edge_ad.errors import TrainingError

__all__ = ["load_checkpoint", "save_checkpoint", "write_options", "write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, even if the machine stops."""
    scratch = path.with_name(path.name + ".partial")
    try:
        write_durably(scratch, content)
        os.replace(scratch, path)
    except OSError as exc:
        discard(scratch)
        raise TrainingError(f"{path} could not be written.", got=exc.strerror, fix="free disk space") from exc


def write_options(folder: Path, options: Any) -> None:
    """Write the resolved options of a run (a dataclass) to `options.json`."""
    text = json.dumps(dataclasses.asdict(options), indent=2, default=str)
    write_whole(folder / "options.json", text.encode() + b"\n")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Save everything a run needs to go on from here."""
    import torch

    scratch = path.with_name(path.name + ".partial")
    try:
        torch.save(state, scratch)
        os.replace(scratch, path)
    except (OSError, RuntimeError) as exc:  # torch reports a full disk as a RuntimeError
        discard(scratch)
        raise TrainingError(f"{path} could not be written.", got=exc, fix="free disk space, then resume") from exc


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The saved state, or None where a run has not begun.

    Raises:
        TrainingError: The file is damaged.
    """
    import torch

    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as exc:
        raise TrainingError(
            f"The checkpoint {path} is damaged.", got=exc, fix="delete it to start the run anew"
        ) from exc
    return state
