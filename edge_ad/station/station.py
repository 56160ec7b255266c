"""The station: cameras, recipes, inspector, record and publishers, started and stopped together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from edge_ad import __version__
from edge_ad.errors import StationError, TriggerRefused
from edge_ad.station.feed import CameraFeed
from edge_ad.station.http.api import api_routes
from edge_ad.station.http.live import LiveImages
from edge_ad.station.http.server import HttpServer
from edge_ad.station.images import ImageStore
from edge_ad.station.inspecting import Inspecting
from edge_ad.station.latency import Latencies
from edge_ad.station.ledger import Ledger
from edge_ad.station.page import page_routes
from edge_ad.station.publishing import OpenPublisher
from edge_ad.station.publishing.courier import Courier
from edge_ad.station.recipes import RecipeBook
from edge_ad.station.record import Record
from edge_ad.station.recorder import Recorder
from edge_ad.station.settings import HttpSettings, StationSettings
from edge_ad.station.stage import Stage
from edge_ad.station.teach import Teaching
from edge_ad.station.ticket import Ticket
from edge_ad.station.watch import Watch

__all__ = ["Station"]

_RECIPE = "recipe"  # under this name the record remembers the one that was chosen last
_LONGEST_PART_ID = 256
_COURIERS_S = 3.0  # publishers have this long at a stop; what they did not deliver is delivered after the next start

_log = logging.getLogger(__name__)


class Station:
    """Runs a line's inspection. Every trigger that is accepted ends in exactly one verdict or fault on the record.

    Args:
        settings: From `read_settings`.
        publishers: Further ways out, such as `callback(function)`.

    Attributes:
        ledger: `ledger.listeners` are told of every verdict; add to them before `start`.

    Raises:
        EdgeAdError: A bundle, a camera's options or the record cannot be used.

    Example:
        >>> with Station(read_settings(Path("station.toml"))) as station:      # doctest: +SKIP
        ...     for ticket in station.trigger("part-4711"):
        ...         print(ticket.wait(5.0))
    """

    def __init__(self, settings: StationSettings, *, publishers: Sequence[OpenPublisher] = ()) -> None:
        self.settings, self.name = settings, settings.name
        self._phase = "starting"
        self._phase_lock = threading.Lock()
        with ExitStack() as undo:
            self._record = Record(settings.record.folder, most_bytes=settings.record.database_bytes)
            undo.callback(self._record.close)
            self.uid, self.run = self._record.uid, self._record.run
            self.teaching = Teaching(settings.record.folder)
            undo.callback(self.teaching.close)
            self.recipes = RecipeBook(
                settings.recipes,
                self._first_recipe(),
                self.teaching.of_inspector,
                most_open=settings.open_recipes,
            )
            undo.callback(self.recipes.close)
            self.images = ImageStore(
                settings.record.folder,
                self.uid,
                most_bytes=settings.record.images_bytes,
                keep_free_bytes=settings.record.keep_free_bytes,
                accept_every=settings.record.accept_every,
            )
            self.recorder = Recorder(self._record, make_room=self.images.make_room)
            cameras = tuple(camera.name for camera in settings.cameras)
            self.latencies = Latencies(cameras)
            self.ledger = Ledger(self.run, cameras, self.recipes, self.recorder, self.images, self.latencies)
            self.live = LiveImages()
            self.ledger.listeners.append(self.live.listen)
            self.inspecting = Inspecting(self.ledger)
            self.couriers = self._couriers((*settings.publishers, *publishers))
            self.feeds: dict[str, CameraFeed] = {}
            for camera in settings.cameras:
                self.feeds[camera.name] = CameraFeed(camera, self.ledger, self.inspecting)
                undo.callback(self.feeds[camera.name].close)
            self.http = self._http(settings.http)
            undo.callback(self.http.close if self.http else _nothing)
            self._watch = Watch(self._vital_stages, settings.stuck_s, self._each_second, self._status)
            self._undo = undo.pop_all()

    def _first_recipe(self) -> str:
        chosen = self._record.remembered(_RECIPE)
        return chosen if chosen in self.settings.recipes else self.settings.recipe

    def _couriers(self, openings: Sequence[OpenPublisher]) -> list[Courier]:
        delivered = self._record.register([opening.name for opening in openings])
        folder = self.settings.record.folder
        return [
            Courier(opening, self, self.recorder, folder, delivered[opening.name], self.summary) for opening in openings
        ]

    def _http(self, settings: HttpSettings | None) -> HttpServer | None:
        if settings is None:
            return None
        return HttpServer(settings, [*api_routes(self, self.live, settings.token), *page_routes(self)])

    def _vital_stages(self) -> list[Stage]:
        of_feeds = [stage for feed in self.feeds.values() for stage in feed.stages]
        return [self.recorder.stage, self.inspecting.stage, *of_feeds]

    def start(self) -> None:
        """Begin; returns when triggers are accepted."""
        for stage in (self.recorder.stage, self.images.stage, self.inspecting.stage):
            stage.start()
        for feed in self.feeds.values():
            feed.start()
        self._phase = "running"
        for courier in self.couriers:
            courier.start()
        if self.http is not None:
            self.http.start()
        self._watch.stage.start()
        self.recipes.stage.start()
        _log.info("%s runs: record %s, run %d, recipe %s", self.name, self.uid, self.run, self.recipes.current.name)

    # --- what may be asked of it ---------------------------------------------------------------------------------

    def trigger(
        self, part_id: str | None = None, *, camera: str | None = None, recipe: str | None = None
    ) -> list[Ticket]:
        """Trigger a camera, or all that can be; never waits. `Ticket.wait` waits for the verdict.

        Args:
            part_id: At most 256 characters, kept and told as they are.
            recipe: What this part is judged by, of those that are open; None for the one in use.

        Raises:
            TriggerRefused: Not accepted: there is no such camera, it runs free, the part id cannot be kept, the recipe
                is not open, the station does not run, or the record cannot be written.
        """
        if self._phase != "running":
            raise TriggerRefused("The station does not take triggers now.", expected="running", got=self._phase)
        if camera is not None and camera not in self.feeds:
            raise TriggerRefused(f"There is no camera {camera!r}.", expected=" or ".join(self.feeds), got=camera)
        if part_id is not None and not _is_name(part_id):
            raise TriggerRefused(
                "The part id cannot be kept.", expected="1 to 256 characters of Unicode", got=ascii(part_id)[:100]
            )
        feeds = [feed for feed in self.feeds.values() if feed.name == camera or not (camera or feed.settings.is_live)]
        if not feeds:
            raise TriggerRefused("No camera of this station takes triggers.", expected="a camera with a trigger")
        taken = self.recipes.take(recipe)  # one for all cameras, though it be switched meanwhile
        try:
            return [feed.trigger(part_id, taken) for feed in feeds]
        finally:
            taken.release()

    def switch_recipe(self, name: str) -> None:
        """Switch to a recipe: at once if it is open, else once it is loaded and proven.

        Triggers before that keep the one they came under. The same name loads its bundles anew, as after a new
        threshold. The choice outlasts a restart.

        Raises:
            EdgeAdError: It cannot be used; the one before goes on.
        """
        if self._phase != "running":
            raise StationError("The station does not switch recipes now.", expected="running", got=self._phase)
        self.recipes.switch(name)
        self.recorder.remember(_RECIPE, self.recipes.current.name)

    def problems(self) -> list[str]:
        """What keeps verdicts from being given or recorded now; empty while all is well."""
        lost = [feed for feed in self.feeds.values() if not feed.is_connected]
        return [
            *self._watch.problems(),
            *([f"the record cannot be written: {self.recorder.failure}"] if self.recorder.failure else []),
            *(f"camera {feed.name} is not there" for feed in lost),
        ]

    def warnings(self) -> list[str]:
        """What somebody should look at, though verdicts are given and recorded."""
        late = [courier for courier in self.couriers if courier.failure]
        return [
            *([self._record.damage] if self._record.damage else []),
            *(["the run before this one was interrupted"] if self._record.was_interrupted else []),
            *([f"images are dropped: {self.images.failure}"] if self.images.failure else []),
            *(f"recipe {name} cannot be opened: {reason}" for name, reason in self.recipes.failures.items()),
            *(f"publisher {courier.name}: {courier.failure}" for courier in late),
            *([f"images: {self.images.stage.failure}"] if self.images.stage.failure else []),
        ]

    def summary(self) -> dict[str, Any]:
        """The state in short, which changes only when something happens."""
        problems = self.problems()
        return {
            "station": self.name,
            "record": self.uid,
            "run": self.run,
            "version": __version__,
            "state": "fault" if self._phase == "running" and problems else self._phase,
            "problems": problems,
            "recipe": self.recipes.current.name,
            "recipes": self.recipes.names,
        }

    def state(self) -> dict[str, Any]:
        """Everything, JSON-ready; docs/station-api.md describes it."""
        return {
            **self.summary(),
            "warnings": self.warnings(),
            "open_recipes": self.recipes.open_names,
            "models": self.recipes.current.to_json()["cameras"],
            "counts": {**self.ledger.counts(), "void": self.ledger.void},
            "cameras": [feed.state() for feed in self.feeds.values()],
            "latency": self.latencies.to_json(),
            "waiting": self.inspecting.waiting,
            "publishers": [courier.to_json() for courier in self.couriers],
            "storage": {
                "newest_id": self.recorder.newest_id,
                "database_bytes": self.recorder.used_bytes,
                "most_database_bytes": self.settings.record.database_bytes,
                "images_bytes": self.images.used_bytes,
                "most_images_bytes": self.settings.record.images_bytes,
                "images_kept": self.images.kept,
                "images_dropped": self.images.dropped,
            },
        }

    @property
    def is_over(self) -> bool:
        """Nothing is recorded any more."""
        return self._phase == "stopped"

    def has_failed(self) -> bool:
        """A stage has ended that verdicts need: only a restart helps."""
        return any(stage.failure for stage in self._vital_stages())

    def _each_second(self) -> None:
        self.ledger.end_overdue(self.settings.verdict_timeout_ms)

    def _status(self) -> str:
        counts = self.ledger.counts()
        return f"{self.summary()['state']}: {counts['triggers']} triggers, {counts['fault']} faults"

    # --- the end -------------------------------------------------------------------------------------------------

    def stop(self) -> bool:
        """Finish what was begun, then release everything; a second call does nothing.

        Triggers are refused from now on. Those that have no verdict within settings.stop_s end in faults.

        Returns:
            Whether every stage ended as planned.
        """
        with self._phase_lock:
            if self._phase in ("stopping", "stopped"):
                return True
            was_running, self._phase = self._phase == "running", "stopping"
        in_time = self._finish(self.settings.stop_s) if was_running else True
        self._phase = "stopped"
        self._undo.close()
        return in_time

    def _finish(self, timeout_s: float) -> bool:
        for feed in self.feeds.values():
            feed.stop()
        self.recipes.stop()
        if not self.ledger.wait_until_empty(timeout_s):
            self.ledger.end_all("the station was stopped")
        self._watch.stop()
        with ThreadPoolExecutor(max(1, len(self.feeds))) as together:  # a dead GigE camera takes seconds to let go
            list(together.map(CameraFeed.close, self.feeds.values()))
        ended = {"inspector": self.inspecting.stop(timeout_s)}
        self.ledger.end_all("the station was stopped")  # of a frame that came with the stop, where the inspector hangs
        ended["images"] = self.images.stop(timeout_s)
        ended |= {f"publisher {courier.name}": courier.stop(_COURIERS_S) for courier in self.couriers}
        ended["recorder"] = self.recorder.stop(timeout_s)
        ended["recipes"] = self.recipes.stage.join(timeout_s)
        late = [name for name, in_time in ended.items() if not in_time]
        _log.info("%s has stopped: %s", self.name, self.ledger.counts())
        if late:
            _log.error("did not end in time: %s", ", ".join(late))
        return not late

    def __enter__(self) -> Station:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _is_name(part_id: str) -> bool:
    """Lines send what they like, such as Latin-1 that is no UTF-8: it could neither be kept nor told."""
    try:
        return isinstance(part_id, str) and bool(part_id.encode()) and len(part_id) <= _LONGEST_PART_ID
    except UnicodeEncodeError:
        return False


def _nothing() -> None:
    pass
