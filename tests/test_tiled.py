"""Frames larger than the camera's: seams that do not show, defects that lie on them, memory that does not grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_ad import Bundle, EdgeAdError, Frame, Inspector, TiledInspection, TiledInspector
from edge_ad.backends.onnxruntime import answer_frames, open_session
from edge_ad.errors import FrameError, InspectionFault
from edge_ad.tiles import TileAxis
from tests.golden_bundle import CAMERA, brightness_bundle, bundle_of
from tests.tile_graphs import edges_graph, mean_graph

Image = npt.NDArray[np.uint8]

TILE = (32, 48)
FRAME = (138, 250)  # 5 by 7 tiles, the last of them not a whole step away


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(1, 200, (height, width, 3), dtype=np.uint8)


def blocks_of(image: Image, rows: int) -> Iterator[Image]:
    return (image[top : top + rows] for top in range(0, len(image), rows))


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    bundle = bundle_of(tmp_path_factory.mktemp("edges") / "edges.bundle", {"fp32": edges_graph(*TILE)})
    with Inspector(bundle, backend="onnxruntime", threads=1) as inspector:
        yield inspector


@pytest.fixture
def bright(tmp_path: Path) -> Iterator[Inspector]:
    """Tiles of 16 x 24 pixels; a cell of the map is the mean grey level of 2 x 2 of them."""
    with Inspector(brightness_bundle(tmp_path / "bright.bundle"), backend="onnxruntime", threads=1) as inspector:
        yield inspector


@pytest.mark.parametrize("size", [TILE, (34, 48), (56, 120), FRAME])
def test_the_map_of_the_tiles_is_the_map_of_the_whole(edges: Inspector, size: tuple[int, int]) -> None:
    """The graph for the whole frame, run by ONNX Runtime alone, is the reference; to the last bit."""
    image = noise(*size)
    expected = answer_frames(open_session(edges_graph(*size), "the whole"), image[None])[0][0]
    found = TiledInspector(edges).inspect(image)
    np.testing.assert_array_equal(found.anomaly_map, expected)
    assert found.tiles == len(range(0, size[0] - 8, 24)) * len(range(0, size[1] - 12, 36))


def test_tiles_side_by_side_would_show_their_borders(edges: Inspector) -> None:
    """So the test above sees seams where there are some, and the overlap is what removes them."""
    image = noise(*FRAME)
    expected = answer_frames(open_session(edges_graph(*FRAME), "the whole"), image[None])[0][0]
    found = TiledInspector(edges, overlap=0).inspect(image).anomaly_map
    wrong = np.abs(found - expected) > 0
    assert wrong[TILE[0] // 2].mean() > 0.9, "the first row of the second row of tiles"
    assert wrong.mean() < 0.3, "and nothing but borders"


def test_where_tiles_disagree_the_map_passes_over_gradually(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "mean.bundle", {"fp32": mean_graph(64, 64)})
    ramp = np.linspace(10, 240, 400).astype(np.uint8)
    image = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (80, 400, 3)))
    with Inspector(bundle, backend="onnxruntime", threads=1) as inspector:
        found = {overlap: TiledInspector(inspector, overlap=overlap).inspect(image) for overlap in (0, 0.25, 0.5)}
    steps = {overlap: np.abs(np.diff(one.anomaly_map, axis=1)).max() for overlap, one in found.items()}
    between = 230 / 400 * 64  # grey levels from one tile to the next, if they lie side by side
    assert steps[0] == pytest.approx(between, rel=0.05)
    assert steps[0.25] == pytest.approx(between * 0.75 / 4, rel=0.05), "in 4 cells: half of the 8 that overlap"
    assert steps[0.5] == pytest.approx(between * 0.5 / 8, rel=0.05)
    for one in found.values():
        assert (np.diff(one.anomaly_map, axis=1) >= 0).all()
        np.testing.assert_array_equal(one.anomaly_map[0], one.anomaly_map[-1])


def test_a_defect_is_found_at_its_place_wherever_the_seams_are(bright: Inspector) -> None:
    height, width = 50, 76
    tiled = TiledInspector(bright)
    for top in range(0, height, 2):
        for left in range(top % 4, width, 4):
            image = np.full((height, width, 3), 50, np.uint8)
            image[top : top + 2, left : left + 2] = 255
            found = tiled.inspect(image)
            assert (found.score, found.is_anomalous) == (255.0, True)
            [region] = found.regions
            assert (region.x, region.y, region.width, region.height, region.score) == (left, top, 2, 2, 255.0)
            tile = found.worst_tile
            assert tile.x <= left < tile.x + CAMERA.width
            assert tile.y <= top < tile.y + CAMERA.height
            assert tile.score == 255.0


def test_a_good_frame_is_good_and_a_frame_of_one_tile_is_as_the_inspector_sees_it(bright: Inspector) -> None:
    tiled = TiledInspector(bright)
    good = tiled.inspect(np.full((100, 100, 3), 50, np.uint8))
    assert (good.score, good.is_anomalous, good.regions) == (50.0, False, ())
    one = noise(CAMERA.height, CAMERA.width)
    found, expected = tiled.inspect(one), bright.inspect(one)
    np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
    assert (found.score, found.regions) == (expected.score, expected.regions)
    assert (found.precision, found.backend, found.threshold) == ("fp32", "onnxruntime-cpu", bright.threshold)


@pytest.mark.parametrize("size", [(17, 25), (39, 61), (101, 99)])
def test_sizes_that_are_no_whole_cells_lose_no_pixel(bright: Inspector, size: tuple[int, int]) -> None:
    """The last row and column are seen by a tile that ends with the frame, half a cell from its place at most."""
    image = np.full((*size, 3), 50, np.uint8)
    image[-2:, -2:] = 255
    found = TiledInspector(bright).inspect(image)
    assert found.score == 255.0
    assert found.worst_tile.x + found.worst_tile.width == size[1]
    assert found.worst_tile.y + found.worst_tile.height == size[0]
    [region] = found.regions
    assert abs(region.x + region.width - size[1]) <= 1
    assert abs(region.y + region.height - size[0]) <= 1


@pytest.mark.parametrize("rows", [1, 7, 24, 32, 57, 1000])
def test_blocks_of_rows_are_the_frame_they_make(edges: Inspector, rows: int) -> None:
    image = noise(*FRAME, seed=rows)
    tiled = TiledInspector(edges)
    whole, found = tiled.inspect(image), tiled.inspect(blocks_of(image, rows))
    np.testing.assert_array_equal(found.anomaly_map, whole.anomaly_map)
    assert (found.score, found.worst_tile, found.tiles) == (whole.score, whole.worst_tile, whole.tiles)
    assert found.regions == whole.regions


def test_strips_tell_their_verdict_before_the_rows_below_them_are_there(bright: Inspector) -> None:
    """A web is inspected while it is made: the strip's last row has come, and no row more was asked for."""
    image = np.full((52, 80, 3), 50, np.uint8)
    image[30:32, 40:42] = 255
    asked = []

    def lines() -> Iterator[Image]:
        for row in range(len(image)):
            asked.append(row)
            yield image[row : row + 1]

    strips: list[TiledInspection] = []
    last_rows = []
    for strip in TiledInspector(bright).strips(lines()):
        strips.append(strip)
        last_rows.append(asked[-1])
    assert last_rows == [15, 27, 39, 51]
    assert [strip.is_anomalous for strip in strips] == [False, False, True, False]
    [region] = strips[2].regions
    assert (region.x, region.y, region.width, region.height) == (40, 30, 2, 2), "in the web's pixels"
    assert {strip.anomaly_map.shape for strip in strips} == {(8, 40)}


