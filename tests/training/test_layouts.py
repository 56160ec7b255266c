"""Every published layout, written out small, opens with its images, labels and masks; broken ones are told."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge_ad.errors import DatasetLayoutError, TooFewImages
from edge_ad.frame import read_image
from edge_ad.training.dataset import Dataset, Saturation, TestImage, open_dataset, read_truth
from edge_ad.training.run import split_images
from tests.image_files import with_exif

SIZE = (6, 9)


def write(root: Path, *names: str, level: int = 255) -> None:
    """Images of SIZE with one row at `level`: as good as a photograph, and a mask with 9 pixels."""
    pixels = np.zeros(SIZE, np.uint8)
    pixels[2] = level
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), pixels)


def summary(dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Type of test image: (images, of which with masks). Every image and mask is read."""
    counts: dict[str, tuple[int, int]] = {}
    for item in (*dataset.test, *dataset.defects):
        assert read_image(item.path).shape == (*SIZE, 3)
        truth = read_truth(item, SIZE, dataset.saturations)
        if item.masks:
            assert truth is not None and truth.merged.sum() == 9
    for item in dataset.test:
        images, masked = counts.get(item.defect, (0, 0))
        counts[item.defect] = (images + 1, masked + bool(item.masks))
    return counts


# --- MVTec and its relatives --------------------------------------------------------------------------------------


def test_mvtec_ad(tmp_path: Path) -> None:
    write(tmp_path, "train/good/000.png", "test/good/000.png", "test/bent/000.png", "ground_truth/bent/000_mask.png")
    assert summary(open_dataset(tmp_path)) == {"good": (1, 0), "bent": (1, 1)}


def loco(root: Path) -> None:
    write(root, "train/good/000.png", "validation/good/000.png", "test/good/000.png")
    write(root, "test/logical_anomalies/000.png", "test/structural_anomalies/000.png")
    write(root, "ground_truth/logical_anomalies/000/000.png", level=251)
    write(root, "ground_truth/logical_anomalies/000/001.png", level=7)
    write(root, "ground_truth/structural_anomalies/000/000.png", level=1)
    config = [
        {"defect_name": "a", "pixel_value": 251, "saturation_threshold": 0.5, "relative_saturation": True},
        {"defect_name": "b", "pixel_value": 7, "saturation_threshold": 3, "relative_saturation": False},
        {"defect_name": "c", "pixel_value": 1, "saturation_threshold": 400, "relative_saturation": False},
    ]
    (root / "defects_config.json").write_text(json.dumps(config))


def test_mvtec_loco(tmp_path: Path) -> None:
    loco(tmp_path)
    dataset = open_dataset(tmp_path)
    assert (len(dataset.train), len(dataset.validation)) == (1, 1)
    assert summary(dataset) == {"good": (1, 0), "logical_anomalies": (1, 1), "structural_anomalies": (1, 1)}
    assert dataset.saturations[251] == Saturation(threshold=0.5, relative=True)
    _, logical, structural = (read_truth(item, SIZE, dataset.saturations) for item in dataset.test)
    assert logical is not None and structural is not None
    assert logical.saturations == (4, 3), "half of 9 pixels, rounded down; 3 pixels"
    assert logical.defects.shape == (2, *SIZE)
    assert structural.saturations == (9,), "never more than the whole defect"
    without = read_truth(dataset.test[1], SIZE)
    assert without is not None and without.saturations == (9, 9)


def test_a_level_without_a_saturation_is_told(tmp_path: Path) -> None:
    loco(tmp_path)
    write(tmp_path, "ground_truth/logical_anomalies/000/001.png", level=8)
    dataset = open_dataset(tmp_path)
    with pytest.raises(DatasetLayoutError, match=r"001\.png has a level") as caught:
        read_truth(dataset.test[1], SIZE, dataset.saturations)
    assert (caught.value.expected, caught.value.got) == ("one of [1, 7, 251]", 8)


@pytest.mark.parametrize("content", ["{", '[{"pixel_value": 255}]', "[1]"])
def test_a_broken_list_of_saturations_is_told(tmp_path: Path, content: str) -> None:
    loco(tmp_path)
    (tmp_path / "defects_config.json").write_text(content)
    with pytest.raises(DatasetLayoutError, match=r"defects_config\.json is not a list of saturation thresholds"):
        open_dataset(tmp_path)


