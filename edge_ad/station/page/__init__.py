"""The station's page: one HTML file, its style sheet and its scripts, and what they ask of the station.

The files are served as they are: there is no build step, and nothing comes from elsewhere. They hold no data, so they
need no token; everything that they show comes from the interface, which asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from edge_ad.durable import sha256
from edge_ad.station.http.server import Request, Response, Route
from edge_ad.station.page.api import teaching_routes

if TYPE_CHECKING:
    from edge_ad.station.station import Station

__all__ = ["page_routes"]

_FOLDER = Path(__file__).parent
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_GUARDS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


def page_routes(station: Station) -> list[Route]:
    """The page, and what it asks for beyond the rest of the interface."""
    files = sorted(path for path in _FOLDER.iterdir() if path.suffix in _TYPES)
    assets = [Route("GET", _pattern(path), _answer(path), is_open=True) for path in files]
    return [*assets, *teaching_routes(station)]


def _pattern(path: Path) -> str:
    return "/(?:index[.]html)?" if path.name == "index.html" else f"/{path.stem}[.]{path.suffix[1:]}"


def _answer(path: Path) -> Callable[[Request], Response]:
    content, kind = path.read_bytes(), f"{_TYPES[path.suffix]}; charset=utf-8"
    headers = {**_GUARDS, "ETag": f'"{sha256(content)[:16]}"'}

    def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(content_type=kind, content=content, headers=headers)

    return answer
