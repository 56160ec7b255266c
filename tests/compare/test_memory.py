"""Work is done once, and again when what it was made from changes."""

from __future__ import annotations

import pytest

from edge_ad.compare.memory import fingerprint, remembered
from edge_ad.training.dataset import TestImage


def test_work_is_done_once_for_the_same_and_again_for_another(tmp_path):
    done = []

    def make(value):
        return lambda: done.append(value) or {"value": value, "pair": (1, 2)}

    file = tmp_path / "memory.json"
    first = remembered(file, {"graph": "a"}, make(1))
    assert first == remembered(file, {"graph": "a"}, make(2)) == {"value": 1, "pair": [1, 2]}
    assert remembered(file, {"graph": "b"}, make(3))["value"] == 3
    assert done == [1, 3]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"made_from": 1}'])
def test_a_damaged_memory_is_made_anew(tmp_path, content):
    file = tmp_path / "memory.json"
    file.write_text(content)
    assert remembered(file, 1, lambda: "made") == "made"
    assert remembered(file, 1, lambda: "not again") == "made"


def test_work_that_fails_leaves_no_memory(tmp_path):
    with pytest.raises(ZeroDivisionError):
        remembered(tmp_path / "memory.json", 1, lambda: 1 // 0)
    assert not list(tmp_path.iterdir())


def test_a_fingerprint_is_of_contents_and_labels_not_of_places(tmp_path):
    one, copy, other = (tmp_path / name for name in ("one.png", "copy.png", "other.png"))
    one.write_bytes(b"pixels")
    copy.write_bytes(b"pixels")
    other.write_bytes(b"other pixels")

    def of(path, defect="dent", masks=None):
        return fingerprint({"test": (TestImage(path=path, defect=defect, masks=masks),), "train": ()})

    assert of(one) == of(copy)
    assert len({of(one), of(other), of(one, "scratch"), of(one, masks=(other,)), of(one, masks=())}) == 5
    assert fingerprint(([1], [2])) != fingerprint(([1, 2], []))
