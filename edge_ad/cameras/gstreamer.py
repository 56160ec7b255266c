"""Any GStreamer pipeline as a camera, through ctypes on GStreamer's C library. See docs/decisions."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from edge_ad.cameras.driver import Capture
from edge_ad.cameras.native import GErrorPointer, GLibError, Library, glib, taken
from edge_ad.cameras.options import CameraOptions
from edge_ad.cameras.pixels import PIXEL_FORMATS, to_bgr
from edge_ad.errors import CameraError, CameraLost, MissingDependency
from edge_ad.frame import Image

__all__ = ["GStreamerDriver"]

_SINK = "edge_ad_sink"
_END = (
    f" ! videoconvert ! video/x-raw,format=(string){{BGR,BGRx,GRAY8}}"
    f" ! appsink name={_SINK} max-buffers=1 drop=true sync=false"
)
_FORMATS = {"BGR": PIXEL_FORMATS["BGR8"], "BGRx": PIXEL_FORMATS["BGRa8"], "GRAY8": PIXEL_FORMATS["Mono8"]}
_MINI_OBJECT = 64  # bytes of GstMiniObject on 64-bit machines
_NULL, _PLAYING = 1, 4  # GstState
_ERROR, _EOS = 1 << 1, 1 << 0  # GstMessageType
_NO_SUCH_ELEMENT = 1  # GstParseError
_NONE = 0xFFFFFFFFFFFFFFFF  # GST_CLOCK_TIME_NONE, GST_BUFFER_OFFSET_NONE
_FIRST_FRAME_S = 10.0  # a source that shows nothing for so long after its start is not there
_OLDEST_NS = 10 * 10**9  # an age beyond this is no age, but a source with a clock of its own


class _Buffer(ctypes.Structure):
    """The public beginning of GstBuffer, which GStreamer 1.x keeps."""

    _fields_ = (
        ("mini_object", ctypes.c_byte * _MINI_OBJECT),
        ("pool", ctypes.c_void_p),
        ("pts", ctypes.c_uint64),
        ("dts", ctypes.c_uint64),
        ("duration", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("offset_end", ctypes.c_uint64),
    )


class _Message(ctypes.Structure):
    """The public beginning of GstMessage."""

    _fields_ = (("mini_object", ctypes.c_byte * _MINI_OBJECT), ("type", ctypes.c_int))


@cache
def _gst() -> Library:
    call = Library(
        "libgstreamer-1.0.so.0",
        "libgstreamer1.0-0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good",
        {
            "gst_init_check": "int(pointer, pointer, error)",
            "gst_parse_launch": "pointer(text, error)",
            "gst_bin_get_by_name": "pointer(pointer, text)",
            "gst_element_set_state": "int(pointer, int)",
            "gst_element_get_bus": "pointer(pointer)",
            "gst_element_get_clock": "pointer(pointer)",
            "gst_element_get_base_time": "uint64(pointer)",
            "gst_clock_get_time": "uint64(pointer)",
            "gst_bus_timed_pop_filtered": "pointer(pointer, uint64, int)",
            "gst_message_parse_error": "void(pointer, pointer, pointer)",
            "gst_sample_get_buffer": "pointer(pointer)",
            "gst_sample_get_caps": "pointer(pointer)",
            "gst_caps_get_structure": "pointer(pointer, uint)",
            "gst_structure_get_int": "int(pointer, text, int*)",
            "gst_structure_get_string": "text(pointer, text)",
            "gst_buffer_get_size": "size(pointer)",
            "gst_buffer_extract": "size(pointer, size, pointer, size)",
            "gst_mini_object_unref": "void(pointer)",
            "gst_object_unref": "void(pointer)",
        },
    )
    call("gst_init_check", None, None)
    return call


@cache
def _app() -> Library:
    return Library(
        "libgstapp-1.0.so.0",
        "libgstreamer-plugins-base1.0-0",
        {"gst_app_sink_try_pull_sample": "pointer(pointer, uint64)"},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sample:
    image: Image
    offset: int | None
    timestamp_ns: int


class GStreamerDriver:
    """Plays a pipeline and takes the newest image at its end. Gaps are counted where the source numbers its frames.

    Args:
        pipeline: As for gst-launch-1.0, without a sink: the end is added here.
        options: Of the camera; the pipeline itself says all that can be set.
        name: Of the source, for errors.

    Raises:
        CameraError: The pipeline does not parse.
        CameraLost: It does not start.
        MissingDependency: GStreamer or one of its elements is not installed.
    """

    is_live = True
    may_repeat = False
    answers_every_trigger = False
    total = None

    def __init__(self, pipeline: str, options: CameraOptions, *, name: str = "gst:") -> None:
        options.refuse_all_but(name, ())
        self._start(pipeline, name)

    def _start(self, pipeline: str, name: str) -> None:
        self._call, self._name = _gst(), name
        self._pull = _app()
        self._pipeline: int | None = self._parse(pipeline)
        self._sink: int = self._call("gst_bin_get_by_name", self._pipeline, _SINK.encode())
        self._bus: int = self._call("gst_element_get_bus", self._pipeline)
        self._first_offset: int | None = None
        self._count = 0
        try:
            self._call("gst_element_set_state", self._pipeline, _PLAYING)
            first = self._first_sample()
        except CameraLost:
            self.close()
            raise
        self._waiting: _Sample | None = first
        height, width, _ = first.image.shape
        self.description = f"{name}, {width}x{height}"

    def _parse(self, pipeline: str) -> int:
        if "appsink" in pipeline:
            raise CameraError(f"{self._name} ends in a sink.", expected="a pipeline without a sink", got=pipeline)
        try:
            parsed: int = self._call("gst_parse_launch", (pipeline + _END).encode())
        except GLibError as exc:
            if exc.domain == "gst_parse_error" and exc.code == _NO_SUCH_ELEMENT:
                raise MissingDependency(
                    f"GStreamer here lacks an element of {self._name}.",
                    expected="the package that brings it, such as gstreamer1.0-plugins-good or gstreamer1.0-libav",
                    got=exc,
                    fix="apt install gstreamer1.0-plugins-base gstreamer1.0-plugins-good; gst-inspect-1.0 ELEMENT",
                ) from exc
            raise CameraError(
                f"The pipeline of {self._name} is wrong.", expected="what gst-launch-1.0 accepts", got=exc
            ) from exc
        return parsed

    def _first_sample(self) -> _Sample:
        deadline_s = time.monotonic() + _FIRST_FRAME_S
        while time.monotonic() < deadline_s:
            sample = self._sample(100.0)
            if sample is not None:
                return sample
            self._check_bus()
        raise CameraLost(f"{self._name} shows nothing.", expected=f"a frame within {_FIRST_FRAME_S:g} s", got="none")

    def grab(self, timeout_ms: float) -> Capture | None:
        """The newest image, copied out of the pipeline's buffer."""
        waiting, self._waiting = self._waiting, None
        sample = waiting or self._sample(timeout_ms)
        if sample is None:
            self._check_bus()
            return None
        return Capture(image=sample.image, number=self._number(sample.offset), timestamp_ns=sample.timestamp_ns)

    def _number(self, offset: int | None) -> int:
        if offset is None:
            self._count += 1
            return self._count - 1
        if self._first_offset is None:
            self._first_offset = offset
        return offset - self._first_offset

    def _sample(self, timeout_ms: float) -> _Sample | None:
        sample = self._pull("gst_app_sink_try_pull_sample", self._sink, round(timeout_ms * 1e6))
        if sample is None:
            return None
        try:
            address = self._call("gst_sample_get_buffer", sample)
            buffer = _Buffer.from_address(address)
            offset = None if buffer.offset == _NONE else buffer.offset
            return _Sample(image=self._image(sample, address), offset=offset, timestamp_ns=self._time_ns(buffer.pts))
        finally:
            self._call("gst_mini_object_unref", sample)

    def _image(self, sample: int, buffer: int) -> Image:
        structure = self._call("gst_caps_get_structure", self._call("gst_sample_get_caps", sample), 0)
        width, height = ctypes.c_int(), ctypes.c_int()
        self._call("gst_structure_get_int", structure, b"width", ctypes.byref(width))
        self._call("gst_structure_get_int", structure, b"height", ctypes.byref(height))
        kind = _FORMATS[self._call("gst_structure_get_string", structure, b"format").decode()]
        content = np.empty(self._call("gst_buffer_get_size", buffer), np.uint8)
        self._call("gst_buffer_extract", buffer, 0, content.ctypes.data, content.size)
        padding = content.size // height.value - width.value * kind.channels
        return to_bgr(content, kind, height.value, width.value, padding)

    def _time_ns(self, pts: int) -> int:
        now_ns = time.time_ns()
        clock = self._call("gst_element_get_clock", self._pipeline)
        if clock is None or pts == _NONE:
            return now_ns
        running_ns = self._call("gst_clock_get_time", clock) - self._call("gst_element_get_base_time", self._pipeline)
        self._call("gst_object_unref", clock)
        return now_ns - (running_ns - pts) if 0 <= running_ns - pts < _OLDEST_NS else now_ns

    def _check_bus(self) -> None:
        message = self._call("gst_bus_timed_pop_filtered", self._bus, 0, _ERROR | _EOS)
        if message is None:
            return
        got = "its end"
        if _Message.from_address(message).type == _ERROR:
            error, details = GErrorPointer(), ctypes.c_void_p()
            self._call("gst_message_parse_error", message, ctypes.addressof(error), ctypes.addressof(details))
            got = f"{taken(error)} {_last_line(details)}"
        self._call("gst_mini_object_unref", message)
        raise CameraLost(f"{self._name} has stopped.", expected="frames", got=got)

    def trigger(self) -> None:
        """Never called: a pipeline has no trigger."""

    def restart(self) -> None:
        """Never called: a pipeline has no trigger."""

    def close(self) -> None:
        """Stop the pipeline; a second call does nothing."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None:
            return
        self._call("gst_element_set_state", pipeline, _NULL)
        for item in (self._bus, self._sink, pipeline):
            self._call("gst_object_unref", item)


def _last_line(details: ctypes.c_void_p) -> str:
    """Of what GStreamer adds to an error, without the place in its source code; the text is freed."""
    if not details.value:
        return ""
    text = ctypes.string_at(details.value).decode(errors="replace")
    glib()("g_free", details)
    return text.splitlines()[-1].strip()
