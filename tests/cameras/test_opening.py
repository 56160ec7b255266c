"""From the text that names a camera to the camera: every kind, and every way to ask for what there is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_ad.cameras import (
    KINDS,
    CameraOptions,
    CameraUri,
    FreeRun,
    HardwareTrigger,
    RegionOfInterest,
    SoftwareTrigger,
    open_camera,
    parse_trigger,
)
from edge_ad.errors import CameraError, CameraLost, MissingDependency, OptionRefused, SourceError


@pytest.mark.parametrize(
    ("text", "scheme", "place", "query"),
    [
        ("genicam://4711", "genicam", "4711", {}),
        ("GenICam://4711?fps=5&packet_size=1500", "genicam", "4711", {"fps": "5", "packet_size": "1500"}),
        ("v4l2:///dev/video0?width=640", "v4l2", "/dev/video0", {"width": "640"}),
        ("gst:videotestsrc ! video/x-raw,width=64", "gst", "videotestsrc ! video/x-raw,width=64", {}),
        ("gst://rtspsrc location=rtsp://a/b?c=d", "gst", "rtspsrc location=rtsp://a/b?c=d", {}),
        ("/data/parts?x", "", "/data/parts?x", {}),
        ("file:///data/my%20parts?fps=3", "file", "/data/my parts", {"fps": "3"}),
    ],
)
def test_uris_are_taken_apart(text: str, scheme: str, place: str, query: dict[str, str]) -> None:
    uri = CameraUri.parse(text)
    assert (uri.scheme, uri.place, dict(uri.query)) == (scheme, place, query)


def test_a_password_is_in_no_name() -> None:
    for text, name in (
        ("rtsp://user:pa:ss@10.0.0.9:554/line?x=1", "rtsp://10.0.0.9:554/line?x=1"),
        ("rtsp://10.0.0.9/line", "rtsp://10.0.0.9/line"),
        ("gst:rtspsrc location=rtsp://user:secret@10.0.0.9/x user-pw=secret", "gst:rtspsrc"),
    ):
        assert CameraUri.parse(text).name == name


def test_an_unknown_kind_lists_those_there_are() -> None:
    with pytest.raises(CameraError, match="no kind of camera gige://") as caught:
        open_camera("gige://1")
    for example, _ in KINDS:
        assert example in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("synthetic://64x48?fsp=3", "fsp=3"),
        ("synthetic://64x48?fps=-1", "fps=-1"),
        ("synthetic://64x48?fps=nan", "fps=nan"),
        ("synthetic://64x48?seed=1.5", "seed=1.5"),
        ("synthetic://64", "WIDTHxHEIGHT"),
        ("synthetic://0x48", "WIDTHxHEIGHT"),
        ("csi://front", "NUMBER"),
        ("rtsp://127.0.0.1/x", ""),
        ("v4l2:///dev/video0?exposure=3", "exposure=3"),
        ("genicam://1?gain=3", "gain=3"),
        ("file:///tmp?loop=yes", "loop=yes"),
    ],
)
def test_what_a_uri_cannot_say_is_refused_before_anything_is_opened(uri: str, told: str) -> None:
    if uri.startswith("rtsp"):
        options, told = CameraOptions(exposure_us=1), "exposure_us"
    else:
        options = CameraOptions()
    with pytest.raises(CameraError) as caught:
        open_camera(uri, options)
    assert told in str(caught.value)


SETTINGS = {
    "exposure_us": CameraOptions(exposure_us=100),
    "gain_db": CameraOptions(gain_db=1),
    "pixel_format": CameraOptions(pixel_format="Mono8"),
    "region": CameraOptions(region=RegionOfInterest(x=0, y=0, width=8, height=8)),
    "HardwareTrigger": CameraOptions(trigger=HardwareTrigger(line=1)),
    "SoftwareTrigger": CameraOptions(trigger=SoftwareTrigger()),
}


@pytest.mark.parametrize(
    ("uri", "lacks"),
    [
        ("synthetic://64x48", "exposure_us gain_db pixel_format region HardwareTrigger"),
        (".", "exposure_us gain_db pixel_format region HardwareTrigger"),
        ("rtsp://127.0.0.1:1/x", "exposure_us gain_db pixel_format region HardwareTrigger SoftwareTrigger"),
        ("gst:videotestsrc", "exposure_us gain_db pixel_format region HardwareTrigger SoftwareTrigger"),
        ("v4l2:///dev/video99", "gain_db region HardwareTrigger SoftwareTrigger"),
        ("csi://0", "pixel_format region HardwareTrigger SoftwareTrigger"),
    ],
)
def test_no_option_is_ignored_in_silence(uri: str, lacks: str) -> None:
    for name in lacks.split():
        with pytest.raises(OptionRefused) as caught:
            open_camera(uri, SETTINGS[name])
        assert name in str(caught.value)


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(CameraLost, match="/dev/video99"):
        open_camera("v4l2:///dev/video99", CameraOptions(reconnect=None))
    with open_camera("v4l2:///dev/video99") as camera:
        assert not camera.state.connected
        assert "/dev/video99" in camera.state.reason


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SourceError):
            open_camera(place)


def test_a_library_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_ad.cameras import aravis, gstreamer, native

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(native.ctypes, "CDLL", missing)
    for cached in (aravis._aravis, gstreamer._gst, gstreamer._app):
        cached.cache_clear()
    try:
        for uri, package in (("genicam://1", "libaravis-0.8-0"), ("gst:videotestsrc", "libgstreamer1.0-0")):
            with pytest.raises(MissingDependency) as caught:
                open_camera(uri)
            assert f"apt install {package}" in str(caught.value)
    finally:
        for cached in (aravis._aravis, gstreamer._gst, gstreamer._app):
            cached.cache_clear()


def test_triggers_as_text() -> None:
    assert parse_trigger("free-run") == FreeRun()
    assert parse_trigger("software") == SoftwareTrigger()
    assert parse_trigger("software-overlap") == SoftwareTrigger(overlap=True)
    assert parse_trigger("line3") == HardwareTrigger(line=3)
    assert parse_trigger("line0-falling") == HardwareTrigger(line=0, edge="falling")
    for wrong in ("", "line", "line1-both", "hardware", "line-1"):
        with pytest.raises(OptionRefused, match="no trigger"):
            parse_trigger(wrong)
