"""Bundles that look at a region of interest: of the mask image, through export, to precisions and engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad import Inspector
from edge_ad.bundle import Bundle
from edge_ad.cli import main
from edge_ad.errors import DataError, ExportError
from edge_ad.frame import read_image
from edge_ad.training.export import OF_PLACES, export
from edge_ad.training.region import Box, RegionOfInterest, defect_within, inspected_box
from tests.trained import CAMERA, METHODS, calibrated_bundle, painted_region

LIMITED = tuple(method for method in METHODS if method in OF_PLACES)


@pytest.mark.parametrize("method", LIMITED)
def test_inside_the_map_is_as_before_and_the_score_knows_nothing_else(
    calibrated: Callable[[str], Bundle],
    trained_run: Callable[[str], Path],
    parts_dataset: Path,
    tmp_path: Path,
    method: str,
) -> None:
    whole = calibrated(method)
    limited = export(trained_run(method), tmp_path / "b", region=painted_region(tmp_path / "region.png"))
    of_interest = RegionOfInterest.read(tmp_path / "region.png", CAMERA)
    assert limited.manifest.map == whole.manifest.map
    assert inspected_box(limited.manifest.provenance) == of_interest.box
    assert limited.manifest.provenance["macs"]["exported"] < whole.manifest.provenance["macs"]["exported"]
    inside = of_interest.on_map((whole.manifest.map.height, whole.manifest.map.width))
    frame = read_image(parts_dataset / "test/good/000.png")
    scribbled = frame.copy()
    scribbled[:4], scribbled[:, -4:] = 0, 255
    with Inspector(whole, precision="fp32") as before, Inspector(limited, precision="fp32") as after:
        spread = limited.precision("fp32").score_spread
        wanted, came = before.inspect(frame).anomaly_map, after.inspect(frame)
        assert np.abs(came.anomaly_map - wanted)[inside].max() < 1e-2 * spread
        assert len(np.unique(came.anomaly_map[~inside])) == 1 and came.anomaly_map[0, 0] < came.threshold
        if method in ("efficientad-s", "uninformed-students"):
            assert came.score == pytest.approx(wanted[inside].max(), abs=1e-2 * spread)
        if method == "uninformed-students":  # of 33 pixels of 64; EfficientAD's autoencoder sees the whole frame
            assert after.inspect(scribbled).score == pytest.approx(came.score, abs=1e-2 * spread)


def test_precisions_of_a_region_hold_to_it(
    trained_run: Callable[[str], Path], parts_dataset: Path, tmp_path: Path
) -> None:
    region = painted_region(tmp_path / "region.png")
    bundle = calibrated_bundle(trained_run("efficientad-s"), parts_dataset, tmp_path / "b", region)
    inside = RegionOfInterest.read(tmp_path / "region.png", CAMERA).on_map((128, 128))
    frame = read_image(parts_dataset / "test/good/000.png")
    with Inspector(bundle, precision="int8") as inspector:
        shown = inspector.inspect(frame)
    assert len(np.unique(shown.anomaly_map[~inside])) == 1
    assert len(np.unique(shown.anomaly_map[inside])) > 100


@pytest.mark.parametrize("method", [method for method in METHODS if method not in OF_PLACES])
def test_a_score_of_the_whole_image_is_refused(trained_run: Callable[[str], Path], tmp_path: Path, method: str) -> None:
    with pytest.raises(ExportError, match="cannot be limited to a region") as caught:
        export(trained_run(method), tmp_path / "b", region=painted_region(tmp_path / "region.png"))
    assert "crop the images" in str(caught.value.fix)
    assert not (tmp_path / "b").exists()


def test_from_the_command_line(
    trained_run: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = painted_region(tmp_path / "wrong.png", (96, 96))
    command = ["export", str(trained_run("simplenet")), "-o", str(tmp_path / "b"), "--region"]
    assert main([*command, str(wrong)]) != 0
    assert "96x128 (height x width of the frames)" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    assert main([*command, str(painted_region(tmp_path / "region.png"))]) == 0
    facts = Bundle(tmp_path / "b").manifest.provenance["region_of_interest"]
    assert facts["share"] == pytest.approx(np.pi / 36, rel=0.2)
    assert f"looks at {facts['share']:.0%} of the frame" in capsys.readouterr().out


def test_a_region_that_is_black_all_over_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((20, 30), np.uint8))
    with pytest.raises(DataError, match="black all over"):
        RegionOfInterest.read(tmp_path / "black.png", (20, 30))


def test_on_the_map_by_hand(tmp_path: Path) -> None:
    """8 x 8 pixels on a map of 4 x 4: a pixel of the map is four of the camera's, and two of those are enough."""
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 4:6] = 1
    mask[7, 7] = 9
    cv2.imwrite(str(tmp_path / "it.png"), mask)
    region = RegionOfInterest.read(tmp_path / "it.png", (8, 8))
    assert region.box == Box(2, 4, 8, 8)
    assert np.argwhere(region.on_map((4, 4))).tolist() == [[1, 2], [2, 2]]
    mask[2:5] = 0
    assert np.argwhere(RegionOfInterest(mask != 0).on_map((4, 4))).tolist() == [[3, 3]], "the best there is"
    assert RegionOfInterest(mask != 0).facts() == {
        "share": 1 / 64,
        "box": {"top": 7, "left": 7, "bottom": 8, "right": 8},
    }


def test_synthetic_defects_stay_within_the_box() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)
    box = Box(40, 80, 160, 280)
    outside = np.ones((240, 320), bool)
    outside[40:160, 80:280] = False
    for _ in range(20):
        changed = (defect_within(image, box, rng) != image).any(axis=2)
        assert changed.any() and not changed[outside].any()
    anywhere = [(defect_within(image, None, rng) != image).any(axis=2)[outside].any() for _ in range(20)]
    assert any(anywhere)
    assert inspected_box({}) is None
