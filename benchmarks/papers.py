"""What the papers report, how they train, and the data they report it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DATASETS", "FACTS", "RECIPES", "Fact", "PaperDataset", "Recipe"]


@dataclass(frozen=True, kw_only=True)
class PaperDataset:
    """A public data set.

    Attributes:
        sizes: (good training images, test images) by category, of the whole data set.
        aliases: Other names of its folder, where it has one category only.
    """

    name: str
    sizes: Mapping[str, tuple[int, int]]
    aliases: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The names its folders may have."""
        return " ".join((*self.sizes, *self.aliases))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a paper trains.

    Attributes:
        settings: Options of the method that make it the paper's.
        epochs, images_a_step: How long, where the paper counts epochs; 0 where it counts steps.
        unlike: What differs from the paper whatever the options.
    """

    method: str
    variant: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0
    images_a_step: int = 1
    unlike: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A figure that a paper reports, in per cent, as mean over a data set's categories."""

    recipe: str
    dataset: str
    metric: str
    value: float
    source: str

    @property
    def method(self) -> str:
        return RECIPES[self.recipe].method


_B4 = "no EfficientNet-B4 is among the backbones"
_SCRATCH = {"pretrained": False, "variant": "3way", "steps": 65_536, "batch_images": 32, "image_size": 256}
_TEACHER = "the teacher is this package's own, not the one distilled from WideResNet-101 on all of ImageNet"
_PDN = {"steps": 70_000, "learning_rate": 1e-4, "image_size": 256}
_SUPER = {"backbone": "wide_resnet50_2", "layers": (2, 3), "batch_images": 32, "supervised": False}
_NO_CROP = "the image is resized to 256 pixels; the paper crops 224 of 256"

RECIPES: dict[str, Recipe] = {
    "cutpaste": Recipe(method="cutpaste", settings=_SCRATCH),
    "cutpaste-ensemble": Recipe(method="cutpaste", variant="ensemble of 5", settings={**_SCRATCH, "ensemble": 5}),
    "cutpaste-transfer": Recipe(
        method="cutpaste", variant="transfer", settings={"pretrained": True, "variant": "3way"}, unlike=(_B4,)
    ),
    "uninformed-students": Recipe(
        method="uninformed-students",
        settings={"receptive_fields": (17, 33, 65), "output_stride": 1, "window": 256, "learning_rate": 1e-4},
        epochs=100,
        unlike=("the teachers are this package's own, not those of the paper",),
    ),
    "simplenet": Recipe(
        method="simplenet",
        settings={"backbone": "wide_resnet50_2", "layers": (2, 3), "batch_patches": 4096},
        epochs=160,
        images_a_step=4,
        unlike=(_NO_CROP, "the authors' code keeps the epoch that is best on the test images, this the last step"),
    ),
    "supersimplenet": Recipe(method="supersimplenet", settings=_SUPER, epochs=300, images_a_step=32),
    "supersimplenet-supervised": Recipe(
        method="supersimplenet",
        variant="supervised",
        settings={**_SUPER, "supervised": True, "perlin_threshold": 0.6},
        epochs=300,
        images_a_step=32,
    ),
    "efficientad-s": Recipe(method="efficientad-s", settings=_PDN, unlike=(_TEACHER,)),
    "efficientad-m": Recipe(method="efficientad-m", settings=_PDN, unlike=(_TEACHER,)),
}

_CUTPASTE = "Li et al., CVPR 2021, table"
_EFFICIENTAD = "Batzner et al., WACV 2024, table 2"

