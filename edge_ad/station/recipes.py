"""Recipes: the bundles of all cameras, loaded and proven before the first frame meets them, released after the last."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edge_ad.errors import StationError
from edge_ad.inspector import Inspector
from edge_ad.station.settings import RecipeSettings
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
        self._users = 1  # the book
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
    """The recipes of a station and the one in use.

    Args:
        recipes: By name.
        first: The one to begin with.
        thresholds: The threshold that an inspector is to judge by, and its version.

    Raises:
        EdgeAdError: It cannot be used.
    """

    def __init__(
        self, recipes: Mapping[str, RecipeSettings], first: str, thresholds: Thresholds = bundle_threshold
    ) -> None:
        self._recipes, self._thresholds = recipes, thresholds
        self._current = LoadedRecipe(recipes[first], thresholds)
        self._lock = threading.Lock()
        self._switching = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Of all recipes."""
        return list(self._recipes)

    @property
    def current(self) -> LoadedRecipe:
        """The one in use; a user that needs it for longer takes it with `take`."""
        return self._current

    def take(self) -> LoadedRecipe:
        """The one in use, held for the caller."""
        with self._lock:
            self._current.hold()
            return self._current

    def switch(self, name: str) -> LoadedRecipe:
        """Load and prove a recipe while the one before goes on, then put it in use. The same name loads it anew.

        Raises:
            EdgeAdError: It cannot be used, or another switch is under way; the one before stays in use.
        """
        if name not in self._recipes:
            raise StationError(f"There is no recipe {name!r}.", expected=" or ".join(self._recipes), got=name)
        if not self._switching.acquire(blocking=False):
            raise StationError("Another recipe is being loaded.", fix="wait for it, then try again")
        try:
            loaded = LoadedRecipe(self._recipes[name], self._thresholds)
            with self._lock:
                before, self._current = self._current, loaded
            before.release()
            _log.info("recipe %s", name)
            return loaded
        finally:
            self._switching.release()

    def close(self) -> None:
        """Release the recipe in use once its last user has."""
        self._current.release()