def test_any_frame_of_an_array_will_do(bright: Inspector, tmp_path: Path) -> None:
    image = noise(50, 90)
    wide = np.zeros((50, 180, 3), np.uint8)
    wide[:, ::2] = image
    np.save(tmp_path / "scan.npy", image)
    tiled = TiledInspector(bright)
    expected = tiled.inspect(image)
    frame = Frame(image=image, sequence=0, timestamp_ns=0, camera="test")
    mapped = np.load(tmp_path / "scan.npy", mmap_mode="r")
    for same in (wide[:, ::2], np.asfortranarray(image), mapped, frame, list(blocks_of(image, 16))):
        np.testing.assert_array_equal(tiled.inspect(same).anomaly_map, expected.anomaly_map)


def test_json_tells_the_worst_tile(bright: Inspector) -> None:
    image = np.full((40, 60, 3), 50, np.uint8)
    image[38:, 58:] = 255
    row = TiledInspector(bright).inspect(image).to_json()
    assert row["worst_tile"] == {"x": 36, "y": 24, "width": 24, "height": 16, "score": 255.0}
    assert (row["tiles"], row["is_anomalous"]) == (9, True)
    assert "anomaly_map" not in row


WRONG_FRAMES: dict[str, tuple[object, str]] = {
    "a row too few": (noise(15, 60), "15x60 pixels"),
    "a column too few": (noise(60, 23), "60x23 pixels"),
    "too few rows in all": ([noise(7, 60), noise(8, 60)], "15x60 pixels"),
    "no rows": ([], "0x0 pixels"),
    "narrow blocks": ([noise(7, 20)], "16x20 pixels"),
    "blocks of unequal width": ([noise(20, 60), noise(20, 61)], "61 pixels"),
    "float": (noise(60, 60).astype(np.float32), "float32 array of shape (60, 60, 3)"),
    "float blocks": ([noise(20, 60).astype(np.float32)], "float32 array of shape (20, 60, 3)"),
    "grey": (noise(60, 60)[:, :, 0], "uint8 array of shape (60, 60)"),
    "a path": ("scan.png", "str"),
    "nothing": (None, "NoneType"),
}


