"""Recipes: the bundles of all cameras, loaded and proven before the first frame meets them, released after the last.

The one in use is open before the station starts. The others are opened behind it, one after the other, and stay open:
a part may then be of any of them.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edge_ad.bundle import Bundle
from edge_ad.errors import EdgeAdError, StationError, TriggerRefused
from edge_ad.inspector import Inspector
from edge_ad.station.settings import RecipeSettings
from edge_ad.station.stage import TICK_S, Stage
from edge_ad.station.verdict import ServedModel

__all__ = ["LoadedRecipe", "RecipeBook", "bundle_threshold", "served_model"]

_log = logging.getLogger(__name__)

Thresholds = Callable[[Inspector], tuple[float, int]]


def bundle_threshold(inspector: Inspector) -> tuple[float, int]:
    """The threshold that its bundle brings, and its version."""
    entry = inspector.bundle.precision(inspector.precision)
    return entry.threshold, entry.threshold_version


def served_model(inspector: Inspector, threshold_version: int) -> ServedModel:
    """What this inspector judges with."""
    return ServedModel(
        bundle=inspector.bundle.manifest.name,
        bundle_sha256=inspector.bundle.sha256,
        model_sha256=inspector.model_sha256,
        precision=inspector.precision,
        backend=inspector.backend,
        threshold=inspector.threshold,
        threshold_version=threshold_version,
    )


class LoadedRecipe:
    """The inspectors of a recipe, by camera. Cameras of one bundle share one.

    Whoever triggers under it holds it until the verdict; `retire` releases it after the last.

    Raises:
        EdgeAdError: A bundle cannot be loaded, or does not reproduce its golden vectors here.
    """

    def __init__(self, settings: RecipeSettings, thresholds: Thresholds) -> None:
        self.name = settings.name
        with ExitStack() as undo:
            by_path: dict[Path, Inspector] = {}
            versions: dict[Path, int] = {}
            for path in dict.fromkeys(settings.bundles.values()):
                by_path[path] = Inspector(path, precision=settings.precision, backend=settings.backend)
                undo.callback(by_path[path].close)
                by_path[path].threshold, versions[path] = thresholds(by_path[path])
            self._opened = undo.pop_all()
        self.inspectors = {camera: by_path[path] for camera, path in settings.bundles.items()}
        self.models = {camera: served_model(by_path[path], versions[path]) for camera, path in settings.bundles.items()}
        self._users = 1  # whoever made it
        self._lock = threading.Lock()

    def hold(self) -> None:
        """One more user."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """One user less; the last one closes it."""
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self._opened.close()

    def has_other_bundles(self) -> bool:
        """A bundle on the disk is not the one that was loaded.

        Raises:
            BundleCorrupt: It is none any more.
        """
        each = {inspector.bundle.path: inspector.bundle.sha256 for inspector in self.inspectors.values()}
        return any(Bundle(path).sha256 != loaded for path, loaded in each.items())

    def has_other_thresholds(self, thresholds: Thresholds) -> bool:
        """A threshold was changed since."""
        return any(
            thresholds(self.inspectors[camera]) != (model.threshold, model.threshold_version)
            for camera, model in self.models.items()
        )

    def to_json(self) -> dict[str, Any]:
        """The name, and each camera's model and frame size."""
        return {
            "name": self.name,
            "cameras": {
                camera: {
                    **vars(model),
                    "height": self.inspectors[camera].size[0],
                    "width": self.inspectors[camera].size[1],
                }
                for camera, model in self.models.items()
            },
        }


