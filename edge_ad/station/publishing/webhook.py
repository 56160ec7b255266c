"""A webhook: each verdict is POSTed as JSON to one URL, in order, and again until the answer is a success.

The header `Idempotency-Key` is RECORD-ID, the same each time a verdict is sent: when an answer is lost on its way, the
verdict comes again, and the receiver knows it by that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from edge_ad import __version__
from edge_ad.errors import DeliveryFailed
from edge_ad.station.publishing import Control, message
from edge_ad.station.table import Table
from edge_ad.station.verdict import Verdict

__all__ = ["WebhookPublisher", "WebhookSettings", "read_webhook"]


@dataclass(frozen=True, kw_only=True)
class WebhookSettings:
    """[[publish]] kind = "webhook"

    Attributes:
        token: Sent as `Authorization: Bearer`.
    """

    url: str
    token: str | None
    timeout_s: float


def read_webhook(table: Table) -> Callable[[Control], WebhookPublisher]:
    """Read the settings; the server need not be there."""
    settings = WebhookSettings(
        url=table.text("url"), token=table.secret("token_file"), timeout_s=table.number("timeout_s", 0.1, 300, 5.0)
    )
    if not _is_url(settings.url):
        raise table.wrong("url", "http://HOST/PATH or https://HOST/PATH", settings.url)
    return lambda control: WebhookPublisher(settings, control)


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


class WebhookPublisher:
    """A client of one URL; it keeps its connection open."""

    def __init__(self, settings: WebhookSettings, control: Control) -> None:
        self._control, self._settings = control, settings
        url = urlsplit(settings.url)
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        self._connection: HTTPConnection = kind(url.hostname or "", url.port, timeout=settings.timeout_s)
        self._path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._headers = {"Content-Type": "application/json", "User-Agent": f"edge-ad/{__version__}"}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token}"

    def deliver(self, verdicts: Sequence[Verdict]) -> int:
        """See Publisher.deliver."""
        for count, verdict in enumerate(verdicts):
            try:
                self._post(verdict)
            except DeliveryFailed:
                if count:
                    return count
                raise
        return len(verdicts)

    def _post(self, verdict: Verdict) -> None:
        headers = {**self._headers, "Idempotency-Key": f"{self._control.uid}-{verdict.id}"}
        try:
            self._connection.request("POST", self._path, json.dumps(message(self._control, verdict)), headers)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, HTTPException) as exc:
            self._connection.close()  # the next request opens a new one
            raise DeliveryFailed(f"{self._settings.url} does not answer ({exc!r}).") from exc
        if not 200 <= answer.status < 300:
            raise DeliveryFailed(f"{self._settings.url} answers {answer.status} {answer.reason}.")

    def tell(self, state: Mapping[str, Any]) -> None:
        """Nothing: it is told of verdicts only."""

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._connection.close()
