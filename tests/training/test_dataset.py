"""Data set layouts: those that are taken, and how the others are told apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge_ad.errors import DatasetLayoutError, TooFewImages, UnreadableImage
from edge_ad.frame import read_image
from edge_ad.training.dataset import Dataset, TestImage, open_dataset, read_mask

SIZE = (6, 9)


def touch(root: Path, *names: str) -> None:
    """Empty files: only names matter until an image is read."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def draw(path: Path, pixels: npt.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def names(root: Path, paths: tuple[Path, ...]) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def test_a_plain_folder_is_all_for_training(tmp_path: Path) -> None:
    touch(tmp_path, "10.png", "9.JPG", ".hidden.png", "notes.txt", "below/11.png")
    dataset = open_dataset(str(tmp_path))
    assert names(tmp_path, dataset.train) == ["9.JPG", "10.png"]
    assert (dataset.validation, dataset.test) == ((), ())


def test_mvtec_layout(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/2.png", "train/good/10.png", "validation/good/1.png", "license.txt", "a.png")
    touch(tmp_path, "test/good/000.png", "test/bent/1.png", "test/bent/2.jpg", "test/.cache/x.png")
    touch(tmp_path, "ground_truth/bent/1_mask.png", "ground_truth/bent/2.png", "ground_truth/bent/.DS_Store")
    dataset = open_dataset(tmp_path)
    truth = tmp_path / "ground_truth" / "bent"
    assert dataset == Dataset(
        root=tmp_path,
        train=(tmp_path / "train/good/2.png", tmp_path / "train/good/10.png"),
        validation=(tmp_path / "validation/good/1.png",),
        test=(
            TestImage(path=tmp_path / "test/good/000.png", defect="good", masks=None),
            TestImage(path=tmp_path / "test/bent/1.png", defect="bent", masks=(truth / "1_mask.png",)),
            TestImage(path=tmp_path / "test/bent/2.jpg", defect="bent", masks=(truth / "2.png",)),
        ),
    )
    assert [image.is_defective for image in dataset.test] == [False, True, True]


def test_loco_masks_are_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/0.png", "test/logical/001.png")
    touch(tmp_path, "ground_truth/logical/001/000.png", "ground_truth/logical/001/001.png")
    [image] = open_dataset(tmp_path).test
    assert image.masks is not None
    assert names(tmp_path, image.masks) == [f"ground_truth/logical/001/00{index}.png" for index in (0, 1)]


def test_an_image_may_itself_be_called_mask(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/0.png", "test/bent/a_mask.png", "ground_truth/bent/a_mask.png")
    [image] = open_dataset(tmp_path).test
    assert image.masks == (tmp_path / "ground_truth/bent/a_mask.png",)


def test_types_without_any_mask_have_none(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/0.png", "test/bent/0.png", "test/cut/0.png", "ground_truth/cut/0.png")
    (tmp_path / "ground_truth" / "bent").mkdir()
    bent, cut = open_dataset(tmp_path).test
    assert (bent.masks, read_mask(bent, SIZE)) == (None, None)
    assert cut.masks is not None


WRONG_LAYOUTS: dict[str, tuple[list[str], str]] = {
    "no good folder": (["train/0.png"], "no train/good"),
    "test only": (["test/good/0.png"], "no train/good"),
    "images in unknown subfolders": (["images/0.png", "labels/0.txt"], "no folder good of good parts"),
    "test images without a label": (["train/good/0.png", "test/0.png"], "in no test/TYPE folder"),
    "mask without image": (
        ["train/good/0.png", "test/bent/0.png", "ground_truth/bent/0.png", "ground_truth/bent/1_mask.png"],
        "1_mask.png belongs to no image",
    ),
    "folder of masks without image": (
        ["train/good/0.png", "test/bent/0.png", "ground_truth/bent/1/000.png"],
        "000.png belongs to no image",
    ),
    "folder without masks": (
        ["train/good/0.png", "test/bent/0.png", "ground_truth/bent/0/readme.txt"],
        "bent/0 holds no masks",
    ),
    "image without mask": (
        ["train/good/0.png", "test/bent/0.png", "test/bent/1.png", "ground_truth/bent/0.png"],
        "1.png has no mask",
    ),
    "two masks": (
        ["train/good/0.png", "test/bent/0.png", "ground_truth/bent/0.png", "ground_truth/bent/0_mask.png"],
        "0.png has two masks",
    ),
    "masks of a type that is not there": (
        ["train/good/0.png", "test/bent/0.png", "ground_truth/Bent/0.png"],
        "Bent holds masks of images that are not there",
    ),
}


@pytest.mark.parametrize("case", WRONG_LAYOUTS)
def test_a_wrong_layout_is_told(tmp_path: Path, case: str) -> None:
    files, complaint = WRONG_LAYOUTS[case]
    touch(tmp_path, *files)
    with pytest.raises(DatasetLayoutError, match=complaint) as caught:
        open_dataset(tmp_path)
    assert caught.value.expected is not None


def test_the_expected_and_the_found_tree_are_shown(tmp_path: Path) -> None:
    touch(tmp_path, "train/fine/0.png", "train/fine/1.png", "train/bad/0.png")
    with pytest.raises(DatasetLayoutError) as caught:
        open_dataset(tmp_path)
    message = str(caught.value)
    assert "train/good/NAME.png" in message
    assert "      fine/ (2 images)" in message.splitlines()[-3:][0] + message.splitlines()[-2]


def test_a_long_tree_is_cut(tmp_path: Path) -> None:
    touch(tmp_path, *(f"class{index}/0.png" for index in range(100)))
    with pytest.raises(DatasetLayoutError) as caught:
        open_dataset(tmp_path)
    assert "... 89 more" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 30


@pytest.mark.parametrize("below", [".", "train/good"])
def test_an_empty_folder_has_too_few_images(tmp_path: Path, below: str) -> None:
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    touch(tmp_path / below, "readme.txt")
    with pytest.raises(TooFewImages, match="holds no images"):
        open_dataset(tmp_path)


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "archive.zip")
    for name, got in (("archive.zip", "a file"), ("missing", "nothing at that path")):
        with pytest.raises(DatasetLayoutError, match=f"{name} is not a folder") as caught:
            open_dataset(tmp_path / name)
        assert caught.value.got == got


def masked(tmp_path: Path, *masks: npt.NDArray[np.generic]) -> TestImage:
    files = []
    for index, mask in enumerate(masks):
        files.append(tmp_path / "truth" / f"{index}.png")
        draw(files[-1], mask)
    return TestImage(path=tmp_path / "a.png", defect="bent", masks=tuple(files))


def marked(y: int, x: int, value: int = 255, dtype: type = np.uint8) -> npt.NDArray[np.generic]:
    mask = np.zeros(SIZE, dtype)
    mask[y, x] = value
    return mask


def test_masks_are_merged_and_any_level_counts(tmp_path: Path) -> None:
    colour = np.zeros((*SIZE, 3), np.uint8)
    colour[4, 4] = (0, 0, 9)
    see_through = np.zeros((*SIZE, 4), np.uint8)
    see_through[..., 3] = 255  # opaque black: nothing is marked
    image = masked(tmp_path, marked(0, 1), marked(2, 3, 1), marked(5, 8, 256, np.uint16), colour, see_through)
    mask = read_mask(image, SIZE)
    assert mask is not None
    assert mask.dtype == np.uint8
    assert set(zip(*(axis.tolist() for axis in mask.nonzero()), strict=True)) == {(0, 1), (2, 3), (5, 8), (4, 4)}
    assert mask.max() == 1


def test_a_good_image_has_an_empty_mask(tmp_path: Path) -> None:
    mask = read_mask(TestImage(path=tmp_path / "a.png", defect="good", masks=None), SIZE)
    assert mask is not None
    np.testing.assert_array_equal(mask, np.zeros(SIZE, np.uint8))


def test_a_mask_of_another_size_names_both(tmp_path: Path) -> None:
    image = masked(tmp_path, marked(0, 0), marked(0, 0).T)
    with pytest.raises(DatasetLayoutError) as caught:
        read_mask(image, SIZE)
    assert str(tmp_path / "truth/1.png") in caught.value.what
    assert str(image.path) in caught.value.what
    assert (caught.value.expected, caught.value.got) == ("6x9 (height x width of the image)", "9x6")


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_a_broken_mask_is_named(tmp_path: Path, content: bytes) -> None:
    image = masked(tmp_path, marked(0, 0))
    assert image.masks is not None
    image.masks[0].write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"0\.png is not a readable image"):
        read_mask(image, SIZE)
    image.masks[0].unlink()
    with pytest.raises(UnreadableImage, match=r"0\.png cannot be read"):
        read_mask(image, SIZE)


EXPECTED_COUNTS = {
    "cookie": (31, 0, {"good": (14, 0), "cracked": (32, 32), "cracked_unmasked": (8, 0)}),
    "metal_nut": (180, 0, {"good": (40, 0), "bent": (25, 0), "scratch": (23, 0)}),
    "juice_bottle": (335, 24, {"good": (30, 0), "logical_anomalies": (142, 142)}),
}


@pytest.mark.parametrize("name", EXPECTED_COUNTS)
def test_real_images(shared_data: Path, name: str) -> None:
    dataset = open_dataset(shared_data / name)
    train, validation, types = EXPECTED_COUNTS[name]
    assert (len(dataset.train), len(dataset.validation)) == (train, validation)
    counts = {
        defect: (
            sum(image.defect == defect for image in dataset.test),
            sum(image.defect == defect and image.masks is not None for image in dataset.test),
        )
        for defect in types
    }
    assert counts == types
    assert len(dataset.test) == sum(count for count, _ in types.values())
    for image in [image for image in dataset.test if image.masks][:5]:
        size = read_image(image.path).shape
        mask = read_mask(image, (size[0], size[1]))
        assert mask is not None
        assert 0 < mask.mean() < 0.5
