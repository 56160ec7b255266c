"""The page of a station whose scores are known, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_ad.station.station import Station
from tests.golden_bundle import brightness_bundle
from tests.station.browser import CHROMIUM, Browser, Tab
from tests.station.conftest import MakeStation
from tests.station.made import until
from tests.station.taught import GREYS, judge, set_threshold, show_greys

__all__ = ["Open", "browser", "line", "needs_chromium", "page", "shows"]

Open = Callable[..., Tab]

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def line(station: MakeStation, tmp_path: Path) -> Station:
    """A station with two recipes that has judged every one of GREYS once: ids 1 to 10."""
    set_threshold(tmp_path / "bright.bundle")
    brightness_bundle(tmp_path / "housing.bundle")
    set_threshold(tmp_path / "housing.bundle", 165.0, mean=97.5)
    recipe = '[recipes.housing]\nbundle = "housing.bundle"\n'
    made = station(recipe + show_greys(tmp_path / "greys"))
    judge(made, len(GREYS))
    until(lambda: made.images.kept == len(GREYS), "every picture kept")
    return made


@pytest.fixture
def page(browser: Browser, line: Station) -> Iterator[Open]:
    """Opens the page of that station, once it shows what has been judged. It must have nothing to complain of."""
    tabs = []

    def open_page(width: int = 1280, **options: bool) -> Tab:
        assert line.http is not None
        tab = browser.open(f"http://127.0.0.1:{line.http.port}/", width=width, touch=width < 600, **options)
        tabs.append(tab)
        tab.until('document.querySelector("#marked").textContent && document.querySelector("#yield svg") !== null')
        tab.until('document.querySelectorAll("#gallery .card").length === 3')
        return tab

    yield open_page
    for tab in tabs:
        missing_pictures = [text for text in tab.complaints if "/api/thumbnails/" in text]
        assert [text for text in tab.complaints if text not in missing_pictures] == []
        tab.close()


def shows(tab: Tab, selector: str, text: str) -> None:
    """Wait until an element's text holds a text."""
    tab.until(f'document.querySelector("{selector}").textContent.includes("{text}")')