@pytest.mark.parametrize("case", WRONG_FRAMES)
def test_a_frame_that_cannot_be_cut_into_tiles_is_refused(bright: Inspector, case: str) -> None:
    frame, got = WRONG_FRAMES[case]
    with pytest.raises(FrameError) as caught:
        TiledInspector(bright).inspect(frame)  # type: ignore[arg-type]
    assert caught.value.got == got


@pytest.mark.parametrize("overlap", [-0.1, 0.51, float("nan")])
def test_an_overlap_out_of_range_is_refused(bright: Inspector, overlap: float) -> None:
    with pytest.raises(EdgeAdError, match="a share from 0 to"):
        TiledInspector(bright, overlap=overlap)


def test_a_tile_without_a_verdict_leaves_the_frame_without_one(tmp_path: Path) -> None:
    image = np.full((50, 80, 3), 50, np.uint8)
    image[40:42, 70:72] = 0
    with Inspector(brightness_bundle(tmp_path / "fault.bundle", "Log")) as inspector:
        with pytest.raises(InspectionFault):
            TiledInspector(inspector).inspect(image)
        assert not TiledInspector(inspector).inspect(image[:, :60]).is_anomalous


@pytest.mark.parametrize("pixels", [16, 100, 1201, 1920])
@pytest.mark.parametrize("cells", [16, 96, 256, 1201])
@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.5])
def test_tiles_cover_every_pixel_and_every_cell(pixels: int, cells: int, share: float) -> None:
    """Also where the map is finer than the frame, and where their sizes have no common factor."""
    axis = TileAxis(pixels=pixels, cells=cells, overlap=round(share * cells))
    for length in (pixels, pixels + 1, 2 * pixels - 1, 12288):
        places = axis.places(length)
        assert places[0].pixel == places[0].cell == 0
        assert places[-1].pixel + pixels == length
        for place in places:
            assert abs(place.cell - place.pixel * cells / pixels) <= max(0.5, 0.5 * cells / pixels) + 1e-9
        for before, after in pairwise(places):
            assert 0 < after.pixel - before.pixel <= pixels
            assert 0 <= after.cell - before.cell <= cells - axis.overlap


# --- memory ------------------------------------------------------------------------------------------------------

LINE = 12288
SCAN_TILE = (64, 1024)


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    bundle: Bundle = bundle_of(tmp_path_factory.mktemp("scan") / "scan.bundle", {"fp32": edges_graph(*SCAN_TILE)})
    with Inspector(bundle, backend="onnxruntime", threads=1) as inspector:
        yield inspector


def scan(rows: int) -> Iterator[Image]:
    """A line-scan camera of 12,288 pixels that gives 32 lines at a time."""
    block = noise(32, LINE)
    return (block for _ in range(rows // 32))


def peak_mb(inspector: Inspector, rows: int) -> float:
    tracemalloc.start()
    try:
        count = sum(1 for _ in TiledInspector(inspector).strips(scan(rows)))
        assert count >= rows / SCAN_TILE[0]
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_a_web_without_an_end_takes_no_more_memory_than_a_short_one(scanner: Inspector) -> None:
    short, long = peak_mb(scanner, 256), peak_mb(scanner, 2048)
    assert long < short + 1
    assert long < 2048 * LINE * 3 / 1e6 / 4, "of the 75 MB that its pixels are"


def test_a_12k_scan_in_a_file_is_inspected_without_being_in_memory(scanner: Inspector, tmp_path: Path) -> None:
    """Nothing but the map grows with the frame, and the map is held once."""
    rows = 1024
    mapped = np.lib.format.open_memmap(tmp_path / "scan.npy", mode="w+", dtype=np.uint8, shape=(rows, LINE, 3))
    mapped[...] = 100
    mapped[700:720, 11_000:11_020] = 250
    del mapped
    tracemalloc.start()
    try:
        found = TiledInspector(scanner).inspect(np.load(tmp_path / "scan.npy", mmap_mode="r"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.anomaly_map.shape == (rows // 2, LINE // 2)
    strip = SCAN_TILE[0] // 2 * LINE // 2 * 4
    tile = SCAN_TILE[0] * SCAN_TILE[1] * 3
    above = found.anomaly_map.size  # a byte a cell, while regions are looked for
    assert peak < found.anomaly_map.nbytes + above + 3 * strip + 4 * tile
    y, x = np.unravel_index(found.anomaly_map.argmax(), found.anomaly_map.shape)
    assert 698 <= 2 * y <= 721
    assert 10_998 <= 2 * x <= 11_021
    assert found.worst_tile.x <= 2 * x < found.worst_tile.x + SCAN_TILE[1]
