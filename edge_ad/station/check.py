"""What `edge-ad station --check` looks at beyond the settings themselves."""

from __future__ import annotations

from pathlib import Path

from edge_ad.bundle import Bundle
from edge_ad.cameras import CameraUri
from edge_ad.station.settings import RecipeSettings, StationSettings

__all__ = ["check_bundles"]


def check_bundles(settings: StationSettings) -> list[str]:
    """Prove every file of every recipe's bundles; returns lines that say what the station is made of.

    Raises:
        BundleError: A bundle is missing, damaged or lacks the precision that is asked for.
    """
    checked: dict[Path, Bundle] = {}
    lines = [f"station {settings.name}, record in {settings.record.folder}"]
    for camera in settings.cameras:  # a password in a URI is not for a log
        lines.append(f"camera {camera.name}: {CameraUri.parse(camera.uri).name}, {camera.options.trigger}")
    for recipe in settings.recipes.values():
        lines.append(f"recipe {recipe.name}{' (at first)' if recipe.name == settings.recipe else ''}")
        lines += [
            f"  {camera}: {_describe(_checked(path, recipe, checked))}" for camera, path in recipe.bundles.items()
        ]
    lines += [f"publisher {opening.name}: {opening.kind}" for opening in settings.publishers]
    if settings.http is not None:
        lines.append(f"http://{settings.http.host}:{settings.http.port}")
    return lines


def _checked(path: Path, recipe: RecipeSettings, checked: dict[Path, Bundle]) -> Bundle:
    if path not in checked:
        checked[path] = Bundle(path)
        checked[path].verify()
    if recipe.precision != "auto":
        checked[path].precision(recipe.precision)
    return checked[path]


def _describe(bundle: Bundle) -> str:
    size = bundle.manifest.input
    return f"{bundle.path}, {bundle.manifest.method} for {size.height}x{size.width} frames"
