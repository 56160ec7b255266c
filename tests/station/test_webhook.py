"""The webhook against a real HTTP server that fails as servers do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.station.conftest import CAMERA, MakeStation
from tests.station.made import until


class Receiver:
    """A server that takes verdicts.

    Attributes:
        seen: (message, headers), those it refused too.
        answers: Statuses for the next requests; 200 when they are used up, None to hang up without an answer.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.answers: list[int | None] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.seen.append((message, {**self.headers, "path": self.path}))
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    yield opened
    opened.close()


def posting_to(port: int, path: str = "/verdicts?line=3") -> str:
    return CAMERA + f'[[publish]]\nkind = "webhook"\nurl = "http://127.0.0.1:{port}{path}"\ntoken_file = "token"\n'


def test_each_verdict_is_posted_in_order_and_again_until_it_is_taken(
    station: MakeStation, receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("mes-secret")
    receiver.answers = [200, 503, 429, None, 301, 200]
    running = station(posting_to(receiver.port))
    tickets = [running.trigger()[0] for _ in range(5)]
    assert all(ticket.wait(20) for ticket in tickets)
    until(lambda: running.couriers[0].delivered == 5)
    assert [message["id"] for message, _ in receiver.seen] == [1, 2, 2, 2, 2, 2, 3, 4, 5]
    message, headers = receiver.seen[0]
    assert message["record"] == running.uid and message["verdict"] == "anomalous"
    assert headers["path"] == "/verdicts?line=3" and headers["Authorization"] == "Bearer mes-secret"
    assert [h["Idempotency-Key"] for _, h in receiver.seen[:3]] == [f"{running.uid}-{n}" for n in (1, 2, 2)]


def test_verdicts_wait_for_a_receiver_that_is_not_there(
    station: MakeStation, receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("mes-secret")
    receiver.close()
    running = station(posting_to(receiver.port))
    (ticket,) = running.trigger()
    assert ticket.wait(20)
    until(lambda: "does not answer" in running.couriers[0].failure)
    assert running.state()["state"] == "running"
    assert running.couriers[0].to_json()["waiting"] == 1
