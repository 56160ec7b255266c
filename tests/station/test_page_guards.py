"""Who may look at the page, what it lets a browser do, and whether everybody can use it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_ad.report.style import STYLE
from edge_ad.station.page import page_routes
from tests.habits.repository import ROOT
from tests.station.browser import Browser
from tests.station.conftest import MakeStation
from tests.station.shown import Open, browser, line, needs_chromium, page, shows
from tests.station.taught import judge, show_greys
from tests.station.test_http import Client

__all__ = ["browser", "line", "page"]  # fixtures

PAGE = ROOT / "edge_ad" / "station" / "page"


@needs_chromium
def test_opened_to_others_it_asks_for_the_token_and_keeps_it_out_of_addresses(
    browser: Browser, station: MakeStation, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-long-secret\n")
    text = show_greys(tmp_path / "greys").replace(
        "[http]\nport = 0", '[http]\nhost = "0.0.0.0"\nport = 0\ntoken_file = "token"'
    )
    opened = station(text)
    assert opened.http is not None
    tab = browser.open(f"http://127.0.0.1:{opened.http.port}/")
    tab.type("#token", "a-guess")
    tab.press("Enter")
    shows(tab, "#sign-in-said", "The token is wrong.")
    tab.type("#token", "a-long-secret")
    tab.press("Enter")
    tab.until('!document.querySelector("#sign-in").open && !document.querySelector("#sign-out").hidden')
    judge(opened, 1)
    shows(tab, "#facts", "part-0")
    assert not [url for url in tab.urls if "secret" in url or "guess" in url]
    assert "a-long-secret" not in tab.value("document.cookie + JSON.stringify(localStorage)")
    tab.click("#sign-out")
    tab.until('document.querySelector("#sign-in").open')
    tab.close()


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_everything_that_is_pressed_has_a_name_and_every_text_can_be_read(page: Open, dark: bool) -> None:
    tab = page(dark=dark)
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "combobox", "slider", "spinbutton", "textbox", "searchbox", "checkbox", "image", "img"}
    nodes = [node for node in tree if node.get("role", {}).get("value") in roles and not node["ignored"]]
    assert len(nodes) > 20
    assert [node for node in nodes if not node.get("name", {}).get("value")] == []
    colours = tab.value(
        "(() => { const style = getComputedStyle(document.documentElement); return Object.fromEntries("
        '["page", "panel", "soft", "ink", "muted", "good", "bad", "warn", "accent", "on", "good-soft", "bad-soft",'
        ' "warn-soft"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()])); })()'
    )
    on_paper = [(ink, paper) for ink in ("ink", "muted", "good", "bad") for paper in ("panel", "soft")]
    on_colour = [("on", colour) for colour in ("good", "bad", "warn", "accent")]
    on_pills = [(colour, f"{colour}-soft") for colour in ("good", "bad", "warn")]
    weak = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in [*on_paper, *on_colour, *on_pills]}
    assert {pair: value for pair, value in weak.items() if value < 4.5} == {}  # WCAG 2.2, level AA


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_page_has_the_colours_of_the_reports() -> None:
    token = re.compile(r"--[a-z-]+: #[0-9a-f]{6}")
    assert set(token.findall(STYLE)) <= set(token.findall((PAGE / "station.css").read_text()))


def test_the_files_are_served_with_guards_need_no_token_and_hold_no_data(station: MakeStation, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-long-secret\n")
    text = show_greys(tmp_path / "greys").replace("port = 0", 'port = 0\ntoken_file = "token"')
    opened = station(text)
    client = Client(opened)
    names = sorted(path.name for path in PAGE.iterdir() if path.suffix in (".html", ".css", ".js", ".svg"))
    assert "station.js" in names and "index.html" in names
    for name in ("", *names):
        answer = client.ask("GET", f"/{name}")
        assert answer.status == 200 and answer.content == (PAGE / (name or "index.html")).read_bytes()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert client.ask("GET", f"/{name}", If_None_Match=answer.headers["ETag"]).status == 304
    for name in ("api.py", "__init__.py", "../station.py", "%2e%2e/station.toml"):
        assert client.ask("GET", f"/{name}").status == 404
    for route in page_routes(opened):
        if route.pattern.startswith("/api/") and "(" not in route.pattern:
            body = {} if route.method == "POST" else None
            assert client.ask(route.method, route.pattern, body).status == 401, route
