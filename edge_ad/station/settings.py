"""station.toml: what a station is made of. `edge-ad station --example` prints one with every setting explained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_ad.backends import BACKENDS
from edge_ad.cameras import (
    CameraOptions,
    CameraUri,
    FreeRun,
    ImageChecks,
    RegionOfInterest,
    SoftwareTrigger,
    Trigger,
    parse_trigger,
)
from edge_ad.errors import OptionRefused
from edge_ad.manifest import PRECISIONS
from edge_ad.station.publishing import OpenPublisher, read_publisher
from edge_ad.station.table import LOOPBACK, Table, read_toml

__all__ = [
    "EXAMPLE",
    "CameraSettings",
    "HttpSettings",
    "RecipeSettings",
    "RecordSettings",
    "StationSettings",
    "read_settings",
]

EXAMPLE = Path(__file__).with_name("station.toml")
"""An example with every setting."""

_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """[cameras.NAME]

    Attributes:
        options: As edge_ad.cameras takes them; free run is the live mode, a trigger the triggered one.
        interval_ms: The station's own clock triggers, every so often; None to be triggered from outside.
    """

    name: str
    uri: str
    options: CameraOptions
    interval_ms: float | None

    @property
    def is_live(self) -> bool:
        """Only the latest frame matters, and frames may be passed over."""
        return isinstance(self.options.trigger, FreeRun)

    @property
    def takes_software_triggers(self) -> bool:
        """The station makes it expose."""
        return isinstance(self.options.trigger, SoftwareTrigger)


@dataclass(frozen=True, kw_only=True)
class RecipeSettings:
    """[recipes.NAME]: the bundle of each camera, and how it is run."""

    name: str
    bundles: dict[str, Path]
    precision: str
    backend: str


@dataclass(frozen=True, kw_only=True)
class RecordSettings:
    """[record]

    Attributes:
        folder: Holds record.sqlite and images/.
        database_bytes, images_bytes: The most that each takes.
        keep_free_bytes: Of the disk; images are given up before it gets fuller.
        accept_every: The image of every n-th good part is kept; 0 for none.
    """

    folder: Path
    database_bytes: int
    images_bytes: int
    keep_free_bytes: int
    accept_every: int


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """[http]

    Attributes:
        token: Who does not have it is refused; None only on the machine itself.
    """

    host: str
    port: int
    token: str | None


@dataclass(frozen=True, kw_only=True)
class StationSettings:
    """All of station.toml.

    Attributes:
        recipe: The recipe of the first start; later ones go on with the one that was chosen last.
        open_recipes: So many stay open, the one in use among them; None for all.
        verdict_timeout_ms: A trigger that has no verdict by then ends in a fault.
        stuck_s: A stage that shows no life for so long is reported, and the system's watchdog left to act.
        stop_s: What was begun is finished within this time at a stop.
        http: None if it is switched off.
    """

    name: str
    recipe: str
    open_recipes: int | None
    verdict_timeout_ms: float
    stuck_s: float
    stop_s: float
    record: RecordSettings
    cameras: tuple[CameraSettings, ...]
    recipes: dict[str, RecipeSettings]
    http: HttpSettings | None
    publishers: tuple[OpenPublisher, ...]


def read_settings(path: Path) -> StationSettings:
    """Read and check a station.toml.

    Raises:
        SettingsError: Naming the key, what was expected and what came.
    """
    file = read_toml(path)
    cameras = tuple(_camera(name, table) for name, table in file.named_tables("cameras"))
    if not cameras:
        raise file.wrong("cameras", "at least one [cameras.NAME]", "none")
    names = tuple(camera.name for camera in cameras)
    recipes = {name: _recipe(name, table, names) for name, table in file.named_tables("recipes")}
    if not recipes:
        raise file.wrong("recipes", "at least one [recipes.NAME]", "none")
    station = file.table("station")
    settings = StationSettings(
        name=station.name("name", "station"),
        recipe=station.choice("recipe", tuple(recipes), next(iter(recipes))),
        open_recipes=station.whole("open_recipes", 1, 10_000, None),
        verdict_timeout_ms=station.number("verdict_timeout_ms", 10, 3_600_000, 5000.0),
        stuck_s=station.number("stuck_s", 2, 3600, 15.0),
        stop_s=station.number("stop_s", 0.5, 600, 10.0),
        record=_record(file.table("record")),
        cameras=cameras,
        recipes=recipes,
        http=_http(file.table("http")),
        publishers=_publishers(file),
    )
    station.end()
    file.end()
    return settings


def _record(table: Table) -> RecordSettings:
    settings = RecordSettings(
        folder=table.file("folder", "record"),
        database_bytes=round(table.number("database_gib", 0.001, 1e6, 10.0) * _GIB),
        images_bytes=round(table.number("images_gib", 0, 1e6, 20.0) * _GIB),
        keep_free_bytes=round(table.number("keep_free_gib", 0, 1e6, 1.0) * _GIB),
        accept_every=table.whole("accept_every", 0, 10**9, 100),
    )
    table.end()
    return settings


def _camera(name: str, table: Table) -> CameraSettings:
    trigger = _trigger(table)
    settings = CameraSettings(
        name=name,
        uri=_uri(table),
        options=CameraOptions(
            exposure_us=table.number("exposure_us", 1, 1e9, None),
            gain_db=table.number("gain_db", -100, 100, None),
            pixel_format=table.text("pixel_format", None),
            region=_region(table),
            trigger=trigger,
            timeout_ms=table.number("timeout_ms", 1, 600_000, 1000.0),
            backlog=table.whole("backlog", 1, 1024, 8),
            checks=_checks(table),
        ),
        interval_ms=table.number("interval_ms", 1, 86_400_000, None),
    )
    if settings.interval_ms is not None and not settings.takes_software_triggers:
        raise table.wrong("interval_ms", 'trigger = "software" beside it', settings.interval_ms)
    table.end()
    return settings


def _uri(table: Table) -> str:
    """The URI; a path in it is relative to the file's folder."""
    uri = str(table.text("uri"))
    return uri if CameraUri.parse(uri).scheme else str(table.path.parent / uri)


