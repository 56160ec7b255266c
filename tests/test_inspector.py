"""The one call: verdicts that can be worked out by hand, and everything that must not get one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_ad import Bundle, Frame, Inspector
from edge_ad.backends import open_backend
from edge_ad.errors import BundleCorrupt, BundleMismatch, FrameError, InspectionFault
from edge_ad.golden import GOLDEN_FILE, Golden, read_golden
from tests.golden_bundle import CAMERA, HALF, brightness_bundle, golden_bundle, noise_images, spoil_manifest, swap_file

Image = npt.NDArray[np.uint8]


def grey(level: int = 50) -> Image:
    """Below every threshold that noise from 1 to 199 gives."""
    return np.full((CAMERA.height, CAMERA.width, 3), level, np.uint8)


def with_bright_spot() -> Image:
    """One 2 x 4 block of white: 1 x 2 cells of the map at rows 3, columns 5 and 6."""
    image = grey()
    image[6:8, 10:14] = 255
    return image


def test_score_map_and_verdict(bright_bundle: Bundle) -> None:
    with Inspector(bright_bundle.path, backend="onnxruntime") as inspector:
        good, bad = inspector.inspect(grey()), inspector.inspect(with_bright_spot())
    assert (good.score, good.is_anomalous, good.regions) == (50.0, False, ())
    assert (bad.score, bad.is_anomalous) == (255.0, True)
    expected = np.full((HALF.height, HALF.width), 50, np.float32)
    expected[3, 5:7] = 255
    np.testing.assert_array_equal(bad.anomaly_map, expected)
    [region] = bad.regions
    assert (region.x, region.y, region.width, region.height, region.score) == (10, 6, 4, 2, 255.0)
    assert (bad.precision, bad.backend) == ("fp32", "onnxruntime-cpu")
    assert bad.threshold == bright_bundle.precision("fp32").threshold
    assert bad.latency_ms > 0


def test_a_score_at_the_threshold_is_good(bright_bundle: Bundle) -> None:
    spoil_manifest(bright_bundle.path, lambda tree: tree["precisions"]["fp32"].update(threshold=50.0))
    with Inspector(bright_bundle.path) as inspector:
        assert not inspector.inspect(grey(50)).is_anomalous
        assert inspector.inspect(grey(51)).is_anomalous


def test_a_frame_is_as_good_as_its_image(bright_bundle: Bundle) -> None:
    frame = Frame(image=with_bright_spot(), sequence=3, timestamp_ns=0, camera="test")
    with Inspector(bright_bundle) as inspector:
        assert inspector.inspect(frame).score == inspector.inspect(frame.image).score == 255.0


def test_any_memory_layout_gives_the_same(tiny_bundle: Bundle) -> None:
    size = tiny_bundle.manifest.input
    image = noise_images(size, 1, seed=5)[0]
    wide = np.zeros((size.height, size.width * 2, 3), np.uint8)
    wide[:, ::2] = image
    layouts = {
        "a window": wide[:, ::2],
        "columns first": np.asfortranarray(image),
        "flipped and back": np.ascontiguousarray(image[::-1, :, ::-1])[::-1, :, ::-1],
        "read only": np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape),
    }
    with Inspector(tiny_bundle) as inspector:
        expected = inspector.inspect(image)
        for layout, same in layouts.items():
            np.testing.assert_array_equal(same, image)
            assert inspector.inspect(same).score == expected.score, layout
            for pair in inspector.inspect_batch([same, same]):
                assert pair.score == pytest.approx(expected.score, rel=1e-6), layout


def test_a_batch_is_its_frames(tiny_bundle: Bundle) -> None:
    images = noise_images(tiny_bundle.manifest.input, 5, seed=7)
    with Inspector(tiny_bundle) as inspector:
        singles = [inspector.inspect(image) for image in images]
        for batch in (list(images), images):  # a list of frames, or one (N, H, W, 3) array
            together = inspector.inspect_batch(batch)
            assert [one.score for one in together] == pytest.approx([one.score for one in singles], rel=1e-6)
            for one, single in zip(together, singles, strict=True):
                np.testing.assert_allclose(one.anomaly_map, single.anomaly_map, rtol=1e-5, atol=1e-5)
        assert len({one.score for one in singles}) == 5, "so order shows"
        assert inspector.inspect_batch([]) == []
        assert inspector.inspect_batch(images[:0]) == []


def test_an_inspection_keeps_its_map_while_others_follow(bright_bundle: Bundle) -> None:
    with Inspector(bright_bundle) as inspector:
        first = inspector.inspect(grey(10))
        inspector.inspect(grey(20))
    assert first.anomaly_map.max() == 10


WRONG_FRAMES: dict[str, tuple[object, str]] = {
    "a path": ("part.png", "str"),
    "nothing": (None, "NoneType"),
    "a list": ([[[1, 2, 3]]], "list"),
    "grey": (grey()[:, :, 0], "uint8 array of shape (16, 24)"),
    "one channel": (grey()[:, :, :1], "uint8 array of shape (16, 24, 1)"),
    "with transparency": (np.zeros((16, 24, 4), np.uint8), "uint8 array of shape (16, 24, 4)"),
    "channels first": (np.zeros((3, 16, 24), np.uint8), "uint8 array of shape (3, 16, 24)"),
    "a batch of one": (grey()[None], "uint8 array of shape (1, 16, 24, 3)"),
    "on its side": (np.zeros((24, 16, 3), np.uint8), "uint8 array of shape (24, 16, 3)"),
    "a row too few": (grey()[1:], "uint8 array of shape (15, 24, 3)"),
    "empty": (grey()[:0], "uint8 array of shape (0, 24, 3)"),
    "float": (grey().astype(np.float32), "float32 array of shape (16, 24, 3)"),
    "16 bits": (grey().astype(np.uint16), "uint16 array of shape (16, 24, 3)"),
    "signed": (grey().astype(np.int8), "int8 array of shape (16, 24, 3)"),
}


@pytest.mark.parametrize("case", WRONG_FRAMES)
def test_a_frame_outside_the_contract_is_refused(bright_bundle: Bundle, case: str) -> None:
    frame, got = WRONG_FRAMES[case]
    with Inspector(bright_bundle) as inspector:
        for attempt in (frame, Frame(image=frame, sequence=0, timestamp_ns=0, camera="test")):  # type: ignore[arg-type]
            with pytest.raises(FrameError) as caught:
                inspector.inspect(attempt)  # type: ignore[arg-type]
            assert caught.value.got == got
            assert "(16, 24, 3)" in str(caught.value.expected)
        with pytest.raises(FrameError):
            inspector.inspect_batch([grey(), frame])  # type: ignore[list-item]
        assert inspector.inspect(grey()).score == 50.0, "and the next frame is inspected as ever"


def test_the_fix_for_a_wrong_frame_is_told(bright_bundle: Bundle) -> None:
    with Inspector(bright_bundle) as inspector:
        for frame, fix in (
            (grey()[:, :, 0], "cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)"),
            (grey().astype(np.float32), "convert the frame to 8 bits per channel, 0 to 255"),
            (grey()[1:], "set the camera to 16x24, or export again with --camera 15x24"),
        ):
            with pytest.raises(FrameError) as caught:
                inspector.inspect(frame)
            assert caught.value.fix == fix


@pytest.mark.parametrize("operator", ["Log", "Sqrt"])
def test_nan_or_inf_anywhere_is_a_fault(tmp_path: Path, operator: str) -> None:
    """One black pixel block makes -Inf ("Log") or NaN ("Sqrt") in one map cell; the score may even look sound."""
    bundle = brightness_bundle(tmp_path / "fault.bundle", operator)
    image = grey()
    image[4:6, 8:10] = 0
    with Inspector(bundle) as inspector:
        assert inspector.inspect(grey()).score > 0
        for frames in ([image], [grey(), image]):
            with pytest.raises(InspectionFault, match="no verdict"):
                inspector.inspect_batch(frames)
        assert inspector.inspect(grey()).score > 0, "and the next frame is inspected as ever"


@pytest.mark.parametrize(
    ("score", "maps"), [((2,), (1, 8, 12)), ((1,), (1, 12, 8)), ((1,), (2, 8, 12)), ((1, 1), (1, 8, 12))]
)
def test_an_answer_of_the_wrong_shape_is_a_fault(
    bright_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, score: tuple[int, ...], maps: tuple[int, ...]
) -> None:
    with Inspector(bright_bundle) as inspector:
        monkeypatch.setattr(
            inspector._backend, "run", lambda _: (np.zeros(maps, np.float32), np.zeros(score, np.float32))
        )
        with pytest.raises(InspectionFault, match="wrong shape"):
            inspector.inspect(grey())


def test_a_bundle_that_is_not_reproduced_refuses_to_serve(tiny_bundle: Bundle) -> None:
    golden = read_golden(tiny_bundle)
    maps, scores = (array.copy() for array in golden.answers["fp32"])
    scores[1] += 10 * tiny_bundle.precision("fp32").score_spread
    swap_file(tiny_bundle.path, GOLDEN_FILE, Golden(image=golden.image, answers={"fp32": (maps, scores)}).to_bytes())
    with pytest.raises(BundleMismatch, match="not reproduced by onnxruntime-cpu in fp32: score of golden frame 1"):
        Inspector(tiny_bundle.path)


def test_a_map_that_is_not_reproduced_is_told_with_its_place(tiny_bundle: Bundle) -> None:
    golden = read_golden(tiny_bundle)
    maps, scores = (array.copy() for array in golden.answers["fp32"])
    maps[0, 3, 5] += 1.0
    swap_file(tiny_bundle.path, GOLDEN_FILE, Golden(image=golden.image, answers={"fp32": (maps, scores)}).to_bytes())
    with pytest.raises(BundleMismatch, match=r"anomaly_map of golden frame 0 .* at \(3, 5\)"):
        Inspector(tiny_bundle.path)


def test_a_graph_onnxruntime_refuses_is_ours_to_tell(tiny_bundle: Bundle) -> None:
    swap_file(tiny_bundle.path, "model.onnx", b"not a graph")
    with pytest.raises(BundleCorrupt, match=r"ONNX Runtime .* refuses .*model\.onnx"):
        Inspector(tiny_bundle.path)


def test_a_truncated_graph_never_reaches_the_runtime(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / "model.onnx").write_bytes(tiny_bundle.read("model.onnx")[:-10])
    with pytest.raises(BundleCorrupt, match="not the file the manifest describes"):
        Inspector(tiny_bundle.path)


def test_a_graph_for_another_camera_is_refused(bright_bundle: Bundle, tiny_bundle: Bundle) -> None:
    swap_file(bright_bundle.path, "model.onnx", tiny_bundle.read("model.onnx"))
    with pytest.raises(InspectionFault, match=r"(ONNX Runtime|OpenVINO) failed to run"):
        Inspector(bright_bundle.path)


def test_auto_takes_int8_then_fp32_then_fp16(tmp_path: Path) -> None:
    for precisions, chosen in ((("fp32", "int8"), "int8"), (("fp16", "fp32"), "fp32"), (("fp16",), "fp16")):
        bundle = golden_bundle(tmp_path / "-".join(precisions), *precisions)
        image = noise_images(bundle.manifest.input, 1)[0]
        with Inspector(bundle) as inspector:
            inspection = inspector.inspect(image)
        assert inspection.precision == inspector.precision == chosen
        assert inspection.threshold == bundle.precision(chosen).threshold


def test_what_was_asked_for_is_not_silently_replaced(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleMismatch, match="has no int8 graph"):
        Inspector(tiny_bundle, precision="int8")
    with pytest.raises(BundleMismatch, match="no backend 'abacus'") as caught:
        Inspector(tiny_bundle, backend="abacus")
    assert caught.value.expected == "tensorrt or openvino or onnxruntime or auto"


def test_closing(bright_bundle: Bundle) -> None:
    inspector = Inspector(bright_bundle)
    inspector.close()
    inspector.close()
    with pytest.raises(InspectionFault, match="closed"):
        inspector.inspect(grey())


def test_a_refused_bundle_releases_its_backend(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Wrong:
        name = "wrong"

        def run(self, images: Image) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
            maps, scores = working.run(images)
            return maps + 1, scores

        def close(self) -> None:
            closed.append(True)

    working = open_backend(tiny_bundle, "fp32", "onnxruntime")
    monkeypatch.setattr("edge_ad.backends.open_backend", lambda *_, **__: Wrong())
    with pytest.raises(BundleMismatch):
        Inspector(tiny_bundle, backend="onnxruntime")
    assert closed == [True]
