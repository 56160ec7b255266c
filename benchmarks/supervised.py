"""SuperSimpleNet with and without marked defects to learn from, judged on the same images.

Half of the marked defects of DATA, drawn by the seed, are learnt from by the supervised run alone. Both runs are
judged on all other test images. Each uses the authors' setting for its kind of training (threshold of the Perlin
noise 0.2 unsupervised, 0.6 supervised); all else is equal. Graphs run in torch, in float32.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_ad.report.machine import describe_machine

if TYPE_CHECKING:
    from edge_ad.training.dataset import Dataset

FIGURES = ("image_auroc", "image_average_precision", "pixel_auroc", "aupro")
PERLIN_THRESHOLDS = {False: 0.2, True: 0.6}  # by whether training is supervised: the authors' code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="a data set whose test images have masks")
    parser.add_argument("--backbone", default="resnet18", help="(default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the backbone's checkpoint; pdn-s needs none")
    parser.add_argument("--steps", type=int, help="of both trainings, where not the method's default")
    parser.add_argument("--seed", type=int, default=0, help="of the halves and the trainings (default: %(default)s)")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One row per kind of training, with the figures and the numbers of images."""
    from edge_ad.methods.supersimplenet import SuperSimpleNetOptions
    from edge_ad.training.dataset import open_dataset

    dataset = with_half_of_the_defects(open_dataset(arguments.data), arguments.seed)
    given = {name: getattr(arguments, name) for name in ("backbone", "weights", "seed")}
    if arguments.steps is not None:
        given["steps"] = arguments.steps
    rows = []
    for supervised, threshold in PERLIN_THRESHOLDS.items():
        options = SuperSimpleNetOptions(**given, supervised=supervised, perlin_threshold=threshold)
        rows.append({"supervised": supervised, "steps": options.steps, **_figures(dataset, options)})
    return {
        "machine": describe_machine(),
        "dataset": arguments.data.resolve().name,
        "backbone": arguments.backbone,
        "seed": arguments.seed,
        "learnt_defects": len(dataset.defects),
        "test_good": sum(not image.is_defective for image in dataset.test),
        "test_defective": sum(image.is_defective for image in dataset.test),
        "test_marked": sum(bool(image.masks) for image in dataset.test),
        "rows": rows,
    }


def with_half_of_the_defects(dataset: Dataset, seed: int) -> Dataset:
    """The data set with a random half of its marked test defects to learn from, and the rest to be judged on."""
    marked = [image for image in dataset.test if image.masks]
    drawn = np.random.default_rng(seed).permutation(len(marked))[: len(marked) // 2]
    learnt = tuple(marked[index] for index in sorted(drawn))
    return dataclasses.replace(
        dataset, defects=learnt, test=tuple(image for image in dataset.test if image not in learnt)
    )


def _figures(dataset: Dataset, options: Any) -> dict[str, Any]:
    import torch

    from edge_ad.frame import read_image
    from edge_ad.methods.graph import InspectionGraph
    from edge_ad.training.evaluate import evaluate
    from edge_ad.training.fit_supersimplenet import fit_supersimplenet
    from edge_ad.training.run import split_images

    with tempfile.TemporaryDirectory() as folder:
        network = fit_supersimplenet(split_images(dataset, options.seed), options, Path(folder))
    height, width = read_image(dataset.test[0].path).shape[:2]
    graph = InspectionGraph(network, (height, width), options.image_size).eval()

    def run(images: Any) -> Any:
        with torch.inference_mode():
            return [answer.numpy() for answer in graph(torch.from_numpy(images))]

    evaluation = evaluate(run, dataset, (height, width), "judging " + ("supervised" if options.supervised else "other"))
    return {figure: getattr(evaluation, figure) for figure in FIGURES}


def as_text(result: dict[str, Any]) -> str:
    """A Markdown table."""
    lines = [
        f"SuperSimpleNet on {result['dataset']}: {result['learnt_defects']} marked defects to learn from, "
        f"{result['test_good']} good and {result['test_defective']} defective images to be judged on.",
        "",
        "| training | image AUROC | image AP | pixel AUROC | AUPRO |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        figures = ("-" if row[figure] is None else f"{row[figure]:.4f}" for figure in FIGURES)
        lines.append(f"| {'supervised' if row['supervised'] else 'unsupervised'} | {' | '.join(figures)} |")
    return "\n".join(lines)
