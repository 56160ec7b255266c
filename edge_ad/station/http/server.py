"""A small HTTP server on the standard library: routes, a token, and the guards that a browser makes necessary.

It is for one station's few clients, not for the internet. Beyond the machine itself it wants a token. A web page of
somebody else's cannot use it: requests that change something must be JSON and of the same origin, which a browser asks
permission for and is never given, and on the machine itself only its own names are answered (DNS rebinding).
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from edge_ad import __version__
from edge_ad.errors import EdgeAdError, StationError, TriggerRefused
from edge_ad.station.settings import HttpSettings
from edge_ad.station.table import LOOPBACK

__all__ = ["COOKIE", "HttpError", "HttpServer", "Request", "Response", "Route", "as_json"]

COOKIE = "edge_ad_token"
MOST_CONNECTIONS = 64
MOST_BODY_BYTES = 64 << 10
TIMEOUT_S = 30.0

_log = logging.getLogger(__name__)


class HttpError(Exception):
    """An answer other than success.

    Args:
        status: Of HTTP.
        what, expected, got, fix: As those of EdgeAdError.
    """

    def __init__(
        self, status: HTTPStatus, what: str, *, expected: object = None, got: object = None, fix: object = None
    ) -> None:
        self.status, self.what, self.expected, self.got, self.fix = status, what, expected, got, fix
        super().__init__(what)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked.

    Attributes:
        query: Of the URL; the last one counts where a name stands twice.
        body: The JSON object of a POST, {} without one.
        headers: By name, in lower case.
    """

    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Response:
    """The answer: its content at once, or a stream that goes on until the client leaves."""

    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "application/json"
    content: bytes = b""
    stream: Iterable[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """A method, a pattern of the whole path, and what answers: it is given the request and the pattern's groups.

    Attributes:
        is_open: Whether it needs no token.
    """

    method: str
    pattern: str
    answer: Callable[..., Response]
    is_open: bool = False


def as_json(tree: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """A response that holds JSON."""
    return Response(status=status, content=json.dumps(tree, allow_nan=False).encode() + b"\n")


class HttpServer:
    """Serves routes in threads of its own.

    Args:
        settings: Where, and the token.
        routes: The first that matches answers.

    Attributes:
        port: It listens on; of use where the settings ask for port 0, any that is free.

    Raises:
        StationError: The address is taken, or not this machine's.
    """

    def __init__(self, settings: HttpSettings, routes: Sequence[Route]) -> None:
        handler = type("Handler", (_Handler,), {"settings": settings, "routes": tuple(routes)})
        try:
            self._server = _Server((settings.host, settings.port), handler)
        except OSError as exc:
            raise StationError(
                f"{settings.host}:{settings.port} cannot be listened on.",
                got=exc.strerror or exc,
                fix="choose another host or port in [http]",
            ) from exc
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering; a second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        if ":" in address[0]:
            from socket import AF_INET6

            self.address_family = AF_INET6
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        _log.debug("the connection of %s broke off", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    settings: HttpSettings
    routes: tuple[Route, ...]
    protocol_version = "HTTP/1.1"
    server_version = f"edge-ad/{__version__}"
    sys_version = ""
    timeout = TIMEOUT_S
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        try:
            response = self._answer(method)
        except HttpError as error:
            response = _error(error)
        except TriggerRefused as error:
            response = _error(_as_http(error, HTTPStatus.SERVICE_UNAVAILABLE))
        except EdgeAdError as error:
            response = _error(_as_http(error, HTTPStatus.CONFLICT))
        except Exception:
            _log.exception("%s %s failed", method, self.path)
            response = _error(HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, "The station failed to answer; see its log."))
        self._send(response)

    def _answer(self, method: str) -> Response:
        url = urlsplit(self.path)
        body = self._body() if method == "POST" else {}
        path = unquote(url.path)
        found = [(route, re.fullmatch(route.pattern, path)) for route in self.routes]
        matching = [(route, match) for route, match in found if match]
        if not matching:
            raise HttpError(HTTPStatus.NOT_FOUND, f"There is no {url.path}.", fix="docs/station-api.md lists all")
        for route, match in matching:
            if route.method == method:
                self._check(route)
                headers = {name.lower(): value for name, value in self.headers.items()}
                return route.answer(
                    Request(query=dict(parse_qsl(url.query, keep_blank_values=True)), body=body, headers=headers),
                    *match.groups(),
                )
        allowed = " or ".join(route.method for route, _ in matching)
        raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, f"{url.path} has no {method}.", expected=allowed, got=method)

    def _check(self, route: Route) -> None:
        host = self.headers.get("Host", "")
        if self.settings.host in LOOPBACK and urlsplit(f"//{host}").hostname not in LOOPBACK:
            raise HttpError(HTTPStatus.FORBIDDEN, "This name is not this machine's.", expected="localhost", got=host)
        origin = self.headers.get("Origin")
        if route.method != "GET" and origin is not None and urlsplit(origin).netloc != host:
            raise HttpError(HTTPStatus.FORBIDDEN, "Another site's page may not do that.", expected=host, got=origin)
        if self.settings.token is None or route.is_open or self._has_token(self.settings.token):
            return
        raise HttpError(
            HTTPStatus.UNAUTHORIZED, "The token is missing or wrong.", expected="Authorization: Bearer TOKEN"
        )

    def _has_token(self, token: str) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            try:
                cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
            except CookieError:
                cookie = None
            given = cookie.value if cookie else ""
        return hmac.compare_digest(given.strip().encode(), token.encode())

    def _body(self) -> dict[str, Any]:
        """The JSON object that was sent. What cannot be read to its end also ends the connection."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MOST_BODY_BYTES or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise HttpError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too long.", expected=f"{MOST_BODY_BYTES} bytes"
            )
        content = self.rfile.read(int(length))
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HttpError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is not JSON.", expected="Content-Type: application/json"
            )
        try:
            tree = json.loads(content or b"{}")
            json.dumps(tree, ensure_ascii=False).encode()  # half a surrogate pair is JSON, and no text that can be kept
        except (ValueError, RecursionError) as exc:
            raise HttpError(HTTPStatus.BAD_REQUEST, "The body is not JSON.", got=str(exc)) from exc
        if not isinstance(tree, dict):
            raise HttpError(
                HTTPStatus.BAD_REQUEST, "The body is not a JSON object.", expected='such as {"part_id": "7"}'
            )
        return tree

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        headers = {
            "Content-Type": response.content_type,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **response.headers,
        }
        if response.stream is None:
            headers["Content-Length"] = str(len(response.content))
        else:
            self.close_connection = True
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if response.stream is None:
            self.wfile.write(response.content)
            return
        for piece in response.stream:
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


def _as_http(error: EdgeAdError, status: HTTPStatus) -> HttpError:
    return HttpError(status, error.what, expected=error.expected, got=error.got, fix=error.fix)


def _error(error: HttpError) -> Response:
    rows = {"what": error.what, "expected": error.expected, "got": error.got, "fix": error.fix}
    response = as_json({"error": {name: str(value) for name, value in rows.items() if value is not None}}, error.status)
    if error.status == HTTPStatus.UNAUTHORIZED:
        return Response(status=error.status, content=response.content, headers={"WWW-Authenticate": "Bearer"})
    return response
