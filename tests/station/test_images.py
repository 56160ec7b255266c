"""Images: what is kept and where, what gives way, and that nothing stops for want of room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_ad.frame import Image, read_image
from edge_ad.inspection import Inspection
from edge_ad.station.images import MOST_WAITING, ImageStore, image_path
from edge_ad.station.verdict import ANOMALOUS, FAULT, GOOD, Verdict, VerdictName
from tests.station.made import SECOND_NS, mounted, until, verdict_of

NOISE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)  # PNG cannot make it smaller
INSPECTION = Inspection(
    score=1.0,
    threshold=0.5,
    anomaly_map=np.zeros((8, 8), np.float32),
    regions=(),
    latency_ms=1.0,
    precision="fp32",
    backend="onnxruntime-cpu",
)

Make = Callable[..., ImageStore]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Make]:
    made: list[ImageStore] = []

    def make(folder: Path = tmp_path, **changes: Any) -> ImageStore:
        limits = {"most_bytes": 1 << 30, "keep_free_bytes": 0, "accept_every": 1, **changes}
        made.append(ImageStore(folder, "abc", **limits))
        return made[-1]

    yield make
    for one in made:
        assert one.stop(10)


def recorded(number: int, name: VerdictName, **changes: Any) -> Verdict:
    return verdict_of(number, name, id=number, **changes)


def offer(images: ImageStore, *verdicts: Verdict, image: Image = NOISE, inspection: Inspection | None = None) -> None:
    """One after the other, each written before the next."""
    for verdict in verdicts:
        done = images.kept + images.dropped
        images.offer(verdict, image, inspection)
        until(lambda done=done: images.kept + images.dropped > done)  # type: ignore[misc]


def kept(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder / "images")) for path in (folder / "images").rglob("*.*"))


def test_the_frame_is_kept_without_loss_and_its_heat_beside_it(store: Make, tmp_path: Path) -> None:
    images = store()
    images.start()
    reject = recorded(1, ANOMALOUS)
    offer(images, reject, inspection=INSPECTION)
    assert np.array_equal(read_image(image_path(tmp_path, "abc", reject)), NOISE)
    heat = cv2.imread(str(image_path(tmp_path, "abc", reject, ".jpg")))
    assert heat is not None and heat.shape[1] == 480
    assert kept(tmp_path) == ["rejects/2026-09-21/abc-1.jpg", "rejects/2026-09-21/abc-1.png"]


def test_rejects_faults_and_every_nth_accept_of_each_camera_are_kept(store: Make, tmp_path: Path) -> None:
    images = store(accept_every=3)
    images.start()
    for number in range(1, 9):
        images.offer(recorded(number, GOOD, camera=("top", "side")[number % 2]), NOISE, None)
    images.offer(recorded(9, FAULT), NOISE, None)
    until(lambda: images.kept == 5)
    names = {Path(name).stem for name in kept(tmp_path)}
    assert names == {"abc-1", "abc-7", "abc-2", "abc-8", "abc-9"}


def test_no_accept_is_kept_where_none_is_wanted(store: Make, tmp_path: Path) -> None:
    images = store(accept_every=0)
    images.start()
    images.offer(recorded(1, GOOD), NOISE, None)
    offer(images, recorded(2, ANOMALOUS))
    assert [Path(name).stem for name in kept(tmp_path)] == ["abc-2"]


SIZE = len(cv2.imencode(".png", NOISE, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


def test_oldest_accepts_give_way_first_then_oldest_rejects_and_no_accept_displaces_a_reject(
    store: Make, tmp_path: Path
) -> None:
    images = store(most_bytes=4 * SIZE)
    images.start()
    offer(images, recorded(1, ANOMALOUS), recorded(2, GOOD), recorded(3, GOOD), recorded(4, ANOMALOUS))
    offer(images, recorded(5, ANOMALOUS))
    assert {Path(name).stem for name in kept(tmp_path)} == {"abc-1", "abc-3", "abc-4", "abc-5"}
    offer(images, recorded(6, ANOMALOUS), recorded(7, ANOMALOUS))
    assert {Path(name).stem for name in kept(tmp_path)} == {"abc-4", "abc-5", "abc-6", "abc-7"}
    assert images.dropped == 0
    offer(images, recorded(8, GOOD))
    assert images.dropped == 1 and "quota" in images.failure
    assert {Path(name).stem for name in kept(tmp_path)} == {"abc-4", "abc-5", "abc-6", "abc-7"}
    assert images.used_bytes == 4 * SIZE


def test_the_quota_counts_what_earlier_runs_left(store: Make, tmp_path: Path) -> None:
    first = store()
    first.start()
    day = 24 * 3600 * SECOND_NS
    for number in range(1, 5):
        offer(first, recorded(number, ANOMALOUS, time_ns=verdict_of(0).time_ns + number * day))
        os.utime(tmp_path / "images" / kept(tmp_path)[-1], ns=(number, number))
    second = store(most_bytes=4 * SIZE)
    second.start()
    offer(second, recorded(5, ANOMALOUS))
    assert {Path(name).stem for name in kept(tmp_path)} == {"abc-2", "abc-3", "abc-4", "abc-5"}
    assert second.used_bytes == 4 * SIZE
    days = [folder.name for folder in (tmp_path / "images" / "rejects").iterdir()]
    assert len(days) == 4  # the day that became empty is gone


def test_room_is_left_on_the_disk_for_verdicts(store: Make, tmp_path: Path) -> None:
    images = store(keep_free_bytes=1 << 60)
    images.start()
    offer(images, recorded(1, ANOMALOUS))
    assert images.dropped == 1 and images.kept == 0 and kept(tmp_path) == []


def test_room_is_made_for_the_record_by_giving_up_the_oldest(store: Make, tmp_path: Path) -> None:
    images = store()
    images.start()
    offer(images, *(recorded(number, ANOMALOUS) for number in range(1, 4)))
    images.make_room()
    assert kept(tmp_path) == [] and images.used_bytes == 0


def test_images_that_come_too_fast_are_dropped_and_counted_and_nobody_waits(store: Make) -> None:
    images = store()  # not started, so nothing is taken
    for number in range(MOST_WAITING + 3):
        images.offer(recorded(number, ANOMALOUS), NOISE, None)
    assert images.dropped == 3
    images.start()
    until(lambda: images.kept == MOST_WAITING)


def test_a_place_that_cannot_be_written_costs_images_only(store: Make, tmp_path: Path) -> None:
    images = store()
    images.start()
    (tmp_path / "images").write_text("in the way")
    offer(images, recorded(1, ANOMALOUS))
    assert images.dropped == 1 and images.failure
    (tmp_path / "images").unlink()
    offer(images, recorded(2, ANOMALOUS))
    assert images.kept == 1 and images.failure == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", kilobytes=256) as place:
        yield place


def test_a_full_disk_costs_images_and_leaves_no_halves(store: Make, small_disk: Path) -> None:
    random = np.random.default_rng(1)
    large, larger = (random.integers(0, 255, (rows, 100, 3), dtype=np.uint8) for rows in (100, 400))  # 30 KB, 120 KB
    images = store(small_disk)
    images.start()
    (small_disk / "other").write_bytes(b"x" * 180_000)
    offer(images, *(recorded(number, GOOD) for number in range(1, 6)), image=large)
    offer(images, recorded(9, ANOMALOUS), image=large)
    assert images.dropped == 0 and len(kept(small_disk)) == 2  # the oldest accepts gave way
    assert kept(small_disk)[-1] == "rejects/2026-09-21/abc-9.png"
    with open(small_disk / "other", "ab", buffering=0) as other:  # now somebody else takes all that is left
        while shutil.disk_usage(small_disk).free:
            other.write(b"x" * 4096)
    offer(images, recorded(10, ANOMALOUS), image=larger)
    assert images.dropped == 1 and images.failure
    assert all(name.endswith(".png") for name in kept(small_disk))
