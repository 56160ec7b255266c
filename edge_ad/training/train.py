"""One door to every method: train a run, load it again."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import nn

from edge_ad.errors import TrainingError
from edge_ad.training.checkpoint import write_options, write_whole
from edge_ad.training.dataset import open_dataset
from edge_ad.training.registry import METHODS
from edge_ad.training.run import RunRecord, read_run, split_images

__all__ = ["load_run", "train"]


def train(method: str, dataset_folder: Path, output: Path, options: Any, *, normal_class: str | None = None) -> Path:
    """Train `method` on a data set's good images, and its marked defects if `options.supervised`; returns the run.

    A run that was interrupted goes on; a finished one is left as it is.

    Args:
        options: An instance of METHODS[method].load().options.
        normal_class: As open_dataset takes it.

    Raises:
        TrainingError: The folder holds a run with other options.
        DatasetLayoutError, TooFewImages, UnreadableImage, WeightsNotFound: From the data and the weights.
    """
    dataset = open_dataset(dataset_folder, normal_class)
    split = split_images(dataset, options.seed)
    if not getattr(options, "supervised", False):
        split = dataclasses.replace(split, defects=())
    output.mkdir(parents=True, exist_ok=True)
    _same_options_or_new(output, options)
    if (output / "run.json").exists():
        return output
    write_options(output, options)
    start = time.monotonic()
    network = METHODS[method].load().fit(split, options, output)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    write_whole(output / "model.safetensors", save(state))
    RunRecord.of(method, dataset, split, time.monotonic() - start).write(output)
    (output / "checkpoint.pt").unlink(missing_ok=True)
    return output


def _same_options_or_new(output: Path, options: Any) -> None:
    """A run goes on only with the options it began with; one that failed before its first checkpoint has not begun."""
    file = output / "options.json"
    if not file.exists() or not any((output / name).exists() for name in ("checkpoint.pt", "run.json")):
        return
    before = json.loads(file.read_text())
    now = json.loads(json.dumps(dataclasses.asdict(options), default=str))
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        raise TrainingError(
            f"{output} holds a run with other options.",
            expected={key: before.get(key) for key in changed},
            got={key: now[key] for key in changed},
            fix="choose another -o, or give the options the run began with",
        )


def load_run(folder: Path) -> tuple[nn.Module, RunRecord, dict[str, Any]]:
    """The trained network in evaluation mode, its record and its options.

    Raises:
        TrainingError: Not a finished run.
    """
    record, options = read_run(folder)
    if record.method not in METHODS:
        raise TrainingError(f"{folder} was trained with an unknown method.", expected=list(METHODS), got=record.method)
    method = METHODS[record.method].load()
    try:
        network = method.empty(method.options(**options))
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, TypeError, RuntimeError) as exc:
        raise TrainingError(f"The run in {folder} cannot be loaded.", got=exc, fix="train it again") from exc
    return network.eval(), record, options
