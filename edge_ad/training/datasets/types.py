"""What every layout is turned into: paths and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

__all__ = ["GOOD", "Dataset", "Saturation", "TestImage"]

GOOD = "good"


@dataclass(frozen=True, kw_only=True)
class TestImage:
    """A labelled image.

    Attributes:
        path: The image file.
        defect: What is wrong with it, by default the name of its folder; "good" for normal parts.
        masks: Files whose non-zero pixels, merged, are the defect; None for normal parts and where nobody marked
            the defect, which then counts for image metrics only.
    """

    __test__: ClassVar[bool] = False  # not a test, whatever pytest makes of the name

    path: Path
    defect: str
    masks: tuple[Path, ...] | None

    @property
    def is_defective(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """How much of a defect has to be found for it to count as found whole (MVTec LOCO's defects_config.json).

    Attributes:
        threshold: Pixels, or a share of the defect's area.
        relative: Whether it is a share.
    """

    threshold: float
    relative: bool

    def pixels(self, area: int) -> int:
        """At least 1 and at most `area`, for a defect of `area` pixels."""
        return max(1, min(int(self.threshold * area if self.relative else self.threshold), area))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Paths in natural order (part2 before part10).

    Attributes:
        root: The folder or file as it was given.
        train: Good images, at least one.
        validation: More good images, possibly none.
        test: Labelled images, possibly none; good ones first, then type by type.
        defects: Labelled defective images to learn from, which supervised methods alone use; possibly none.
        saturations: By the level of a mask's pixels; empty where a defect has to be found whole.
    """

    root: Path
    train: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[TestImage, ...] = ()
    defects: tuple[TestImage, ...] = ()
    saturations: Mapping[int, Saturation] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name, or that of the csv file without its suffix."""
        root = self.root.resolve()
        return root.stem if root.is_file() else root.name
