"""The procedural camera: repeatable, honest about its masks, written in the layout the trainers read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_ad.demo.parts import CAMERA, DEFECTS, draw_part, write_dataset
from edge_ad.errors import DataError
from edge_ad.frame import read_image

SEEDS = range(6)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first.astype(int) - second).max(axis=2)


def test_the_same_seed_draws_the_same_bytes_and_the_next_part_differs():
    first, second = np.random.default_rng(7), np.random.default_rng(7)
    image = draw_part(first)[0]
    assert np.array_equal(image, draw_part(second)[0])
    assert difference(image, draw_part(first)[0]).mean() > 2


def test_a_good_part_is_a_frame_with_an_empty_mask():
    image, mask = draw_part(np.random.default_rng(0))
    assert (image.shape, image.dtype) == ((*CAMERA, 3), np.uint8)
    assert (mask.shape, mask.dtype) == (CAMERA, np.uint8)
    assert not mask.any()


@pytest.mark.parametrize("size", [(240, 320), (300, 300), (601, 799)])
def test_other_cameras_see_the_whole_part(size):
    image, mask = draw_part(np.random.default_rng(0), "missing_feature", size=size)
    assert image.shape == (*size, 3) and mask.shape == size
    # Metal is above 100 levels and the fixture below: a 100 mm disc in a view of 120 mm, whatever its shift.
    bright = (image[size[0] // 2].mean(axis=1) > 100).nonzero()[0]
    expected = 100 / 120 * min(size[0], size[1] * 3 / 4)
    assert abs(bright.max() - bright.min() - expected) < 0.05 * expected


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defective_part_differs_from_its_twin_inside_the_mask_only(defect):
    for seed in SEEDS:
        image, mask = draw_part(np.random.default_rng(seed), defect)
        twin, _ = draw_part(np.random.default_rng(seed))
        changed = difference(image, twin)
        assert set(np.unique(mask)) == {0, 255}
        assert changed[mask == 0].max() <= 2  # the lens blurs a trace of the defect past the mask's edge
        # Sensor noise is about 2 levels: 20 levels over 80 pixels can be seen.
        assert np.sort(changed[mask > 0])[-80:].mean() > 20
        assert (changed[mask > 0] > 2).mean() > 0.3


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_seen_after_a_resize_to_256_and_stay_local(defect):
    for seed in SEEDS:
        mask = draw_part(np.random.default_rng(seed), defect)[1] > 0
        assert 0.0008 < mask.mean() < 0.03  # at 256x256, 50 to 2000 pixels


def test_the_generator_moves_on_by_the_same_amount_whatever_the_defect():
    states = []
    for defect in (None, *DEFECTS):
        rng = np.random.default_rng(3)
        draw_part(rng, defect)
        states.append(rng.bit_generator.state["state"]["state"])
    assert len(set(states)) == 1


def test_missing_features_are_both_holes_and_screws():
    sizes = {int((draw_part(np.random.default_rng(seed), "missing_feature")[1] > 0).sum() // 1000) for seed in range(9)}
    assert sizes == {1, 2}  # the mask of a screw and its shadow is twice that of a hole


def test_an_unknown_defect_is_refused():
    with pytest.raises(DataError, match="scratch or dent or stain or missing_feature"):
        draw_part(np.random.default_rng(0), "rust")


def counts(root: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for file in root.rglob("*.png"):
        folder = file.parent.relative_to(root).as_posix()
        found[folder] = found.get(folder, 0) + 1
    return found


def test_the_data_set_has_the_promised_layout_and_loses_nothing(tmp_path):
    root = write_dataset(
        tmp_path / "parts", train=3, validation=2, test_good=1, test_per_defect=2, seed=5, size=(120, 160)
    )
    expected = {"train/good": 3, "validation/good": 2, "test/good": 1}
    for defect in DEFECTS:
        expected |= {f"test/{defect}": 2, f"ground_truth/{defect}": 2}
    assert counts(root) == expected
    assert (root / "ground_truth/scratch/001_mask.png").is_file()
    first = draw_part(np.random.default_rng(5), size=(120, 160))[0]
    assert np.array_equal(read_image(root / "train/good/000.png"), first)


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="already exists"):
        write_dataset(tmp_path, train=1, validation=0, test_good=0, test_per_defect=0)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_dataset(tmp_path / "parts", train=1, validation=0, test_good=0, test_per_defect=0, size=(60, 80))
    assert not list(tmp_path.iterdir())
