"""Whole stations for tests: drawn cameras and a tiny bundle whose answers can be worked out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_ad.station.settings import StationSettings, read_settings
from edge_ad.station.station import Station
from tests.golden_bundle import brightness_bundle

MakeSettings = Callable[[str], StationSettings]
MakeStation = Callable[..., Station]

CAMERA = """
[cameras.top]
uri = "synthetic://24x16"
trigger = "software-overlap"
backlog = 1024
latest_ms = 5000
timeout_ms = 5000
[cameras.top.checks]
frozen_after = 0
"""
"""24 x 16 pixels, as the bright bundle takes them; it answers every trigger however soon it comes."""


@pytest.fixture
def settings(tmp_path: Path) -> MakeSettings:
    """What is added to one recipe, `bright`, as a station's settings."""
    brightness_bundle(tmp_path / "bright.bundle")

    def make(text: str = CAMERA) -> StationSettings:
        first = '[recipes.bright]\nbundle = "bright.bundle"\n'
        path = tmp_path / "station.toml"
        path.write_text(first + text + ("" if "[http]" in text else "\n[http]\nenabled = false\n"))
        return read_settings(path)

    return make


@pytest.fixture
def station(settings: MakeSettings) -> Iterator[MakeStation]:
    """A running station; it is stopped at the end, and every trigger must have ended by then."""
    made: list[Station] = []

    def make(text: str = CAMERA, **options: Any) -> Station:
        made.append(Station(settings(text), **options))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        assert one.stop()
        counts = one.ledger.counts()
        assert counts["open"] == 0
        assert counts["triggers"] == counts["good"] + counts["anomalous"] + counts["fault"]