def _trigger(table: Table) -> Trigger:
    text = table.text("trigger")
    try:
        trigger = parse_trigger(text)
    except OptionRefused as exc:
        raise table.wrong("trigger", exc.expected, text) from exc
    if isinstance(trigger, SoftwareTrigger):
        latest_ms = table.number("latest_ms", 1, 600_000, SoftwareTrigger.latest_ms)
        return SoftwareTrigger(overlap=trigger.overlap, latest_ms=latest_ms)
    return trigger


def _region(table: Table) -> RegionOfInterest | None:
    if "region" not in table:
        return None
    region = table.table("region")
    x, y = (region.whole(key, 0, 65_535) for key in ("x", "y"))
    width, height = (region.whole(key, 1, 65_535) for key in ("width", "height"))
    region.end()
    return RegionOfInterest(x=x, y=y, width=width, height=height)


def _checks(table: Table) -> ImageChecks | None:
    """[cameras.NAME.checks]; false or 0 switches a check off."""
    checks, usual = table.table("checks"), ImageChecks()
    found = ImageChecks(
        frozen_after=checks.whole("frozen_after", 0, 10**6, usual.frozen_after) or None,
        black_level=checks.whole("black_level", 0, 255, usual.black_level) or None,
        black_share=checks.number("black_share", 0, 1, usual.black_share),
        overexposed_level=checks.whole("overexposed_level", 0, 255, usual.overexposed_level) or None,
        overexposed_share=checks.number("overexposed_share", 0, 1, usual.overexposed_share),
    )
    checks.end()
    return found


def _recipe(name: str, table: Table, cameras: tuple[str, ...]) -> RecipeSettings:
    settings = RecipeSettings(
        name=name,
        bundles=_bundles(table, cameras),
        precision=table.choice("precision", ("auto", *PRECISIONS), "auto"),
        backend=table.choice("backend", ("auto", *BACKENDS), "auto"),
    )
    table.end()
    return settings


def _bundles(table: Table, cameras: tuple[str, ...]) -> dict[str, Path]:
    """`bundle` for every camera, or [recipes.NAME.bundles] with one for each."""
    if ("bundle" in table) == ("bundles" in table):
        both = "both" if "bundle" in table else "neither"
        raise table.wrong("bundle", "bundle for every camera, or a table bundles with one for each", both)
    if "bundle" in table:
        return dict.fromkeys(cameras, table.file("bundle"))
    of_camera = table.table("bundles")
    bundles = {camera: of_camera.file(camera) for camera in cameras}
    of_camera.end()
    return bundles


def _http(table: Table) -> HttpSettings | None:
    enabled = table.flag("enabled", True)
    settings = HttpSettings(
        host=table.text("host", "127.0.0.1"),
        port=table.whole("port", 0, 65_535, 8080),
        token=table.secret("token_file"),
    )
    if settings.host not in LOOPBACK and settings.token is None:
        raise table.wrong("token_file", f"a file with a token, since {settings.host} opens it to others", None)
    table.end()
    return settings if enabled else None


def _publishers(file: Table) -> tuple[OpenPublisher, ...]:
    found: dict[str, Any] = {}
    for table in file.tables("publish"):
        opening = read_publisher(table)
        if opening.name in found:
            raise table.wrong("name", "a name of its own", opening.name)
        found[opening.name] = opening
    return tuple(found.values())
