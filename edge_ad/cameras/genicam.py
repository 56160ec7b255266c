"""GigE Vision and USB3 Vision cameras, by serial number, through Aravis."""

from __future__ import annotations

import ipaddress

from edge_ad.cameras.aravis import ArrivedBuffer, Device, Found, find_devices
from edge_ad.cameras.driver import Capture
from edge_ad.cameras.native import GLibError
from edge_ad.cameras.options import CameraOptions, FreeRun, HardwareTrigger, SoftwareTrigger
from edge_ad.cameras.pixels import PIXEL_FORMATS, pixel_format, to_bgr
from edge_ad.errors import CameraError, CameraLost, OptionRefused

__all__ = ["FrameNumbers", "GenicamDriver"]

_BUFFERS = 8  # between the library's thread and ours, which empties them at once
_REORDERED = 100  # a number so little smaller than the one before is a late frame; a smaller one is a new count


class GenicamDriver:
    """One camera, set as asked and acquiring.

    Args:
        name: Serial number, model or Aravis's id, * for the first there is, or an IP address, which is found sooner.
        options: Of the camera.
        fps: Frames a second in free run; None leaves it as it is.
        packet_size: Bytes of a GigE Vision packet; None for the largest that the network passes.
        packet_delay_ns: Pause between packets, where several cameras share a network.

    Raises:
        CameraLost: It is not there, in use elsewhere, or does not answer.
        OptionRefused: It cannot honour an option.
        MissingDependency: Aravis is not installed.
    """

    is_live = True
    may_repeat = False
    total = None

    def __init__(
        self,
        name: str,
        options: CameraOptions,
        *,
        fps: float | None = None,
        packet_size: int | None = None,
        packet_delay_ns: int | None = None,
    ) -> None:
        trigger = options.trigger
        self.answers_every_trigger = isinstance(trigger, SoftwareTrigger) and trigger.overlap
        self._name = f"camera {name}"
        try:
            self._device = Device(name if _is_address(name) else _find(name).device_id)
        except GLibError as exc:
            raise self._lost(exc) from exc
        try:
            self._name = self._device.name
            if not self._device.is_controlled():
                raise self._lost("in use", "end the program that holds it; a camera frees itself some seconds after")
            _Settings(self._device, self._name).apply(options, fps, packet_size, packet_delay_ns)
            self.description = self._describe()
            self._start()
        except GLibError as exc:
            self._device.close()
            raise self._lost(exc) from exc
        except CameraError:
            self._device.close()
            raise

    def _describe(self) -> str:
        _, _, width, height = self._device.region
        name, code = self._device.pixel_format
        pixel_format(code if code in {item.code for item in PIXEL_FORMATS.values()} else name)
        return f"{self._name}, {width}x{height} {name}"

    def _lost(self, got: object, fix: str = "check its power and cable") -> CameraLost:
        return CameraLost(f"There is no answer from {self._name}.", expected="a camera that answers", got=got, fix=fix)

    def _start(self) -> None:
        self._numbers = FrameNumbers(first=1 if self._device.is_gige else 0)
        self._device.start(_BUFFERS)

    def grab(self, timeout_ms: float) -> Capture | None:
        """The next frame, converted out of the library's buffer."""
        with self._device.next_buffer(timeout_ms) as buffer:
            if buffer is not None:
                return self._capture(buffer)
        if not self._device.is_controlled():
            raise CameraLost(f"{self._name} has gone.", expected="an answer to the heartbeat", got="none")
        return None

    def _capture(self, buffer: ArrivedBuffer) -> Capture:
        image = None
        if buffer.is_complete:
            image = to_bgr(buffer.pixels, pixel_format(buffer.pixel_format), buffer.height, buffer.width)
        number = self._numbers.number(buffer.frame_id)
        return Capture(image=image, number=number, timestamp_ns=buffer.timestamp_ns)

    def trigger(self) -> None:
        """Send a software trigger."""
        try:
            self._device.trigger()
        except GLibError as exc:
            raise self._lost(exc) from exc

    def restart(self) -> None:
        """Stop, and start with an empty stream."""
        try:
            self._device.stop()
            self._start()
        except GLibError as exc:
            raise self._lost(exc) from exc

    def close(self) -> None:
        """Stop and give the camera back; a second call does nothing."""
        try:
            if self._device.is_controlled():
                self._device.stop()
        except GLibError:
            pass  # it has gone, so there is nothing to stop
        self._device.close()


def _is_address(name: str) -> bool:
    """Whether it can be opened as it stands: asking the whole network who is there takes a second."""
    try:
        return bool(ipaddress.IPv4Address(name))
    except ValueError:
        return False


def _find(name: str) -> Found:
    devices = find_devices()
    for found in devices:
        if found.is_called(name):
            return found
    raise CameraLost(
        f"There is no camera {name}.",
        expected="a serial number, model or address: edge-ad cameras lists them",
        got=", ".join(f"{found.model} {found.serial} at {found.address}" for found in devices) or "no camera at all",
        fix="check its power and cable, and that it is in the same subnet",
    )


