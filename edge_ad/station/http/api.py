"""What the HTTP interface answers under /api; docs/station-api.md describes it for clients."""

from __future__ import annotations

import hmac
import json
import re
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from edge_ad.station.http.live import LiveImages
from edge_ad.station.http.metrics import CONTENT_TYPE, metrics
from edge_ad.station.http.server import COOKIE, HttpError, Request, Response, Route, as_json
from edge_ad.station.images import image_path
from edge_ad.station.publishing import message
from edge_ad.station.query import Query, Reader, parse_time
from edge_ad.station.verdict import VERDICTS, Verdict

if TYPE_CHECKING:
    from edge_ad.station.station import Station

__all__ = ["api_routes"]

USUAL_LIMIT, MOST_LIMIT = 100, 1000
WIDTHS = (320, 640, 960, 1280, 1920)  # of live images; a few, so that drawn ones are shared
LONGEST_WAIT_MS = 60_000
_HEARTBEAT_S, _STATE_S = 10.0, 0.5
_BATCH = 100

T = TypeVar("T")


def api_routes(station: Station, live: LiveImages, token: str | None) -> list[Route]:
    """The routes below /api of a station."""
    api = _Api(station, live, token)
    return [
        Route("GET", "/api/state", api.state),
        Route("GET", "/api/verdicts", api.verdicts),
        Route("GET", "/api/verdicts/([0-9]{1,18})", api.verdict),
        Route("GET", r"/api/images/([0-9]{1,18})\.(png|jpg)", api.image),
        Route("GET", r"/api/images/live/([^/]+)\.jpg", api.live),
        Route("GET", "(?:/api)?/metrics", api.metrics),
        Route("GET", "/api/events", api.events),
        Route("POST", "/api/trigger", api.trigger),
        Route("POST", "/api/recipe", api.recipe),
        Route("POST", "/api/login", api.login, is_open=True),
    ]


