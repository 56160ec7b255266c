"""Evaluation: figures by type of defect, their intervals, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

from edge_ad.errors import DatasetLayoutError, FrameError
from edge_ad.frame import read_image
from edge_ad.training.dataset import Dataset, TestImage, open_dataset, read_mask
from edge_ad.training.evaluate import Evaluation, evaluate

SIZE = (24, 32)


def brightness(images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A detector: the map is the grey level, the score its maximum."""
    grey = images.mean(axis=3).astype(np.float32)
    return grey, grey.max(axis=(1, 2))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Noise with brighter squares: `bright` is plain to see, `dim` is not, of `unmarked` nobody marked where."""
    root, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)

    def draw(name: str, level: int, marked: bool = True) -> None:
        image = rng.integers(0, 120, (*SIZE, 3), np.uint8)
        mask = np.zeros(SIZE, np.uint8)
        y, x = rng.integers(0, 16, 2)
        mask[y : y + 6, x : x + 6] = 255 if level else 0
        image[mask > 0] += np.uint8(level)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), image)
        if level and marked:
            file = root / "ground_truth" / Path(name).relative_to("test")
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), mask)

    draw("train/good/0.png", 0)
    for index in range(12):
        draw(f"test/good/{index}.png", 0)
        draw(f"test/bright/{index}.png", 100)
        draw(f"test/dim/{index}.png", 12)
    for index in range(3):
        draw(f"test/unmarked/{index}.png", 100, marked=False)
    return open_dataset(root)


@pytest.fixture(scope="module")
def evaluation(parts: Dataset) -> Evaluation:
    return evaluate(brightness, parts, SIZE, "test")


def test_each_type_is_judged_against_all_good_images(parts: Dataset, evaluation: Evaluation) -> None:
    assert list(evaluation.per_defect) == ["bright", "dim", "unmarked"]
    for name, metrics in evaluation.per_defect.items():
        compared = [item for item in parts.test if item.defect in (name, "good")]
        score = [brightness(read_image(item.path)[None])[1][0] for item in compared]
        assert metrics.images == sum(item.is_defective for item in compared)
        assert metrics.image_auroc == pytest.approx(roc_auc_score([item.is_defective for item in compared], score))
        if name == "unmarked":
            assert metrics.pixel_auroc is None
            continue
        label = np.concatenate([read_mask(item, SIZE).ravel() for item in compared])
        value = np.concatenate([brightness(read_image(item.path)[None])[0].ravel() for item in compared])
        assert metrics.pixel_auroc == pytest.approx(roc_auc_score(label, value), abs=1e-3)
    assert evaluation.per_defect["bright"].pixel_auroc > evaluation.per_defect["dim"].pixel_auroc + 0.1


def test_every_metric_that_is_defined_has_an_interval_around_it(evaluation: Evaluation) -> None:
    names = {"image_auroc", "image_average_precision", "image_f1max", "pixel_auroc", "aupro", "spro", "spro_03"}
    assert set(evaluation.intervals) == names
    for name in names:
        low, high = evaluation.intervals[name]
        assert low < getattr(evaluation, name) < high
    assert evaluation.spro_03 == pytest.approx(evaluation.aupro), "one connected defect an image, no saturations"
    assert evaluation.images == len(evaluation.scores) == 39


def test_without_good_images_or_masks_nothing_is_made_up(parts: Dataset) -> None:
    only_bad = dataclasses.replace(parts, test=tuple(item for item in parts.test if item.defect == "unmarked"))
    evaluation = evaluate(brightness, only_bad, SIZE, "test")
    assert evaluation.intervals == {}
    assert {evaluation.image_auroc, evaluation.pixel_auroc, evaluation.aupro, evaluation.spro} == {None}
    metrics = evaluation.per_defect["unmarked"]
    assert (metrics.images, metrics.image_auroc, metrics.pixel_auroc) == (3, None, None)


def test_saturations_of_the_data_set_count(parts: Dataset, evaluation: Evaluation, tmp_path: Path) -> None:
    """One pixel of a defect of 36 is enough: the dim defects, of which some pixels stand out, are found sooner."""
    (tmp_path / "defects_config.json").write_text(
        '[{"defect_name": "spot", "pixel_value": 255, "saturation_threshold": 1, "relative_saturation": false}]'
    )
    for part in ("train", "test", "ground_truth"):
        (tmp_path / part).symlink_to(parts.root / part)
    easy = evaluate(brightness, open_dataset(tmp_path), SIZE, "test")
    assert easy.spro > evaluation.spro + 0.1
    assert easy.aupro == evaluation.aupro


def test_what_cannot_be_evaluated_is_named(parts: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError, match="no test images"):
        evaluate(brightness, dataclasses.replace(parts, test=()), SIZE, "test")
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((50, 60, 3), np.uint8))
    image = TestImage(path=tmp_path / "large.png", defect="good", masks=None)
    with pytest.raises(FrameError, match=r"large\.png"):
        evaluate(brightness, dataclasses.replace(parts, test=(image,)), SIZE, "test")
