"""csv lists: what they may say, and which line is wrong where they say something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_ad.errors import DatasetLayoutError
from edge_ad.training.dataset import open_dataset
from tests.training.test_layouts import summary, write


def listed(tmp_path: Path, *rows: str, heading: str = "path,label,split,mask", encoding: str = "utf-8") -> Path:
    write(tmp_path, *(f"a/{index}.png" for index in range(6)), "m/3.png", "m/5.png", "m/5b.png")
    file = tmp_path / "parts.csv"
    file.write_text("\n".join([heading, *rows]) + "\n", encoding=encoding)
    return file


ROWS = (
    "a/0.png,good,train,",
    "a/1.png,good,validation,",
    "a/3.png,scratch,test,m/3.png",
    "a/2.png,good,Test,",
    "a/4.png,dent,test",
    "a/5.png,scratch,train,m/5.png|m/5b.png",
)


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # spreadsheets begin a file with a byte order mark
def test_a_csv_list(tmp_path: Path, separator: str, encoding: str) -> None:
    rows = [row.replace(",", separator) for row in ROWS]
    dataset = open_dataset(
        listed(tmp_path, *rows, heading=separator.join(["path", "label", "split", "mask"]), encoding=encoding)
    )
    assert [path.name for path in (*dataset.train, *dataset.validation)] == ["0.png", "1.png"]
    assert [(item.defect, item.path.name) for item in dataset.test] == [
        ("good", "2.png"),
        ("dent", "4.png"),
        ("scratch", "3.png"),
    ]
    assert summary(dataset) == {"good": (1, 0), "dent": (1, 0), "scratch": (1, 1)}
    [learnt] = dataset.defects
    assert learnt.masks == (tmp_path / "m/5.png", tmp_path / "m/5b.png")
    assert dataset.name == "parts"


def test_a_csv_list_with_other_columns_and_labels(tmp_path: Path) -> None:
    file = listed(
        tmp_path,
        f"7,train,{tmp_path / 'a/0.png'},OK",
        "8,test,a/1.png,OK",
        "9,test,a/2.png,NOK",
        "9,train,a/3.png,NOK",
        heading="line,split,path,label",
    )
    dataset = open_dataset(file, "OK")
    assert dataset.train == (tmp_path / "a/0.png",)
    assert summary(dataset) == {"good": (1, 0), "NOK": (1, 0)}
    assert dataset.defects == ()
    with pytest.raises(DatasetLayoutError, match="no image to train on") as caught:
        open_dataset(file)
    assert caught.value.got == "rows to train on with label NOK, OK"
    assert "--normal-class" in str(caught.value)


WRONG_ROWS = {
    "a missing image": ("a/9.png,good,train,", r"a/9\.png, which is not there"),
    "a missing mask": ("a/1.png,dent,test,m/9.png", r"m/9\.png, which is not there"),
    "a mask of a good part": ("a/1.png,good,test,m/3.png", r"a mask of a/1\.png"),
    "an unknown split": ("a/1.png,good,training,", "split 'training'"),
    "no label": ("a/1.png,,train,", "no label"),
    "no path": (",good,train,", "no path"),
    "the same image twice": ("a/0.png,good,test,", "which line 2 names too"),
    "a defect to validate with": ("a/1.png,dent,validation,", "split validation for dent"),
}


@pytest.mark.parametrize("case", WRONG_ROWS)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, case: str) -> None:
    row, complaint = WRONG_ROWS[case]
    with pytest.raises(DatasetLayoutError, match=complaint) as caught:
        open_dataset(listed(tmp_path, "a/0.png,good,train,", row))
    assert caught.value.what.startswith("Line 3 of")


def test_wrong_lists_are_told(tmp_path: Path) -> None:
    for heading, complaint in (
        ("path,label", "lacks the column split"),
        ("a b", "lacks the column label, path, split"),
    ):
        with pytest.raises(DatasetLayoutError, match=complaint):
            open_dataset(listed(tmp_path, heading=heading))
    with pytest.raises(DatasetLayoutError, match="no image to train on"):
        open_dataset(listed(tmp_path))
    (tmp_path / "parts.csv").write_bytes(b"path,label,split\nM\xfcller.png,good,train\n")
    with pytest.raises(DatasetLayoutError, match="cannot be read"):
        open_dataset(tmp_path / "parts.csv")
