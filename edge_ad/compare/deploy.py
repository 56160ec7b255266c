"""From a contender to a calibrated bundle: train, export, quantise; what is finished is taken as it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.flow import CalibrationOptions, calibrate
from edge_ad import __version__
from edge_ad.bundle import Bundle
from edge_ad.compare.contenders import Contender
from edge_ad.compare.memory import fingerprint, remembered
from edge_ad.errors import BundleError, TrainingError
from edge_ad.training.dataset import Dataset
from edge_ad.training.export import export
from edge_ad.training.registry import METHODS
from edge_ad.training.run import image_hash, read_run
from edge_ad.training.train import train

__all__ = ["deploy", "finished_run"]


def deploy(
    contender: Contender,
    dataset: Dataset,
    data: str,
    precisions: Sequence[str],
    *,
    budget: float | None = None,
    slim: bool = False,
    region: Path | None = None,
    normal_class: str | None = None,
) -> Bundle:
    """The contender's bundle with float32 and `precisions`.

    Args:
        data: The fingerprint of the data set.
        budget, slim, region, normal_class: As `compare` takes them.

    Raises:
        TrainingError: The finished run has other settings, or saw other images.
        EdgeAdError: Whatever training, export and calibration raise.
    """
    run = finished_run(contender, dataset)
    made_from = {"edge_ad": __version__, "model": fingerprint(run / "model.safetensors"), "data": data}
    options = CalibrationOptions(
        images=dataset.root, precisions=tuple(precisions), slim=slim, normal_class=normal_class
    )
    if budget is not None:
        made_from["budget"] = repr(budget)
        options = dataclasses.replace(options, test=dataset.root, budget=budget)
    if slim:
        made_from["slim"] = "yes"
    if region is not None:
        made_from["region"] = fingerprint(region)

    def make() -> dict[str, str]:
        bundle = export(run, contender.bundle, region=region, force=True)
        calibrate(bundle, options)
        return _graphs(bundle)

    memory = contender.run.with_name(f"{contender.run.name}.bundle.json")
    made = remembered(memory, made_from, make)
    try:
        bundle = Bundle(contender.bundle)
        bundle.verify()
        if _graphs(bundle) == made and {*precisions} <= {*made}:
            return bundle
    except BundleError:
        pass
    memory.unlink()  # the bundle is gone, damaged, another one, or lacks a precision
    remembered(memory, made_from, make)
    return Bundle(contender.bundle)


def _graphs(bundle: Bundle) -> dict[str, str]:
    return {name: bundle.manifest.files[entry.graph] for name, entry in bundle.manifest.precisions.items()}


def finished_run(contender: Contender, dataset: Dataset) -> Path:
    """The contender's run, trained now unless it is finished.

    Raises:
        TrainingError: The run that is there is another method's, has other settings, or saw other images.
    """
    if (contender.run / "run.json").exists():
        _check(contender, dataset)
        return contender.run
    options = METHODS[contender.method].load().options(**contender.settings)
    return train(contender.method, dataset.root, contender.run, options)


def _check(contender: Contender, dataset: Dataset) -> None:
    """A run trained on test images, or on another product, would be compared to its advantage or disadvantage."""
    record, options = read_run(contender.run)
    if record.method != contender.method:
        raise _misfit(contender, "is of another method", contender.method, record.method)
    asked: dict[str, Any] = json.loads(json.dumps(dict(contender.settings), default=str))
    differing = [name for name in asked if asked[name] != options.get(name) and not _is_path(contender, name)]
    if differing:
        expected, got = ({name: values.get(name) for name in differing} for values in (asked, options))
        raise _misfit(contender, "has other options", expected, got)
    learnt_from = (*dataset.train, *dataset.validation, *(image.path for image in dataset.defects))
    ours = {image_hash(path) for path in learnt_from}
    foreign = set(record.training_hashes) - ours
    if foreign:
        count = f"{len(foreign)} of {len(record.training_hashes)} images are not among them"
        raise _misfit(contender, "was trained on other images", f"training images of {dataset.root}", count)


def _is_path(contender: Contender, name: str) -> bool:
    return isinstance(contender.settings[name], Path)


def _misfit(contender: Contender, what: str, expected: object, got: object) -> TrainingError:
    return TrainingError(
        f"The finished run {contender.run} {what}.", expected=expected, got=got, fix="give another folder to --runs"
    )
