"""The part of Aravis 0.8 that is used, through ctypes (https://aravisproject.github.io/aravis/). See docs/decisions."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from edge_ad.cameras.native import Library, glib

__all__ = ["ArrivedBuffer", "Device", "Found", "find_devices"]

_SUCCESS = 0  # ARV_BUFFER_STATUS_SUCCESS
_RANGES_CHECKED = 1  # ARV_RANGE_CHECK_POLICY_ENABLE
_AUTO_OFF = 0  # ARV_AUTO_OFF
_AUTO_SOCKET_BUFFER = 1  # ARV_GV_STREAM_SOCKET_BUFFER_AUTO: as large as an image
_DISCOVERY = threading.Lock()  # the list of devices is the library's, for the whole process


@cache
def _aravis() -> Library:
    return Library(
        "libaravis-0.8.so.0",
        "libaravis-0.8-0",
        {
            "arv_update_device_list": "void()",
            "arv_get_n_devices": "uint()",
            "arv_get_device_id": "text(uint)",
            "arv_get_device_address": "text(uint)",
            "arv_get_device_vendor": "text(uint)",
            "arv_get_device_model": "text(uint)",
            "arv_get_device_serial_nbr": "text(uint)",
            "arv_get_device_protocol": "text(uint)",
            "arv_camera_new": "pointer(text, error)",
            "arv_camera_get_device": "pointer(pointer)",
            "arv_camera_is_gv_device": "int(pointer)",
            "arv_camera_is_uv_device": "int(pointer)",
            "arv_camera_get_vendor_name": "text(pointer, error)",
            "arv_camera_get_model_name": "text(pointer, error)",
            "arv_camera_get_device_serial_number": "text(pointer, error)",
            "arv_camera_get_sensor_size": "void(pointer, int*, int*, error)",
            "arv_camera_is_exposure_time_available": "int(pointer, error)",
            "arv_camera_is_exposure_auto_available": "int(pointer, error)",
            "arv_camera_set_exposure_time_auto": "void(pointer, int, error)",
            "arv_camera_get_exposure_time_bounds": "void(pointer, double*, double*, error)",
            "arv_camera_set_exposure_time": "void(pointer, double, error)",
            "arv_camera_is_gain_auto_available": "int(pointer, error)",
            "arv_camera_set_gain_auto": "void(pointer, int, error)",
            "arv_camera_get_gain_bounds": "void(pointer, double*, double*, error)",
            "arv_camera_set_gain": "void(pointer, double, error)",
            "arv_camera_is_frame_rate_available": "int(pointer, error)",
            "arv_camera_set_frame_rate": "void(pointer, double, error)",
            "arv_camera_set_region": "void(pointer, int, int, int, int, error)",
            "arv_camera_get_region": "void(pointer, int*, int*, int*, int*, error)",
            "arv_camera_set_pixel_format_from_string": "void(pointer, text, error)",
            "arv_camera_get_pixel_format": "uint(pointer, error)",
            "arv_camera_get_pixel_format_as_string": "text(pointer, error)",
            "arv_camera_clear_triggers": "void(pointer, error)",
            "arv_camera_set_trigger": "void(pointer, text, error)",
            "arv_camera_software_trigger": "void(pointer, error)",
            "arv_camera_gv_set_packet_size": "void(pointer, int, error)",
            "arv_camera_gv_set_packet_delay": "void(pointer, int64, error)",
            "arv_camera_get_payload": "uint(pointer, error)",
            "arv_camera_create_stream": "pointer(pointer, pointer, pointer, error)",
            "arv_camera_start_acquisition": "void(pointer, error)",
            "arv_camera_stop_acquisition": "void(pointer, error)",
            "arv_device_is_feature_available": "int(pointer, text, error)",
            "arv_device_set_range_check_policy": "void(pointer, int)",
            "arv_device_set_string_feature_value": "void(pointer, text, text, error)",
            "arv_device_dup_available_enumeration_feature_values_as_strings": "texts(pointer, text, uint*, error)",
            "arv_gv_device_is_controller": "int(pointer)",
            "arv_stream_push_buffer": "void(pointer, pointer)",
            "arv_stream_timeout_pop_buffer": "pointer(pointer, uint64)",
            "arv_buffer_new_allocate": "pointer(size)",
            "arv_buffer_get_status": "int(pointer)",
            "arv_buffer_get_frame_id": "uint64(pointer)",
            "arv_buffer_get_system_timestamp": "uint64(pointer)",
            "arv_buffer_get_image_data": "pointer(pointer, size*)",
            "arv_buffer_get_image_pixel_format": "uint(pointer)",
            "arv_buffer_get_image_width": "int(pointer)",
            "arv_buffer_get_image_height": "int(pointer)",
        },
    )


@dataclass(frozen=True, kw_only=True)
class Found:
    """A camera that answers on the network or on USB."""

    device_id: str
    vendor: str
    model: str
    serial: str
    address: str
    protocol: str

    def is_called(self, text: str) -> bool:
        """Whether `text` names it: serial number, model, address, Aravis's id, or * for any."""
        return text in ("*", self.device_id, self.serial, self.model, self.address, f"{self.vendor}-{self.serial}")