def test_an_empty_mask_marks_nothing(tmp_path: Path) -> None:
    write(tmp_path, "1.png", "2.png")
    write(tmp_path, "0.png", level=0)
    image = TestImage(path=tmp_path / "a.png", defect="bent", masks=tuple(tmp_path / f"{i}.png" for i in range(3)))
    truth = read_truth(image, SIZE)
    assert truth is not None
    assert (truth.defects.shape, truth.saturations) == ((2, *SIZE), (9, 9))


def test_mvtec_3d_ad(tmp_path: Path) -> None:
    write(tmp_path, "train/good/rgb/000.png", "validation/good/rgb/000.png", "test/good/rgb/000.png")
    write(tmp_path, "test/good/gt/000.png", level=0)
    write(tmp_path, "test/hole/rgb/000.png", "test/hole/rgb/001.png", "test/hole/gt/000.png", "test/hole/gt/001.png")
    for folder in ("train/good", "validation/good", "test/good", "test/hole"):
        (tmp_path / folder / "xyz").mkdir()
        (tmp_path / folder / "xyz" / "000.tiff").write_bytes(b"a point cloud")
    dataset = open_dataset(tmp_path)
    assert (len(dataset.train), len(dataset.validation)) == (1, 1)
    assert summary(dataset) == {"good": (1, 0), "hole": (2, 2)}


@pytest.mark.parametrize(("image", "mask"), [("bmp", "png"), ("png", "png"), ("bmp", "bmp")])
def test_btad(tmp_path: Path, image: str, mask: str) -> None:
    write(tmp_path, f"train/ok/0000.{image}", f"test/ok/0000.{image}", f"test/ko/0001.{image}")
    write(tmp_path, f"ground_truth/ko/0001.{mask}")
    dataset = open_dataset(tmp_path)
    assert len(dataset.train) == 1
    assert summary(dataset) == {"good": (1, 0), "ko": (1, 1)}


def test_all_categories_at_once_are_too_many(tmp_path: Path) -> None:
    write(tmp_path, "bottle/train/good/0.png", "cable/train/good/0.png", "license/a.png")
    with pytest.raises(DatasetLayoutError, match="several data sets") as caught:
        open_dataset(tmp_path)
    assert caught.value.fix == "give one of them: bottle, cable"


def test_defects_to_learn_from(tmp_path: Path) -> None:
    write(tmp_path, *(f"train/good/{index}.png" for index in range(10)), "test/good/0.png")
    write(tmp_path, "train/bent/1.png", "train/cut/7.png", "test/bent/0.png")
    write(tmp_path, "ground_truth/bent/0_mask.png", "ground_truth/bent/1_mask.png")
    dataset = open_dataset(tmp_path)
    assert summary(dataset) == {"good": (1, 0), "bent": (1, 1)}
    assert [(item.defect, item.path.name, bool(item.masks)) for item in dataset.defects] == [
        ("bent", "1.png", True),
        ("cut", "7.png", False),
    ]
    assert split_images(dataset, 0).defects == dataset.defects
    assert open_dataset(tmp_path, "good").defects == (), "as if it were one class among others"


def test_one_name_for_two_masked_images_is_told(tmp_path: Path) -> None:
    write(tmp_path, "train/good/0.png", "train/bent/0.png", "test/bent/0.png")
    assert len(open_dataset(tmp_path).defects) == 1, "without masks there is nothing to mix up"
    write(tmp_path, "ground_truth/bent/0_mask.png")
    with pytest.raises(DatasetLayoutError, match="have the same name"):
        open_dataset(tmp_path)