FACTS: tuple[Fact, ...] = (
    Fact(recipe="cutpaste", dataset="mvtec-ad", metric="image_auroc", value=95.2, source=f"{_CUTPASTE} 1"),
    Fact(recipe="cutpaste-ensemble", dataset="mvtec-ad", metric="image_auroc", value=96.1, source=f"{_CUTPASTE} 1"),
    Fact(
        recipe="cutpaste-transfer",
        dataset="mvtec-ad",
        metric="image_auroc",
        value=96.6,
        source=f"{_CUTPASTE} 3, pooled features",
    ),
    Fact(
        recipe="cutpaste-transfer",
        dataset="mvtec-ad",
        metric="image_auroc",
        value=97.1,
        source=f"{_CUTPASTE} 3, features of level 7",
    ),
    Fact(
        recipe="uninformed-students",
        dataset="mvtec-ad",
        metric="image_auroc",
        value=92.5,
        source=f"as {_CUTPASTE} 1, reports it of Bergmann et al., CVPR 2020, who report PRO",
    ),
    Fact(
        recipe="simplenet",
        dataset="mvtec-ad",
        metric="image_auroc",
        value=99.6,
        source="Liu et al., CVPR 2023, table 1",
    ),
    Fact(
        recipe="simplenet",
        dataset="mvtec-ad",
        metric="pixel_auroc",
        value=98.1,
        source="Liu et al., CVPR 2023, table 1",
    ),
    Fact(
        recipe="supersimplenet",
        dataset="mvtec-ad",
        metric="image_auroc",
        value=98.4,
        source="Rolih et al., ICPR 2024, unsupervised",
    ),
    Fact(
        recipe="supersimplenet-supervised",
        dataset="ksdd2",
        metric="image_average_precision",
        value=97.4,
        source="Rolih et al., ICPR 2024, supervised",
    ),
    Fact(recipe="efficientad-s", dataset="mvtec-ad", metric="image_auroc", value=98.8, source=_EFFICIENTAD),
    Fact(recipe="efficientad-m", dataset="mvtec-ad", metric="image_auroc", value=99.1, source=_EFFICIENTAD),
    Fact(recipe="efficientad-s", dataset="visa", metric="image_auroc", value=97.5, source=_EFFICIENTAD),
    Fact(recipe="efficientad-m", dataset="visa", metric="image_auroc", value=98.1, source=_EFFICIENTAD),
    Fact(recipe="efficientad-s", dataset="mvtec-loco", metric="image_auroc_by_type", value=90.0, source=_EFFICIENTAD),
    Fact(recipe="efficientad-m", dataset="mvtec-loco", metric="image_auroc_by_type", value=90.7, source=_EFFICIENTAD),
)

DATASETS: dict[str, PaperDataset] = {
    "mvtec-ad": PaperDataset(
        name="MVTec AD",
        sizes={
            "bottle": (209, 83),
            "cable": (224, 150),
            "capsule": (219, 132),
            "carpet": (280, 117),
            "grid": (264, 78),
            "hazelnut": (391, 110),
            "leather": (245, 124),
            "metal_nut": (220, 115),
            "pill": (267, 167),
            "screw": (320, 160),
            "tile": (230, 117),
            "toothbrush": (60, 42),
            "transistor": (213, 100),
            "wood": (247, 79),
            "zipper": (240, 151),
        },
    ),
    "mvtec-loco": PaperDataset(
        name="MVTec LOCO AD",
        sizes={
            "breakfast_box": (351, 275),
            "juice_bottle": (335, 330),
            "pushpins": (372, 310),
            "screw_bag": (360, 341),
            "splicing_connectors": (354, 312),
        },
    ),
    "visa": PaperDataset(
        name="VisA",
        sizes={
            "candle": (900, 200),
            "capsules": (542, 160),
            "cashew": (450, 150),
            "chewinggum": (453, 150),
            "fryum": (450, 150),
            "macaroni1": (900, 200),
            "macaroni2": (900, 200),
            "pcb1": (904, 200),
            "pcb2": (901, 200),
            "pcb3": (905, 201),
            "pcb4": (904, 201),
            "pipe_fryum": (450, 150),
        },
    ),
    "ksdd2": PaperDataset(name="KSDD2", sizes={"ksdd2": (2085, 1004)}, aliases=("kolektorsdd2",)),
}
