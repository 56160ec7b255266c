"""The latest judged frame of each camera, drawn when somebody looks."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import cv2

from edge_ad.frame import Image
from edge_ad.inspection import Inspection
from edge_ad.overlay import draw_overlay
from edge_ad.station.ticket import Ticket
from edge_ad.station.verdict import Verdict

__all__ = ["LiveImages"]


@dataclass(frozen=True, eq=False)
class _Latest:
    verdict_id: int
    image: Image
    inspection: Inspection | None


class LiveImages:
    """Listens to a ledger. Threads may share it."""

    def __init__(self) -> None:
        self._latest: dict[str, _Latest] = {}
        self._drawn: dict[tuple[str, int], tuple[int, bytes]] = {}
        self._drawing = threading.Lock()  # one at a time: verdicts need the processor too

    def listen(self, verdict: Verdict, ticket: Ticket, inspection: Inspection | None) -> None:
        """Keep the frame of a verdict; see edge_ad.station.ledger.Listener."""
        if ticket.frame is not None:
            self._latest[verdict.camera] = _Latest(verdict.id, ticket.frame.image, inspection)

    def latest_id(self, camera: str) -> int | None:
        """Of the verdict that `jpeg` shows; None before the first frame."""
        latest = self._latest.get(camera)
        return latest.verdict_id if latest else None

    def jpeg(self, camera: str, width: int) -> bytes | None:
        """The latest frame of a camera with its heat, at most `width` pixels wide; None before the first frame."""
        latest = self._latest.get(camera)
        if latest is None:
            return None
        with self._drawing:
            drawn = self._drawn.get((camera, width))
            if drawn is None or drawn[0] != latest.verdict_id:
                drawn = self._drawn[camera, width] = (latest.verdict_id, _draw(latest, width))
        return drawn[1]


def _draw(latest: _Latest, width: int) -> bytes:
    image = latest.image if latest.inspection is None else draw_overlay(latest.image, latest.inspection)
    if image.shape[1] > width:
        size = (width, round(image.shape[0] * width / image.shape[1]))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
