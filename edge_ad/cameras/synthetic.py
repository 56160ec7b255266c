"""A drawn camera: parts on a belt, some with a defect, and every way in which a real camera fails, on demand.

It is what a station is tried with before there is a camera, and what tests of a station use: its faults are those of
edge_ad.errors, at rates that the URI gives.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge_ad.cameras.driver import Capture
from edge_ad.cameras.options import CameraOptions, FreeRun, SoftwareTrigger
from edge_ad.cameras.recorded import Pace
from edge_ad.errors import CameraLost
from edge_ad.frame import Image

__all__ = ["SyntheticDriver", "SyntheticScene", "draw_part"]

_NOISE_TILES = 4


@dataclass(frozen=True, kw_only=True)
class SyntheticScene:
    """What a synthetic camera shows, and how it fails. Shares are of all frames, from 0 to 1.

    Attributes:
        width: Pixels.
        height: Pixels.
        fps: Frames a second in free run.
        defects: Share of parts with a scratch.
        seed: The same seed shows the same parts and fails at the same frames.
        gaps: Share of frames that never arrive.
        incomplete: Share of frames with a part missing.
        silent: Share of triggers that are not answered.
        lost_after: Frames after which the camera is lost, each time it is opened.
        latency_ms: From the trigger to the frame.
    """

    width: int = 640
    height: int = 480
    fps: float = 10.0
    defects: float = 0.1
    seed: int = 0
    gaps: float = 0.0
    incomplete: float = 0.0
    silent: float = 0.0
    lost_after: int | None = None
    latency_ms: float = 0.0


def draw_part(scene: SyntheticScene, number: int) -> Image:
    """Part `number` of the scene without the sensor's noise, (height, width, 3) uint8 BGR.

    A turned disc with a hole on a dark belt, each lying and shining a little differently.
    """
    random = np.random.default_rng((scene.seed, 0, number))
    image = np.full((scene.height, scene.width, 3), 28, np.uint8)
    side = min(scene.height, scene.width)
    middle = (scene.width / 2, scene.height / 2)
    centre = [round(float(value + random.uniform(-0.03, 0.03) * side)) for value in middle]
    metal = int(random.integers(150, 165))
    cv2.circle(image, centre, round(side * 0.38), (metal, metal, metal - 6), -1, cv2.LINE_AA)
    for radius in np.arange(0.14, 0.37, 0.02):
        cv2.circle(image, centre, round(side * float(radius)), (metal + 9,) * 3, 1, cv2.LINE_AA)
    cv2.circle(image, centre, round(side * 0.11), (28, 28, 28), -1, cv2.LINE_AA)
    if random.random() < scene.defects:
        _draw_scratch(image, centre, side, random)
    return image


def _draw_scratch(image: Image, centre: list[int], side: int, random: np.random.Generator) -> None:
    angle, turn = random.uniform(0, 2 * np.pi, 2)
    start = np.array(centre) + side * 0.24 * np.array([np.cos(angle), np.sin(angle)])
    end = start + side * random.uniform(0.08, 0.16) * np.array([np.cos(turn), np.sin(turn)])
    first, last = ([round(float(value)) for value in point] for point in (start, end))
    cv2.line(image, first, last, (60, 60, 70), max(1, side // 120), cv2.LINE_AA)


class SyntheticDriver:
    """Draws one part a frame, with sensor noise that differs from frame to frame.

    Args:
        scene: What is shown.
        options: Free run or software trigger; nothing else can be set.
    """

    is_live = True
    may_repeat = False
    answers_every_trigger = True
    total = None

    def __init__(self, scene: SyntheticScene, options: CameraOptions) -> None:
        options.refuse_all_but("synthetic://", (), (FreeRun, SoftwareTrigger))
        self._scene = scene
        self._sensor = _Sensor(scene)
        self._pace = Pace(scene.fps, triggered=isinstance(options.trigger, SoftwareTrigger))
        self._fates = np.random.default_rng((scene.seed, 1))
        self._number = 0
        self.description = f"synthetic, {scene.width}x{scene.height} BGR8, {scene.defects:.0%} with a defect"

    def grab(self, timeout_ms: float) -> Capture | None:
        """The next part, when it is due."""
        scene = self._scene
        if not self._pace.wait(timeout_ms):
            return None
        if scene.latency_ms:
            time.sleep(scene.latency_ms / 1e3)
        if scene.lost_after is not None and self._number >= scene.lost_after:
            raise CameraLost("The synthetic camera is lost.", got=f"its {scene.lost_after} frames are over")
        fate = float(self._fates.random())
        if fate < scene.silent:
            return None
        number, self._number = self._number, self._number + 1
        if fate < scene.silent + scene.gaps:
            return None
        is_whole = fate >= scene.silent + scene.gaps + scene.incomplete
        image = self._sensor.exposure(number) if is_whole else None
        return Capture(image=image, number=number, timestamp_ns=time.time_ns())

    def trigger(self) -> None:
        """Show one part."""
        self._pace.release()

    def restart(self) -> None:
        """Take back triggers that have no frame yet."""
        self._pace.forget()

    def close(self) -> None:
        """Nothing to release."""


class _Sensor:
    """Takes pictures of parts, with noise that differs from one to the next."""

    def __init__(self, scene: SyntheticScene) -> None:
        self._scene = scene
        shape = (_NOISE_TILES, scene.height, scene.width, 3)
        self._noise: npt.NDArray[np.uint8] = np.random.default_rng((scene.seed, 2)).integers(0, 9, shape, np.uint8)

    def exposure(self, number: int) -> Image:
        """Part `number` with noise."""
        tile = self._noise[number % _NOISE_TILES]
        shift = int(np.random.default_rng((self._scene.seed, 3, number)).integers(tile.size))
        noise = np.roll(tile.reshape(-1), shift).reshape(tile.shape)
        return np.asarray(cv2.add(draw_part(self._scene, number), noise), np.uint8)