class FrameNumbers:
    """Frame ids as numbers that only rise.

    GigE Vision counts from 1 to 65535 and on with 1, or with extended ids without end; USB3 Vision from 0. Some cameras
    start a new count of their own accord: it goes on from the number before.

    Args:
        first: The id of the first frame after acquisition has started.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._id: int | None = None
        self._number = -1

    def number(self, frame_id: int) -> int:
        """The number of the frame with this id; smaller than the one before if it comes late."""
        if self._id is None:
            self._id, self._number = frame_id, frame_id - self._first
            return self._number
        step = frame_id - self._id
        if step < -_REORDERED:
            wrapped = step + 0xFFFF
            step = wrapped if self._first == 1 and 0 < wrapped <= _REORDERED else 1
        number = self._number + step
        if step > 0:
            self._id, self._number = frame_id, number
        return number


class _Settings:
    """Puts options into a camera, and refuses what it lacks."""

    def __init__(self, device: Device, name: str) -> None:
        self._device, self._name = device, name

    def apply(
        self, options: CameraOptions, fps: float | None, packet_size: int | None, packet_delay_ns: int | None
    ) -> None:
        """In the order in which cameras accept it: format and region before what depends on them."""
        device = self._device
        if options.pixel_format is not None:
            self._pixel_format(options.pixel_format)
        if options.region is not None:
            wanted = options.region
            self._region((wanted.x, wanted.y, wanted.width, wanted.height))
        if options.exposure_us is not None:
            self._exposure(options.exposure_us)
        if options.gain_db is not None:
            self._gain(options.gain_db)
        if not isinstance(options.trigger, FreeRun) or device.has("TriggerMode"):
            self._trigger(options)
        if fps is not None:
            self._frame_rate(fps)
        if (packet_size or packet_delay_ns) and not device.is_gige:
            raise self._refused("packet_size and packet_delay_ns", "given", "a GigE Vision camera")
        if packet_size:
            device.set_packet_size(packet_size)
        if packet_delay_ns:
            device.set_packet_delay_ns(packet_delay_ns)

    def _refused(self, option: str, got: object, expected: str) -> OptionRefused:
        return OptionRefused(f"{self._name} cannot honour {option}.", expected=expected, got=got)

    def _pixel_format(self, name: str) -> None:
        offered = self._device.choices("PixelFormat")
        pixel_format(name)
        if name not in offered:
            known = ", ".join(item for item in offered if item in PIXEL_FORMATS)
            raise self._refused("pixel_format", name, known or "none that can be converted")
        self._device.set_pixel_format(name)

    def _region(self, wanted: tuple[int, int, int, int]) -> None:
        x, y, width, height = wanted
        sensor = self._device.sensor_size
        if x + width > sensor[0] or y + height > sensor[1]:
            raise self._refused("region", wanted, f"a region within the sensor's {sensor[0]}x{sensor[1]} pixels")
        try:
            self._device.set_region(*wanted)
        except GLibError as exc:
            raise self._refused("region", wanted, str(exc)) from exc
        if self._device.region != wanted:
            raise self._refused(
                "region", wanted, f"x, y, width, height as the sensor allows, near {self._device.region}"
            )

    def _exposure(self, exposure_us: float) -> None:
        if not self._device.has_exposure():
            raise self._refused("exposure_us", exposure_us, "an exposure time that can be set")
        self._within("exposure_us", exposure_us, self._device.exposure_bounds_us())
        self._device.set_exposure_us(exposure_us)

    def _gain(self, gain_db: float) -> None:
        if not self._device.has("Gain"):
            raise self._refused("gain_db", gain_db, "a gain in decibels that can be set")
        self._within("gain_db", gain_db, self._device.gain_bounds_db())
        self._device.set_gain_db(gain_db)

    def _frame_rate(self, fps: float) -> None:
        if not self._device.has_frame_rate():
            raise self._refused("fps", fps, "a frame rate that can be set")
        self._device.set_frame_rate(fps)

    def _within(self, option: str, value: float, bounds: tuple[float, float]) -> None:
        if not bounds[0] <= value <= bounds[1]:
            raise self._refused(option, value, f"{bounds[0]:g} to {bounds[1]:g}")

    def _trigger(self, options: CameraOptions) -> None:
        match options.trigger:
            case FreeRun():
                self._device.set_free_run()
            case SoftwareTrigger():
                self._trigger_source("Software")
            case HardwareTrigger(line=line, edge=edge):
                self._trigger_source(f"Line{line}")
                activation = {"rising": "RisingEdge", "falling": "FallingEdge"}[edge]
                offered = self._device.choices("TriggerActivation")
                if activation not in offered:
                    raise self._refused("trigger", f"the {edge} edge", ", ".join(offered) or "no choice of edge")
                self._device.set_choice("TriggerActivation", activation)

    def _trigger_source(self, source: str) -> None:
        offered = self._device.choices("TriggerSource")
        if source not in offered:
            raise self._refused("trigger", source, ", ".join(offered) or "a camera with triggers")
        self._device.set_trigger(source)
