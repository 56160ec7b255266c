"""`edge-ad distill-patches IMAGES -o FOLDER`: the arguments, without torch."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["DESCRIPTION", "add_arguments", "run"]

DESCRIPTION = """Train the teacher of Uninformed Students for patches of one size (sec. 3.1): distilled from ImageNet
features, its descriptors compact and, if asked, told apart by triplets. Uses the GPU if there is one. Running the same
command again resumes. `edge-ad train uninformed-students --teachers FOLDER` uses the result."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be asked of a teacher; the defaults made the shipped ones."""
    parser.add_argument("images", type=Path, help="folder (of folders) of natural images, such as ImageNet")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder of the run")
    parser.add_argument("--patch", type=int, choices=(17, 33, 65), default=33, help="side of a patch (default: 33)")
    parser.add_argument(
        "--backbone",
        default="resnet18",
        choices=("resnet18", "resnet50", "wide_resnet50_2", "wide_resnet101_2"),
        help="whose features of layers 2 and 3 to learn (default: resnet18)",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="torchvision checkpoint of the backbone")
    parser.add_argument(
        "--enlarged", type=_positive, default=64, help="side of a patch before the backbone (default: 64; paper: 224)"
    )
    parser.add_argument("--steps", type=_positive, default=4500, help="(default: 4,500; the paper: 50,000)")
    parser.add_argument("--batch", type=_positive, default=64, help="patches a step (default: 64, as the paper's)")
    parser.add_argument("--distillation", type=_weight, default=1.0, help="lambda_k, its weight (default: 1)")
    parser.add_argument("--metric", type=_weight, default=0.0, help="lambda_m, weight of the triplets (default: 0)")
    parser.add_argument("--compactness", type=_weight, default=0.1, help="lambda_c, its weight (default: 0.1)")
    parser.add_argument("--margin", type=_weight, default=1.0, help="delta of the triplets (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Train, and say where the teacher is."""
    import dataclasses

    from edge_ad.training.patch_teacher import PatchTeacherOptions, distill_patches

    names = [field.name for field in dataclasses.fields(PatchTeacherOptions)]
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    print(distill_patches(PatchTeacherOptions(**given)))
    return 0