def test_one_class_against_the_others(tmp_path: Path) -> None:
    """SimpleNet's table 5: train on one class of CIFAR-10, the others are anomalous."""
    for name in ("airplane", "cat", "dog"):
        write(tmp_path, f"train/{name}/0.png", f"train/{name}/1.png", f"test/{name}/2.png", f"validation/{name}/3.png")
    dataset = open_dataset(tmp_path, "cat")
    assert [path.parent.name for path in (*dataset.train, *dataset.validation)] == ["cat"] * 3
    assert summary(dataset) == {"good": (1, 0), "airplane": (1, 0), "dog": (1, 0)}
    assert dataset.test[0].path == tmp_path / "test/cat/2.png"
    assert dataset.defects == ()
    for wrong in (None, "cow"):
        with pytest.raises(DatasetLayoutError, match="no train/") as caught:
            open_dataset(tmp_path, wrong)
        assert caught.value.fix == "name the normal class with --normal-class: airplane, cat, dog"


# --- VisA ---------------------------------------------------------------------------------------------------------


def visa(root: Path) -> None:
    normal, anomaly = "candle/Data/Images/Normal", "candle/Data/Images/Anomaly"
    write(root, *(f"{normal}/000{index}.JPG" for index in range(3)), *(f"{anomaly}/000{index}.JPG" for index in (0, 1)))
    write(root, "candle/Data/Masks/Anomaly/000.png", "candle/Data/Masks/Anomaly/001.png", level=3)
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text(
        "object,split,label,image,mask\n"
        f"candle,train,normal,{normal}/0002.JPG,\n"
        f"candle,train,normal,{normal}/0000.JPG,\n"
        f"candle,test,anomaly,{anomaly}/0000.JPG,candle/Data/Masks/Anomaly/000.png\n"
        f"candle,test,anomaly,{anomaly}/0001.JPG,candle/Data/Masks/Anomaly/001.png\n"
        f"candle,test,normal,{normal}/0001.JPG,\n"
        "fryum,train,normal,fryum/Data/Images/Normal/0000.JPG,\n"
    )


def test_visa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visa(tmp_path)
    dataset = open_dataset(tmp_path / "candle")
    assert [path.name for path in dataset.train] == ["0002.JPG", "0000.JPG"]
    assert summary(dataset) == {"good": (1, 0), "anomaly": (2, 2)}
    (tmp_path / "candle" / "image_anno.csv").write_text(
        "image,label,mask\n"
        "candle/Data/Images/Anomaly/0000.JPG,melded,candle/Data/Masks/Anomaly/000.png\n"
        '"candle/Data/Images/Anomaly/0001.JPG","extra wax,melded",candle/Data/Masks/Anomaly/001.png\n'
    )
    assert summary(open_dataset(tmp_path / "candle")) == {"good": (1, 0), "extra wax,melded": (1, 1), "melded": (1, 1)}
    monkeypatch.chdir(tmp_path / "candle")
    assert open_dataset(".").name == "candle"


def test_visa_as_its_script_splits_it(tmp_path: Path) -> None:
    write(tmp_path, "train/good/0.JPG", "test/good/0.JPG", "test/bad/000.JPG", "ground_truth/bad/000.png")
    assert summary(open_dataset(tmp_path)) == {"good": (1, 0), "bad": (1, 1)}


def test_wrong_visa_is_told(tmp_path: Path) -> None:
    visa(tmp_path)
    with pytest.raises(DatasetLayoutError, match="all categories of VisA") as caught:
        open_dataset(tmp_path)
    assert caught.value.fix == "give one of them: candle"
    (tmp_path / "candle/Data/Masks/Anomaly/001.png").unlink()
    with pytest.raises(DatasetLayoutError, match=r"Anomaly/001\.png is not there"):
        open_dataset(tmp_path / "candle")
    split = tmp_path / "split_csv" / "1cls.csv"
    split.write_text("object,split,image\ncandle,train,a\n")
    with pytest.raises(DatasetLayoutError, match=r"1cls\.csv lacks a column"):
        open_dataset(tmp_path / "candle")
    split.write_text("object,split,label,image,mask\n")
    with pytest.raises(DatasetLayoutError, match="no image to train on"):
        open_dataset(tmp_path / "candle")
    split.unlink()
    with pytest.raises(DatasetLayoutError, match="which images to train on") as caught:
        open_dataset(tmp_path / "candle")
    assert "split_csv/1cls.csv" in str(caught.value)


# --- folders as they come -----------------------------------------------------------------------------------------