class _Api:
    def __init__(self, station: Station, live: LiveImages, token: str | None) -> None:
        self._station, self._live, self._token = station, live, token
        self._folder = station.settings.record.folder

    def state(self, request: Request) -> Response:
        return as_json(self._station.state())

    def metrics(self, request: Request) -> Response:
        return Response(content_type=CONTENT_TYPE, content=metrics(self._station))

    # --- the record ----------------------------------------------------------------------------------------------

    def verdicts(self, request: Request) -> Response:
        query = _query(request)
        before = _given(request, "before", _whole(1, 2**62))
        with Reader(self._folder) as reader:
            beyond = None if before is None else reader.verdict(before)
            if before is not None and beyond is None:
                return as_json({"verdicts": [], "next": None})
            found = list(reader.verdicts(query, beyond=beyond))
            counts = reader.counts(query) if "counts" in request.query else None
        following = found[-1].id if len(found) == query.limit else None
        tree: dict[str, Any] = {"verdicts": [self._told(verdict) for verdict in found], "next": following}
        return as_json(tree if counts is None else {**tree, "counts": {name: counts.get(name, 0) for name in VERDICTS}})

    def verdict(self, request: Request, verdict_id: str) -> Response:
        return as_json(self._told(self._find(int(verdict_id))))

    def image(self, request: Request, verdict_id: str, kind: str) -> Response:
        path = image_path(self._folder, self._station.uid, self._find(int(verdict_id)), f".{kind}")
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise HttpError(
                HTTPStatus.NOT_FOUND,
                f"The image of verdict {verdict_id} is not here.",
                expected="a reject, a fault with a frame or a sampled accept, not given up for the quota",
            ) from exc
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(content_type="image/png" if kind == "png" else "image/jpeg", content=content, headers=headers)

    def _find(self, verdict_id: int) -> Verdict:
        with Reader(self._folder) as reader:
            verdict = reader.verdict(verdict_id)
        if verdict is None:
            raise HttpError(HTTPStatus.NOT_FOUND, f"There is no verdict {verdict_id} in the record.")
        return verdict

    def _told(self, verdict: Verdict) -> dict[str, Any]:
        has_image = image_path(self._folder, self._station.uid, verdict).exists()
        return {**message(self._station, verdict), "image": f"/api/images/{verdict.id}.png" if has_image else None}

    # --- what happens now ----------------------------------------------------------------------------------------

    def live(self, request: Request, camera: str) -> Response:
        width = _given(request, "width", _width) or 640
        tag = f'"{self._station.run}-{self._live.latest_id(camera)}-{width}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": tag})
        content = self._live.jpeg(camera, width)
        if content is None:
            raise HttpError(
                HTTPStatus.NOT_FOUND, f"Camera {camera} has shown nothing yet.", expected=", ".join(self._station.feeds)
            )
        return Response(content_type="image/jpeg", content=content, headers={"ETag": tag, "Cache-Control": "no-cache"})

    def events(self, request: Request) -> Response:
        last = _whole(0, 2**62)
        after = _given(request, "after", last)
        told = request.headers.get("last-event-id", "")
        if after is None:
            after = int(told) if re.fullmatch("[0-9]{1,18}", told) else self._station.recorder.newest_id
        return Response(content_type="text/event-stream", stream=self._stream(after))

    def _stream(self, after: int) -> Iterator[bytes]:
        """Read from the record, so a client that is slow, or was away, misses nothing."""
        summary, beat_s = None, time.monotonic()
        with Reader(self._folder) as reader:
            while not self._station.is_over:
                if summary != (current := self._station.summary()):
                    summary, beat_s = current, time.monotonic()
                    yield _event("state", current)
                if self._station.recorder.wait_beyond(after, _STATE_S):
                    for verdict in reader.after(after, _BATCH):
                        after, beat_s = verdict.id, time.monotonic()
                        yield _event("verdict", self._told(verdict), after)
                elif time.monotonic() - beat_s > _HEARTBEAT_S:
                    beat_s = time.monotonic()
                    yield b": still here\n\n"

    # --- what can be asked for -----------------------------------------------------------------------------------

    def trigger(self, request: Request) -> Response:
        part_id, camera, recipe = (_text(request, name) for name in ("part_id", "camera", "recipe"))
        wait_ms = request.body.get("wait_ms", 0)
        if type(wait_ms) not in (int, float) or not 0 <= wait_ms <= LONGEST_WAIT_MS:
            raise _wrong("wait_ms", f"a number from 0 to {LONGEST_WAIT_MS}", wait_ms)
        tickets = self._station.trigger(part_id, camera=camera, recipe=recipe)
        until_s = time.monotonic() + wait_ms / 1e3
        verdicts = [ticket.wait(max(0.0, until_s - time.monotonic())) if wait_ms else None for ticket in tickets]
        triggers = [
            {
                "trigger_id": ticket.id,
                "camera": ticket.camera,
                "verdict": None if verdict is None else message(self._station, verdict),
            }
            for ticket, verdict in zip(tickets, verdicts, strict=True)
        ]
        return as_json({"triggers": triggers}, HTTPStatus.ACCEPTED if None in verdicts else HTTPStatus.OK)

    def recipe(self, request: Request) -> Response:
        name = _text(request, "recipe")
        if name is None:
            raise _wrong("recipe", " or ".join(self._station.recipes.names), None)
        self._station.switch_recipe(name)
        return as_json(self._station.recipes.current.to_json())

    def login(self, request: Request) -> Response:
        given = (_text(request, "token") or "").encode()
        if self._token is not None and not hmac.compare_digest(given, self._token.encode()):
            raise HttpError(HTTPStatus.UNAUTHORIZED, "The token is wrong.")
        cookie = f"{COOKIE}={self._token or ''}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"
        return Response(content=b"{}\n", headers={"Set-Cookie": cookie})


def _event(name: str, tree: object, event_id: int | None = None) -> bytes:
    first = "" if event_id is None else f"id: {event_id}\n"
    return f"{first}event: {name}\ndata: {json.dumps(tree)}\n\n".encode()


def _query(request: Request) -> Query:
    verdict = _given(request, "verdict", _verdicts)
    return Query(
        since_ns=_given(request, "since", parse_time),
        until_ns=_given(request, "until", parse_time),
        camera=request.query.get("camera"),
        part_id=request.query.get("part_id"),
        recipe=request.query.get("recipe"),
        verdicts=verdict,
        limit=_given(request, "limit", _whole(1, MOST_LIMIT)) or USUAL_LIMIT,
        oldest_first=request.query.get("order") == "oldest",
    )


def _verdicts(text: str) -> Any:
    names = tuple(text.split(","))
    if not set(names) <= set(VERDICTS):
        raise ValueError(f"one or several of {','.join(VERDICTS)}")
    return names


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return read


def _width(text: str) -> int:
    """The narrowest of WIDTHS that is as wide as was asked for."""
    wanted = _whole(1, 100_000)(text)
    return next((width for width in WIDTHS if width >= wanted), WIDTHS[-1])


def _given(request: Request, name: str, read: Callable[[str], T]) -> T | None:
    """The value of a query's name, None if it is not there."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        return read(text)
    except ValueError as error:
        raise _wrong(name, error, text) from error


def _text(request: Request, name: str) -> str | None:
    value = request.body.get(name)
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= 256):
        raise _wrong(name, "a text of 1 to 256 characters", value)
    return value


def _wrong(name: str, expected: object, got: object) -> HttpError:
    return HttpError(HTTPStatus.BAD_REQUEST, f"{name} is wrong.", expected=expected, got=repr(got)[:200])
