"""Images of rejects, of faults and of a sample of accepts, within a quota. A full disk costs images, never verdicts.

    images/accepts/2026-11-21/<record>-<id>.png    what the camera saw, without loss: it can be judged again
    images/accepts/2026-11-21/<record>-<id>.jpg    the same with its heat, as it was judged
    images/rejects/...                             likewise; a fault has no .jpg

Oldest accepts give way first, then oldest rejects; an accept never displaces a reject. A file under its final name is
whole as long as the power does not fail within seconds of its writing; readers say so of one that is not.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue

import cv2

from edge_ad.frame import Image
from edge_ad.inspection import Inspection
from edge_ad.overlay import draw_overlay
from edge_ad.station.stage import TICK_S, Stage
from edge_ad.station.verdict import GOOD, Verdict, utc

__all__ = ["ImageStore", "image_path"]

MOST_WAITING = 16  # frames: 16 of 12 megapixels are 576 MB
NICENESS = 10  # of the thread that compresses, so that it takes no time from verdicts
_MAKE_ROOM_BYTES = 64 << 20
_TELL_S = 60.0  # a log of months is not filled by it

_log = logging.getLogger(__name__)

_Work = tuple[Verdict, Image, Inspection | None]


def image_path(folder: Path, uid: str, verdict: Verdict, suffix: str = ".png") -> Path:
    """Where the image of a recorded verdict is, if it was kept.

    Args:
        folder: Of the record.
        uid: Of the record.
        suffix: ".png" for the frame, ".jpg" for the frame with its heat.
    """
    kind = "accepts" if verdict.verdict == GOOD else "rejects"
    return folder / "images" / kind / utc(verdict.time_ns)[:10] / f"{uid}-{verdict.id}{suffix}"


class ImageStore:
    """Writes images in a thread of its own.

    Args:
        folder: Of the record.
        uid: Of the record.
        most_bytes: Of all images together.
        keep_free_bytes: Room on the disk that is left to the record.
        accept_every: Keep the image of every n-th good part of each camera; 0 for none.

    Attributes:
        kept, dropped: Images since the start, and why the last one was dropped in `failure`.
        used_bytes: Of all images together.
    """

    def __init__(self, folder: Path, uid: str, *, most_bytes: int, keep_free_bytes: int, accept_every: int) -> None:
        self.kept = self.dropped = self.used_bytes = 0
        self.failure = ""
        self._folder, self._uid = folder, uid
        self._most_bytes, self._keep_free_bytes, self._accept_every = most_bytes, keep_free_bytes, accept_every
        self._accepted: dict[str, int] = {}
        self._files: dict[str, deque[tuple[str, int]]] = {"accepts": deque(), "rejects": deque()}
        self._lock = threading.Lock()  # of the files and their bytes
        self._counting = threading.Lock()
        self._told_s = -_TELL_S
        self._work: Queue[_Work | None] = Queue(MOST_WAITING)  # None wakes the thread
        self._stopping = threading.Event()
        self.stage = Stage("images", self._run)

    def start(self) -> None:
        """Begin; images of earlier runs are counted first."""
        self.stage.start()

    def offer(self, verdict: Verdict, image: Image, inspection: Inspection | None) -> None:
        """Keep an image if it is wanted and there is time and room for it. Never waits.

        Args:
            verdict: Recorded, so with its id.
            image: Not to be changed afterwards.
        """
        if verdict.verdict == GOOD and not self._is_sampled(verdict.camera):
            return
        try:
            self._work.put_nowait((verdict, image, inspection))
        except Full:
            self._drop("images come faster than they can be written")

    def _is_sampled(self, camera: str) -> bool:
        count = self._accepted.get(camera, 0)
        self._accepted[camera] = count + 1
        return self._accept_every > 0 and count % self._accept_every == 0

    def make_room(self) -> None:
        """Delete some of the oldest images, for the record needs the room."""
        target = self.used_bytes - _MAKE_ROOM_BYTES
        with self._lock:
            self._evict(lambda: self.used_bytes <= target, "accepts", "rejects")

    def stop(self, timeout_s: float) -> bool:
        """Write what waits, then end; False if it took longer."""
        self._stopping.set()
        with suppress(Full):
            self._work.put_nowait(None)
        return self.stage.join(timeout_s)

    # --- its thread ----------------------------------------------------------------------------------------------

    def _run(self, stage: Stage) -> None:
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        self._count_files(stage)
        while True:
            stage.beat()
            is_last = self._stopping.is_set()
            work = self._next(0.0 if is_last else TICK_S)
            if work is not None:
                self._try_to_keep(*work)
            elif is_last:
                return

    def _next(self, timeout_s: float) -> _Work | None:
        try:
            return self._work.get(timeout_s > 0, timeout_s)
        except Empty:
            return None

    def _count_files(self, stage: Stage) -> None:
        for kind, files in self._files.items():
            found = []
            for entry in (self._folder / "images" / kind).glob("*/*"):
                stage.beat()
                with suppress(OSError):
                    status = entry.stat()
                    found.append((status.st_mtime_ns, str(entry), status.st_size))
            with self._lock:
                files.extendleft((path, size) for _, path, size in sorted(found, reverse=True))
                self.used_bytes += sum(size for _, _, size in found)

    def _try_to_keep(self, verdict: Verdict, image: Image, inspection: Inspection | None) -> None:
        try:
            self._keep(verdict, image, inspection)
        except (OSError, cv2.error) as exc:
            self._drop(getattr(exc, "strerror", None) or str(exc))
        else:
            self.kept += 1
            self.failure = ""

    def _keep(self, verdict: Verdict, image: Image, inspection: Inspection | None) -> None:
        contents = {".png": _encoded(".png", image, cv2.IMWRITE_PNG_COMPRESSION, 1)}
        if inspection is not None:
            contents[".jpg"] = _encoded(".jpg", draw_overlay(image, inspection), cv2.IMWRITE_JPEG_QUALITY, 90)
        size = sum(map(len, contents.values()))
        with self._lock:
            kinds = ("accepts",) if verdict.verdict == GOOD else ("accepts", "rejects")
            if not self._evict(lambda: self._has_room(size), *kinds):
                raise OSError(errno.ENOSPC, "the quota or the disk is full")
            for suffix, content in contents.items():
                path = image_path(self._folder, self._uid, verdict, suffix)
                _write_whole(path, content)
                self._files[kinds[-1]].append((str(path), len(content)))
                self.used_bytes += len(content)

    def _has_room(self, size: int) -> bool:
        return self.used_bytes + size <= self._most_bytes and (
            shutil.disk_usage(self._folder).free - size >= self._keep_free_bytes
        )

    def _evict(self, is_enough: Callable[[], bool], *kinds: str) -> bool:
        """Delete the oldest files of these kinds until there is enough room; False if there never is."""
        for files in (self._files[kind] for kind in kinds):
            while files and not is_enough():
                path, size = files.popleft()
                self.used_bytes -= size
                with suppress(OSError):
                    os.unlink(path)
                with suppress(OSError):  # the day's folder, once it is empty
                    os.rmdir(os.path.dirname(path))
        return is_enough()

    def _drop(self, reason: str) -> None:
        with self._counting:
            self.dropped += 1
            is_news = time.monotonic() - self._told_s > _TELL_S
            self._told_s = time.monotonic() if is_news else self._told_s
        if is_news:
            _log.warning("images are not kept, %d since the start: %s", self.dropped, reason)
        self.failure = reason


def _encoded(suffix: str, image: Image, option: int, value: int) -> bytes:
    return cv2.imencode(suffix, image, [option, value])[1].tobytes()


def _write_whole(path: Path, content: bytes) -> None:
    """A reader finds the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".partial")
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    except OSError:
        with suppress(OSError):
            scratch.unlink()
        raise