def find_devices() -> list[Found]:
    """Ask every interface who is there; takes about a second.

    Raises:
        MissingDependency: Aravis is not installed.
    """
    call = _aravis()
    with _DISCOVERY:
        call("arv_update_device_list")
        return [
            Found(
                device_id=_text(call("arv_get_device_id", index)),
                vendor=_text(call("arv_get_device_vendor", index)),
                model=_text(call("arv_get_device_model", index)),
                serial=_text(call("arv_get_device_serial_nbr", index)),
                address=_text(call("arv_get_device_address", index)),
                protocol=_text(call("arv_get_device_protocol", index)),
            )
            for index in range(call("arv_get_n_devices"))
        ]


def _text(content: bytes | None) -> str:
    return (content or b"").decode(errors="replace")


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrivedBuffer:
    """What the driver received. `pixels` is the driver's memory: valid until the buffer is given back."""

    is_complete: bool
    frame_id: int
    timestamp_ns: int
    pixels: npt.NDArray[np.uint8]
    pixel_format: int
    height: int
    width: int


class Device:
    """One camera under our control, and its stream. Every method raises GLibError if the camera does not answer.

    Args:
        device_id: Found.device_id, or the IP address of a GigE Vision camera.
    """

    def __init__(self, device_id: str) -> None:
        self._call = _aravis()
        self._stream: int | None = None
        self._camera: int | None = self._call("arv_camera_new", device_id.encode())
        self._device: int = self._call("arv_camera_get_device", self._camera)
        self._call("arv_device_set_range_check_policy", self._device, _RANGES_CHECKED)
        self.is_gige = bool(self._call("arv_camera_is_gv_device", self._camera))

    # --- settings ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Vendor, model and serial number."""
        told = ("vendor_name", "model_name", "device_serial_number")
        return " ".join(_text(self._call(f"arv_camera_get_{what}", self._camera)) for what in told)

    def has(self, feature: str) -> bool:
        """Whether the camera has a GenICam feature."""
        return bool(self._call("arv_device_is_feature_available", self._device, feature.encode()))

    def choices(self, feature: str) -> list[str]:
        """The values that an enumeration feature can take now."""
        if not self.has(feature):
            return []
        count = ctypes.c_uint()
        name = "arv_device_dup_available_enumeration_feature_values_as_strings"
        values = self._call(name, self._device, feature.encode(), ctypes.byref(count))
        texts = [_text(values[index]) for index in range(count.value)]
        glib()("g_free", values)
        return texts

    def set_choice(self, feature: str, value: str) -> None:
        """Set an enumeration feature."""
        self._call("arv_device_set_string_feature_value", self._device, feature.encode(), value.encode())

    def has_exposure(self) -> bool:
        """Whether the exposure time can be set."""
        return bool(self._call("arv_camera_is_exposure_time_available", self._camera))

    def exposure_bounds_us(self) -> tuple[float, float]:
        """Shortest and longest exposure."""
        return self._bounds("arv_camera_get_exposure_time_bounds")

    def set_exposure_us(self, exposure_us: float) -> None:
        """Set the exposure time and switch automatic exposure off."""
        if self._call("arv_camera_is_exposure_auto_available", self._camera):
            self._call("arv_camera_set_exposure_time_auto", self._camera, _AUTO_OFF)
        self._call("arv_camera_set_exposure_time", self._camera, exposure_us)

    def gain_bounds_db(self) -> tuple[float, float]:
        """Smallest and largest gain."""
        return self._bounds("arv_camera_get_gain_bounds")

    def set_gain_db(self, gain_db: float) -> None:
        """Set the gain and switch automatic gain off."""
        if self._call("arv_camera_is_gain_auto_available", self._camera):
            self._call("arv_camera_set_gain_auto", self._camera, _AUTO_OFF)
        self._call("arv_camera_set_gain", self._camera, gain_db)

    def _bounds(self, function: str) -> tuple[float, float]:
        low, high = ctypes.c_double(), ctypes.c_double()
        self._call(function, self._camera, ctypes.byref(low), ctypes.byref(high))
        return low.value, high.value

    def has_frame_rate(self) -> bool:
        """Whether the frame rate can be set."""
        return bool(self._call("arv_camera_is_frame_rate_available", self._camera))

    def set_frame_rate(self, fps: float) -> None:
        """Set the frame rate of free run."""
        self._call("arv_camera_set_frame_rate", self._camera, fps)

    @property
    def sensor_size(self) -> tuple[int, int]:
        """Width and height of the sensor, pixels."""
        width, height = ctypes.c_int(), ctypes.c_int()
        self._call("arv_camera_get_sensor_size", self._camera, ctypes.byref(width), ctypes.byref(height))
        return width.value, height.value

    @property
    def region(self) -> tuple[int, int, int, int]:
        """x, y, width and height of what is read out, in pixels."""
        values = [ctypes.c_int() for _ in range(4)]
        self._call("arv_camera_get_region", self._camera, *map(ctypes.byref, values))
        x, y, width, height = (value.value for value in values)
        return x, y, width, height

    def set_region(self, x: int, y: int, width: int, height: int) -> None:
        """Set what is read out, in pixels."""
        self._call("arv_camera_set_region", self._camera, x, y, width, height)

    @property
    def pixel_format(self) -> tuple[str, int]:
        """Name and PFNC number of what the camera sends."""
        name = _text(self._call("arv_camera_get_pixel_format_as_string", self._camera))
        return name, int(self._call("arv_camera_get_pixel_format", self._camera))

    def set_pixel_format(self, name: str) -> None:
        """Set what the camera sends."""
        self._call("arv_camera_set_pixel_format_from_string", self._camera, name.encode())

    def set_packet_size(self, size: int) -> None:
        """Set the size of GigE Vision packets, bytes."""
        self._call("arv_camera_gv_set_packet_size", self._camera, size)

    def set_packet_delay_ns(self, delay_ns: int) -> None:
        """Set the pause between GigE Vision packets."""
        self._call("arv_camera_gv_set_packet_delay", self._camera, delay_ns)

    def set_free_run(self) -> None:
        """Switch every trigger off."""
        self._call("arv_camera_clear_triggers", self._camera)

    def set_trigger(self, source: str) -> None:
        """Expose one frame at each trigger of `source`, "Software" or a line's name."""
        self._call("arv_camera_clear_triggers", self._camera)
        self._call("arv_camera_set_trigger", self._camera, source.encode())

    # --- acquisition ---------------------------------------------------------------------------------------------

    def start(self, buffers: int) -> None:
        """Open a new stream with so many buffers and start acquisition: nothing of an earlier stream comes through."""
        self._stream = self._call("arv_camera_create_stream", self._camera, None, None)
        if self.is_gige:
            glib()("g_object_set", self._stream, b"socket-buffer", _AUTO_SOCKET_BUFFER, None)
        size = self._call("arv_camera_get_payload", self._camera)
        for _ in range(buffers):
            self._call("arv_stream_push_buffer", self._stream, self._call("arv_buffer_new_allocate", size))
        self._call("arv_camera_start_acquisition", self._camera)

    def stop(self) -> None:
        """Stop acquisition and close the stream with all that is in it."""
        try:
            if self._stream is not None:
                self._call("arv_camera_stop_acquisition", self._camera)
        finally:
            self._close_stream()

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            glib()("g_object_unref", stream)

    def trigger(self) -> None:
        """Send a software trigger; returns when the camera has acknowledged it."""
        self._call("arv_camera_software_trigger", self._camera)

    @contextmanager
    def next_buffer(self, timeout_ms: float) -> Iterator[ArrivedBuffer | None]:
        """The next buffer, or None if there is none within the time; it is given back at the end of the block."""
        buffer = self._call("arv_stream_timeout_pop_buffer", self._stream, round(timeout_ms * 1e3))
        if buffer is None:
            yield None
            return
        try:
            yield self._arrived(buffer)
        finally:
            self._call("arv_stream_push_buffer", self._stream, buffer)

    def _arrived(self, buffer: int) -> ArrivedBuffer:
        size = ctypes.c_size_t()
        is_complete = self._call("arv_buffer_get_status", buffer) == _SUCCESS
        address = self._call("arv_buffer_get_image_data", buffer, ctypes.byref(size)) if is_complete else None
        memory = (ctypes.c_uint8 * size.value).from_address(address) if address else b""
        return ArrivedBuffer(
            is_complete=bool(address),
            frame_id=self._call("arv_buffer_get_frame_id", buffer),
            timestamp_ns=self._call("arv_buffer_get_system_timestamp", buffer),
            pixels=np.frombuffer(memoryview(memory), np.uint8),
            pixel_format=self._call("arv_buffer_get_image_pixel_format", buffer) if address else 0,
            height=self._call("arv_buffer_get_image_height", buffer) if address else 0,
            width=self._call("arv_buffer_get_image_width", buffer) if address else 0,
        )

    def is_controlled(self) -> bool:
        """Whether the camera is still ours; told by the heartbeat, without asking the camera."""
        return not self.is_gige or bool(self._call("arv_gv_device_is_controller", self._device))

    def close(self) -> None:
        """Give the camera back; a second call does nothing."""
        self._close_stream()
        camera, self._camera = self._camera, None
        if camera is not None:
            glib()("g_object_unref", camera)