def test_good_parts_beside_defects_and_masks(tmp_path: Path) -> None:
    names = [f"good/part{index}.png" for index in range(200)]
    write(tmp_path, *names, "crack/0.png", "crack/1.png", "stain/0.png")
    write(tmp_path, "masks/crack/0.png", "masks/crack/1_mask.png")
    dataset = open_dataset(tmp_path)
    counts = summary(dataset)
    assert (counts["crack"], counts["stain"]) == ((2, 2), (1, 0))
    assert 20 <= counts["good"][0] <= 60
    tested = {item.path for item in dataset.test if not item.is_defective}
    assert tested.isdisjoint(dataset.train)
    assert len(tested) + len(dataset.train) == 200

    (tmp_path / names[0]).unlink()
    write(tmp_path, "good/another.png")
    later = open_dataset(tmp_path)
    assert not tested & set(later.train), "an image stays on its side when others come or go"
    assert not set(dataset.train) & {item.path for item in later.test}


def test_masks_of_one_type_may_lie_together(tmp_path: Path) -> None:
    write(tmp_path, "good/1.png", "bad/0.png", "mask/0.png")
    assert summary(open_dataset(tmp_path))["bad"] == (1, 1)


def test_the_good_folder_may_have_another_name(tmp_path: Path) -> None:
    write(tmp_path, "OK/1.png", "NOK/0.png")
    with pytest.raises(DatasetLayoutError, match="no folder good of good parts"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, "OK")
    assert [item.defect for item in dataset.test if item.is_defective] == ["NOK"]


def test_good_parts_alone_are_all_trained_on(tmp_path: Path) -> None:
    write(tmp_path, *(f"good/{index}.png" for index in range(20)))
    dataset = open_dataset(tmp_path)
    assert (len(dataset.train), dataset.test) == (20, ())


def test_masks_beside_folders_must_pair(tmp_path: Path) -> None:
    write(tmp_path, "good/1.png", "bad/0.png", "bent/0.png", "masks/Bad/0.png")
    with pytest.raises(DatasetLayoutError, match="Bad holds masks of images that are not there"):
        open_dataset(tmp_path)
    (tmp_path / "masks/Bad").rename(tmp_path / "masks/bad")
    write(tmp_path, "masks/bad/1.png")
    with pytest.raises(DatasetLayoutError, match=r"1\.png belongs to no image"):
        open_dataset(tmp_path)


# --- what is common to all ----------------------------------------------------------------------------------------


def test_a_mask_is_turned_as_its_image_is(tmp_path: Path) -> None:
    """A camera held upright writes both lying down, with the same note in the file."""
    stored: npt.NDArray[np.uint8] = np.zeros((16, 32), np.uint8)
    stored[:8, :16] = 255
    lying = with_exif(cv2.imencode(".jpg", stored)[1].tobytes(), 6)
    for name in ("part.jpg", "mask.jpg"):
        (tmp_path / name).write_bytes(lying)
    truth = read_truth(TestImage(path=tmp_path / "part.jpg", defect="a", masks=(tmp_path / "mask.jpg",)), (32, 16))
    bright = read_image(tmp_path / "part.jpg").max(axis=2) > 0
    assert truth is not None
    np.testing.assert_array_equal(truth.defects[0], bright)
    assert bright[0, -1] and not bright[0, 0]


@pytest.mark.parametrize(
    "names",
    [["train/fine/0.png", "test/good/0.png"], ["test/ko/0.png"], ["pictures/a/0.png"], ["a/0.png", "b/0.png"]],
)
def test_an_unknown_tree_is_shown_beside_the_known_ones(tmp_path: Path, names: list[str]) -> None:
    write(tmp_path, *names)
    with pytest.raises((DatasetLayoutError, TooFewImages)) as caught:
        open_dataset(tmp_path)
    message = str(caught.value)
    expected, _, got = message.partition("got:")
    if isinstance(caught.value, DatasetLayoutError):
        for known in ("train/good/NAME.png", "ground_truth/DEFECT/NAME_mask.png", "masks/DEFECT/", "path,label,split"):
            assert known in expected
    for part in Counter(name.split("/")[0] for name in names):
        assert f"{part}/" in got