class RecipeBook:
    """The recipes of a station, those that are open, and the one in use.

    Args:
        recipes: By name.
        first: The one to begin with.
        thresholds: The threshold that an inspector is to judge by, and its version.
        most_open: So many stay open; beyond it the one goes that was not used for the longest time. None: all stay.

    Attributes:
        stage: Opens the recipes that are not open. What it cannot open is told by `failures`, and ends nothing.

    Raises:
        EdgeAdError: The first cannot be used.
    """

    def __init__(
        self,
        recipes: Mapping[str, RecipeSettings],
        first: str,
        thresholds: Thresholds = bundle_threshold,
        *,
        most_open: int | None = None,
    ) -> None:
        self._recipes, self._thresholds = recipes, thresholds
        self._most_open = len(recipes) if most_open is None else most_open
        self._current = LoadedRecipe(recipes[first], thresholds)
        self._open = OrderedDict({first: self._current})  # the one used last is the last
        self._failures: dict[str, str] = {}
        self._choices = 0
        self._is_closed = False
        self._lock = threading.Lock()  # of all of these
        self._switching = threading.Lock()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._wake.set()
        self.stage = Stage("recipes", self._run)

    @property
    def names(self) -> list[str]:
        """Of all recipes."""
        return list(self._recipes)

    @property
    def open_names(self) -> list[str]:
        """Of those that are open."""
        return [name for name in self._recipes if name in self._open]

    @property
    def failures(self) -> dict[str, str]:
        """Why a recipe could not be opened when that was tried last, by name."""
        with self._lock:
            return dict(self._failures)

    @property
    def current(self) -> LoadedRecipe:
        """The one in use; a user that needs it for longer takes it with `take`."""
        return self._current

    def take(self, name: str | None = None) -> LoadedRecipe:
        """A recipe that is open, held for the caller; None takes the one in use. Never waits.

        Raises:
            TriggerRefused: It is not open.
        """
        with self._lock:
            taken = self._current if name is None else self._open.get(name)
            if taken is not None:
                taken.hold()
                if taken.name in self._open:  # after the end nothing is
                    self._open.move_to_end(taken.name)
                return taken
        self._check_name(str(name), TriggerRefused)
        raise TriggerRefused(
            f"Recipe {name} is not open.",
            expected=" or ".join(self.open_names),
            got=self.failures.get(str(name)),
            fix="wait until it is among open_recipes in the station's state; a switch to the recipe opens it, too",
        )

    def switch(self, name: str) -> LoadedRecipe:
        """Put a recipe in use: at once if it is open as its bundles and thresholds are now.

        Otherwise, and where it is in use already, it is loaded and proven anew while the one before goes on. Whoever
        chooses another one meanwhile has the last word.

        Returns:
            The one in use now.

        Raises:
            EdgeAdError: It cannot be used, or another one is being loaded; the one before stays in use.
        """
        self._check_name(name, StationError)
        if name != self._current.name and self._use_open(name):
            return self._current
        if not self._switching.acquire(blocking=False):
            raise StationError("Another recipe is being loaded.", fix="wait for it, then try again")
        try:
            with self._lock:
                self._choices += 1
                choice = self._choices
            loaded = self._load(name)
            with self._lock:
                released = self._keep(loaded, in_use=choice == self._choices)
            _release(released)
            _log.info("recipe %s", self._current.name)
            return self._current
        finally:
            self._switching.release()
            self._wake.set()  # a threshold that was changed may be another recipe's, too

    def _check_name(self, name: str, error: type[StationError]) -> None:
        if name not in self._recipes:
            raise error(f"There is no recipe {name!r}.", expected=" or ".join(self._recipes), got=name)

    def _use_open(self, name: str) -> bool:
        """Put it in use if it is open and nothing has changed since."""
        try:
            opened = self.take(name)
        except TriggerRefused:
            return False
        try:
            if opened.has_other_bundles() or opened.has_other_thresholds(self._thresholds):
                return False
            with self._lock:
                if self._open.get(name) is not opened:  # closed or replaced meanwhile
                    return False
                self._choices += 1
                self._current = opened
            _log.info("recipe %s", name)
            return True
        finally:
            opened.release()

    def _load(self, name: str) -> LoadedRecipe:
        try:
            loaded = LoadedRecipe(self._recipes[name], self._thresholds)
        except Exception as error:
            with self._lock:
                self._failures[name] = error.what if isinstance(error, EdgeAdError) else repr(error)
            raise
        with self._lock:
            self._failures.pop(name, None)
        return loaded

    def _keep(self, loaded: LoadedRecipe, *, in_use: bool) -> list[LoadedRecipe]:
        """Keep a recipe open in place of one of the same name. The lock is held.

        Returns:
            What is to be released: what it replaced, and those that are too many.
        """
        if self._is_closed:
            return [loaded]
        released = [self._open[loaded.name]] if loaded.name in self._open else []
        self._open[loaded.name] = loaded
        if in_use or loaded.name == self._current.name:
            self._current = loaded
        unused = [name for name in self._open if name != self._current.name]
        too_many = max(0, len(self._open) - self._most_open)
        return released + [self._open.pop(name) for name in unused[:too_many]]

    # --- the thread that opens what is not open ------------------------------------------------------------------

    def _run(self, stage: Stage) -> None:
        # At the usual priority: a runtime's threads inherit the one of who opens it, and keep it when they serve.
        while not self._stopping.is_set():
            stage.beat()
            if self._wake.wait(TICK_S):
                self._wake.clear()
                for name in self._recipes:
                    if not self._stopping.is_set():
                        self._open_behind(name)

    def _open_behind(self, name: str) -> None:
        try:
            with self._lock:
                before = self._open.get(name)
            if not self._is_to_be_opened(name):
                return
            loaded = self._load(name)
            with self._lock:
                is_first = self._open.get(name) is before  # else somebody has opened it meanwhile
                released = self._keep(loaded, in_use=False) if is_first else [loaded]
            _release(released)
            _log.info("recipe %s is open", name)
        except Exception as error:  # of one recipe: it must not keep the others from being opened
            _log.warning("recipe %s cannot be opened: %s", name, error)

    def _is_to_be_opened(self, name: str) -> bool:
        """There is room for it and it is not open, or it is and a threshold was changed since."""
        with self._lock:
            opened = self._open.get(name)
            if opened is None:
                return len(self._open) < self._most_open
            opened.hold()
        try:
            return opened.has_other_thresholds(self._thresholds)
        finally:
            opened.release()

    # --- the end -------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Begin to open no further recipe."""
        self._stopping.set()
        self._wake.set()

    def close(self) -> None:
        """Release every recipe once its last user has; one that is being opened now, once it is."""
        self.stop()
        with self._lock:
            self._is_closed = True
            released = list(self._open.values())
            self._open.clear()
        _release(released)


def _release(recipes: Iterable[LoadedRecipe]) -> None:
    for recipe in recipes:
        recipe.release()
