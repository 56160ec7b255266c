"""The page in a real browser: live, tried, taught and switched, on a wide window and on a narrow one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_ad.station.station import Station
from tests.station.browser import Browser, Tab
from tests.station.conftest import MakeStation
from tests.station.made import until
from tests.station.shown import Open, browser, line, needs_chromium, page, shows
from tests.station.taught import GREYS, THRESHOLD, judge, set_threshold, show_greys
from tests.station.test_http import Client

__all__ = ["browser", "line", "page"]  # fixtures

WIDTHS = (1280, 400)
ACCEPTED = sum(grey <= THRESHOLD for grey in GREYS)


def give_name(tab: Tab, name: str = "Ada") -> None:
    tab.type("#new-name", name)
    tab.press("Enter")


# --- what it shows -----------------------------------------------------------------------------------------------


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
def test_verdicts_are_shown_as_they_come_and_nothing_moves(page: Open, line: Station, width: int) -> None:
    tab = page(width)
    tab.value(
        "window.shifts = []; new PerformanceObserver((list) => { for (const { value, sources } of list.getEntries())"
        " shifts.push([value, sources.map(({ node }) => node?.id || node?.className || node?.textContent)]); })"
        '.observe({type: "layout-shift", buffered: true})'
    )
    judge(line, 5, first=10)
    shows(tab, "#word", "REJECT")
    shows(tab, "#facts", "part-14")
    assert "150.0" in tab.text("#facts") and "140.0, version 2" in tab.text("#facts")
    tab.until('document.querySelector("#image").naturalWidth > 0 && !document.querySelector("#image").hidden')
    shows(tab, "#counts", f"Good{ACCEPTED + 4}Rejects4Faults0")
    assert tab.value('document.querySelectorAll("#recent rect").length') == 15
    judge(line, 1, first=15)
    shows(tab, "#facts", "part-15")
    assert tab.value("document.documentElement.scrollWidth") == width
    shifts = tab.value("shifts")
    assert sum(value for value, _ in shifts) < 0.05, shifts  # below 0.1 is what the web calls good
    assert line.http is not None
    assert {url.split("/")[2] for url in tab.urls if url.startswith("http")} == {f"127.0.0.1:{line.http.port}"}


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
def test_rejects_come_to_the_gallery_but_not_under_a_finger(page: Open, line: Station, width: int) -> None:
    tab = page(width)
    judge(line, 5, first=10)
    tab.until('document.querySelector("#gallery .card b").textContent === "part-14"')
    tab.value('document.querySelector("#gallery").scrollIntoView()')  # pictures are loaded when they are looked at
    tab.until('document.querySelector("#gallery .card img").naturalWidth === 320')
    tab.click('[data-marks="5"] [data-mark="good"]')
    give_name(tab)
    judge(line, 1, first=15)
    shows(tab, "#newer", "Show 1 newer")
    assert tab.text("#gallery .card b") == "part-14"
    tab.click("#newer")
    assert tab.text("#gallery .card b") == "part-15"
    assert tab.value('document.querySelector("#newer").hidden')


@needs_chromium
def test_yield_drift_health_and_latency_are_shown(page: Open) -> None:
    tab = page()
    assert tab.text("#yield-of") == "70.0 %"
    tab.click('#spans button[value="15m"]')
    tab.until('document.querySelectorAll("#yield .anomalous").length >= 1')
    assert tab.value('document.querySelectorAll("#scores .limit").length') == 1
    drift = (np.median(GREYS) - (THRESHOLD - 2.3263 * 10)) / 10
    shows(tab, "#drift-text", f"{drift:.1f} spreads above")
    assert "estimated from the threshold" in tab.text("#drift-text")
    assert tab.text("#drift") == "in line"
    assert "connected" in tab.text("#health") and "top" in tab.text("#health")
    assert tab.value('document.querySelectorAll("#latency .chart svg rect").length') >= 5
    assert "Verdicts on the record\n10" in tab.text("#storage")


@needs_chromium
def test_drift_is_judged_from_the_mean_that_the_bundle_tells(page: Open, line: Station) -> None:
    tab = page()
    line.switch_recipe("housing")  # the same graph, so the same scores: their median is 122.5
    shows(tab, "#drift-text", "2.5 spreads above what calibration expects of good parts (97.5 ± 10.0, from 8 images)")
    assert tab.text("#drift") == "drifted"


@needs_chromium
def test_everything_is_of_the_camera_that_is_chosen(browser: Browser, station: MakeStation, tmp_path: Path) -> None:
    set_threshold(tmp_path / "bright.bundle")
    two = show_greys(tmp_path / "greys")
    side = two[two.index("[cameras.top]") : two.index("[http]")].replace("cameras.top", "cameras.side")
    made = station(two + side)
    judge(made, 5)
    assert made.trigger("part-s", camera="side")[0].wait(30)
    until(lambda: made.images.kept == 6, "every picture kept")
    assert made.http is not None
    tab = browser.open(f"http://127.0.0.1:{made.http.port}/")
    shows(tab, "#facts", "part-4")
    tab.until('document.querySelectorAll("#gallery .card").length === 1')
    tab.click('#cameras button[value="side"]')
    shows(tab, "#facts", "part-s")
    assert tab.text("#word") == "GOOD"
    shows(tab, "#drift-text", "camera's last 1 part is")
    tab.until('document.querySelectorAll("#gallery .card").length === 0')
    judge(made, 1, first=5)  # on the other one
    assert made.trigger("part-t", camera="side")[0].wait(30)
    shows(tab, "#facts", "part-t")
    assert tab.value('document.querySelectorAll("#recent rect").length') == 2
    assert tab.complaints == []
    tab.close()


@needs_chromium
def test_what_the_line_sends_is_shown_as_text_and_never_as_markup(page: Open, line: Station) -> None:
    name = '<img src=x onerror="window.hacked=1">'
    tab = page()
    for _ in range(5):
        line.trigger(name)[0].wait(30)
    tab.until(f'document.querySelector("#gallery .card b").textContent === {name!r}')
    tab.click("#gallery .card > button")
    tab.until(f'document.querySelector("#viewer-title").textContent.includes({name!r})')
    assert tab.value("window.hacked") is None


@needs_chromium
def test_a_station_that_goes_is_told(page: Open, line: Station, browser: Browser) -> None:
    tab = page()
    line.stop()
    shows(tab, "#status", "no connection")
    shows(tab, "#notices", "does not answer")
    tab.complaints.clear()  # the browser's own, of connections refused


# --- another threshold -------------------------------------------------------------------------------------------


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
def test_the_slider_shows_at_once_what_would_have_changed_and_changes_nothing(
    page: Open, line: Station, width: int
) -> None:
    tab = page(width)
    for share in (0.35, 0.85):
        tab.drag("#slider", share)
        tried = float(tab.value('document.querySelector("#exact").value'))
        then, now = sum(grey > tried for grey in GREYS), sum(grey > THRESHOLD for grey in GREYS)
        assert then != now
        shows(tab, "#effect", f"{tried:.1f} instead of 140.0")
        assert f"Rejects of the last 10 parts: {now} → {then}" in tab.text("#effect")
        verb = "accepted that" if then < now else "rejected that"
        assert f"{abs(then - now)} part{'s' if abs(then - now) > 1 else ''} would have been {verb}" in tab.text(
            "#effect"
        )
    assert tab.value("document.documentElement.scrollWidth") == width
    tab.click("#reset")
    shows(tab, "#effect", "140.0 rejects 3 parts of the last 10")
    assert Client(line).get("/api/teaching")["history"] == []


@needs_chromium
def test_the_slider_moves_by_keys(page: Open) -> None:
    tab = page()
    tab.value('document.querySelector("#slider").focus()')
    tab.press("ArrowRight")
    tab.until('!document.querySelector("#apply").disabled')
    assert float(tab.value('document.querySelector("#exact").value')) > THRESHOLD
    assert "rejects of 10" in tab.value('document.querySelector("#slider").getAttribute("aria-valuetext")')


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
def test_a_threshold_is_set_with_name_and_reason_and_gone_back_from(page: Open, line: Station, width: int) -> None:
    tab = page(width)
    tab.type("#exact", "155")
    shows(tab, "#effect", "1 part would have been accepted")
    tab.click("#apply")
    tab.click("#confirm-go")  # nothing was said yet
    assert tab.value('document.querySelector("#confirm").open')
    tab.type("#who", "Ada")
    tab.type("#why", "Drawing C allows it")
    tab.press("Enter")
    shows(tab, "#in-use", "155.0 in use, version 3")
    assert not tab.value('document.querySelector("#confirm").open')
    assert [v.verdict for v in judge(line, 6, first=10)] == ["good"] * 5 + ["anomalous"]
    tab.click("summary")
    assert "Drawing C allows it" in tab.text("#history") and "Ada" in tab.text("#history")
    tab.click("#history tr:nth-child(2) button")
    assert "More sensitive" in tab.text("#confirm-effects")
    assert tab.value('document.querySelector("#why").value') == "back to version 2"
    tab.click("#confirm-go")
    shows(tab, "#in-use", "140.0 in use, version 4")
    assert [v.verdict for v in judge(line, 9, first=16)][-1] == "anomalous"


@needs_chromium
def test_marked_parts_are_refitted_and_a_marked_defect_is_let_through_by_nobody_unseen(
    page: Open, line: Station
) -> None:
    tab = page()
    tab.click('[data-marks="5"] [data-mark="good"]')
    give_name(tab)
    shows(tab, "#marked", "1 good, 0 defects")
    tab.click('[data-marks="6"] [data-mark="defect"]')
    shows(tab, "#marked", "1 good, 1 defect")
    tab.type("#rate", "5")
    tab.click("#refit button")
    shows(tab, "#effect", "At 150.0 instead of 140.0")
    assert tab.value('document.querySelector("#missed").hidden')
    tab.type("#exact", "165")
    shows(tab, "#missed", "1 part marked as a defect would be accepted: part-5")
    tab.click("#apply")
    tab.type("#why", "trial")
    tab.click("#confirm-go")  # the box is not ticked
    assert tab.value('document.querySelector("#confirm").open')
    assert Client(line).get("/api/teaching")["history"] == []
    tab.click("#accepts")
    tab.click("#confirm-go")
    shows(tab, "#in-use", "165.0 in use, version 3")
    tab.click('[data-marks="6"] [data-mark="defect"]')  # it is taken back
    shows(tab, "#marked", "1 good, 0 defects")


# --- parts and recipes -------------------------------------------------------------------------------------------


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
def test_a_part_is_looked_at_by_keys_and_found_by_its_id(page: Open, width: int) -> None:
    tab = page(width)
    tab.value('document.querySelector("#gallery .card > button").focus()')
    tab.press("Enter")
    shows(tab, "#viewer-title", "part-9: rejected")
    tab.until('document.querySelector("#viewer-image").naturalHeight === 356')  # with the strip of the heat map
    tab.press("ArrowRight")
    shows(tab, "#viewer-title", "part-5: rejected")
    assert "160.0, threshold 140.0 (version 2)" in tab.text("#viewer-facts")
    tab.click("#heat")
    tab.until('document.querySelector("#viewer-image").naturalHeight === 16')  # as the camera saw it
    assert tab.value("document.documentElement.scrollWidth") == width
    tab.press("Escape")
    tab.until('!document.querySelector("#viewer").open')
    tab.type("#part", "part-2")
    tab.press("Enter")
    tab.until('document.querySelectorAll("#gallery .card").length === 1')
    assert tab.text("#gallery .card b") == "part-2"
    tab.click('#kinds button[value="good"]')
    tab.until(f'document.querySelectorAll("#gallery .card").length === {ACCEPTED}')


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
def test_the_recipe_is_switched(page: Open, line: Station, width: int) -> None:
    tab = page(width)
    assert tab.value('document.querySelector("#switch").disabled')
    tab.choose("#recipe", "housing")
    tab.click("#switch")
    shows(tab, "#in-use", "165.0 in use, version 2")
    assert line.recipes.current.name == "housing"
    judge(line, 6, first=10)
    shows(tab, "#facts", "165.0, version 2")
    assert tab.text("#word") == "GOOD"  # a grey of 160
    line.switch_recipe("bright")  # by somebody else
    tab.until('document.querySelector("#recipe").value === "bright"')
    shows(tab, "#in-use", "140.0 in use")
