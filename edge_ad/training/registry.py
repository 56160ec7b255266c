"""The published methods by name. Listing them loads nothing; a method's torch code comes with `MethodEntry.load`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["METHODS", "Method", "MethodEntry"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """How one published method is trained and rebuilt.

    Attributes:
        options: A frozen dataclass whose fields are declared with `edge_ad.methods.options.option`; among them
            `image_size`, the side of the network's square input, and `seed`.
        fit: (split, options, folder) to the trained network in evaluation mode on the CPU; resumes from `folder`.
        empty: (options) to a network of random weights whose state dict has the trained one's keys.
    """

    options: type[Any]
    fit: Callable[..., Any]
    empty: Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """A method's place in the list.

    Attributes:
        summary: The line of `edge-ad train --help`.
        place: `module:NAME` of its Method.
    """

    summary: str
    place: str

    def load(self) -> Method:
        module, _, name = self.place.partition(":")
        method: Method = getattr(import_module(module), name)
        return method


METHODS: dict[str, MethodEntry] = {
    "cutpaste": MethodEntry(
        summary="CutPaste (CVPR 2021): a quarter of an hour on one core", place="edge_ad.training.fit_cutpaste:METHOD"
    ),
    "efficientad-m": MethodEntry(
        summary="EfficientAD-M (WACV 2024): three times the work of EfficientAD-S",
        place="edge_ad.training.fit_efficientad:MEDIUM",
    ),
    "efficientad-s": MethodEntry(
        summary="EfficientAD-S (WACV 2024): hours on two cores", place="edge_ad.training.fit_efficientad:SMALL"
    ),
    "simplenet": MethodEntry(
        summary="SimpleNet (CVPR 2023): about a minute on two cores", place="edge_ad.training.fit_simplenet:METHOD"
    ),
    "supersimplenet": MethodEntry(
        summary="SuperSimpleNet (ICPR 2024): minutes on one core; learns from defects too where some are marked",
        place="edge_ad.training.fit_supersimplenet:METHOD",
    ),
    "uninformed-students": MethodEntry(
        summary="Uninformed Students (CVPR 2020): ten minutes on two cores",
        place="edge_ad.training.fit_uninformed_students:METHOD",
    ),
}
