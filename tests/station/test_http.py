"""The HTTP interface, asked by a real client over a real socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_ad.errors import SettingsError, StationError
from edge_ad.station.http.server import COOKIE, MOST_CONNECTIONS, HttpServer
from edge_ad.station.query import Reader
from edge_ad.station.settings import HttpSettings
from edge_ad.station.station import Station
from tests.golden_bundle import brightness_bundle, spoil_manifest
from tests.station.conftest import CAMERA, MakeSettings, MakeStation
from tests.station.made import until

SERVED = CAMERA + "[http]\nport = 0\n[record]\naccept_every = 1\n"


@pytest.fixture
def served(station: MakeStation) -> Station:
    return station(SERVED)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


class Client:
    """A client of one station; a connection for each request."""

    def __init__(self, station: Station, **headers: str) -> None:
        assert station.http is not None
        self.port, self.headers = station.http.port, headers

    @contextmanager
    def asking(self, method: str, path: str, body: object = None, **headers: str) -> Iterator[HTTPResponse]:
        """The response, while it is read."""
        sent = {} if body is None else {"Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items()}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            with closing(connection.getresponse()) as response:
                yield response

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        with self.asking(method, path, body, **headers) as response:
            return Answer(response.status, response.headers, response.read())

    def get(self, path: str, **headers: str) -> Any:
        answer = self.ask("GET", path, **headers)
        assert answer.status == 200, answer.content
        return answer.json()

    def post(self, path: str, body: object) -> tuple[int, Any]:
        answer = self.ask("POST", path, body)
        return answer.status, answer.json()


def judged(client: Client, *part_ids: str) -> list[dict[str, Any]]:
    """Trigger one after the other; the verdicts."""
    found = []
    for part_id in part_ids:
        status, answer = client.post("/api/trigger", {"part_id": part_id, "wait_ms": 20_000})
        assert status == 200, answer
        found.append(answer["triggers"][0]["verdict"])
    return found


def test_a_trigger_is_answered_at_once_or_with_its_verdict(served: Station) -> None:
    client = Client(served)
    status, answer = client.post("/api/trigger", {"part_id": "4711"})
    assert status == 202
    assert answer["triggers"] == [{"trigger_id": "1-1", "camera": "top", "verdict": None}]
    (verdict,) = judged(client, "4712")
    assert verdict["part_id"] == "4712" and verdict["trigger_id"] == "1-2" and verdict["verdict"] == "anomalous"
    assert verdict["record"] == served.uid and verdict["station"] == "station"


def test_the_state_says_how_the_station_is(served: Station) -> None:
    client = Client(served)
    judged(client, "1", "2")
    state = client.get("/api/state")
    assert state["state"] == "running" and state["problems"] == [] and state["recipe"] == "bright"
    assert state["counts"] == {"triggers": 2, "good": 0, "anomalous": 2, "fault": 0, "open": 0, "void": 0}
    assert state["cameras"][0]["connected"] and state["cameras"][0]["frames"] == 2
    assert state["models"]["top"]["threshold_version"] == 1
    assert state["latency"]["top"]["total"]["count"] == 2


def test_verdicts_are_found_and_paged(served: Station) -> None:
    client = Client(served)
    judged(client, *"abcde")
    first = client.get("/api/verdicts?limit=2&counts")
    assert [v["part_id"] for v in first["verdicts"]] == ["e", "d"]
    assert first["counts"] == {"good": 0, "anomalous": 5, "fault": 0}
    second = client.get(f"/api/verdicts?limit=2&before={first['next']}")
    assert [v["part_id"] for v in second["verdicts"]] == ["c", "b"]
    third = client.get(f"/api/verdicts?limit=2&before={second['next']}")
    assert [v["part_id"] for v in third["verdicts"]] == ["a"] and third["next"] is None
    assert [v["part_id"] for v in client.get("/api/verdicts?order=oldest&limit=1")["verdicts"]] == ["a"]
    assert [v["id"] for v in client.get("/api/verdicts?part_id=c")["verdicts"]] == [3]
    assert client.get("/api/verdicts?verdict=good,fault")["verdicts"] == []
    assert len(client.get("/api/verdicts?since=1h&verdict=anomalous&camera=top")["verdicts"]) == 5
    assert client.get("/api/verdicts?since=2100-01-01")["verdicts"] == []
    assert client.get("/api/verdicts/3")["part_id"] == "c"


def test_a_wrong_query_is_told_what_was_expected(served: Station) -> None:
    for query, expected in (
        ("since=yesterday", "how long ago"),
        ("limit=0", "1 to 1000"),
        ("limit=ten", "1 to 1000"),
        ("verdict=bad", "good,anomalous,fault"),
        ("before=-1", "a whole number"),
    ):
        answer = Client(served).ask("GET", f"/api/verdicts?{query}")
        assert answer.status == 400
        assert expected in answer.json()["error"]["expected"]


def test_images_of_the_record_and_of_now(served: Station) -> None:
    client = Client(served)
    assert client.ask("GET", "/api/images/live/top.jpg").status == 404
    judged(client, "a")
    until(lambda: client.get("/api/verdicts/1")["image"] and served.images.kept)
    answer = client.ask("GET", "/api/images/1.png")
    assert answer.headers["Content-Type"] == "image/png"
    frame = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert frame is not None and frame.shape == (16, 24, 3)
    assert client.ask("GET", "/api/images/1.jpg").status == 200
    live = client.ask("GET", "/api/images/live/top.jpg?width=320")
    shown = cv2.imdecode(np.frombuffer(live.content, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None and shown.shape[1] == 320
    tag = live.headers["ETag"]
    assert client.ask("GET", "/api/images/live/top.jpg?width=320", If_None_Match=tag).status == 304
    judged(client, "b")
    assert client.ask("GET", "/api/images/live/top.jpg?width=320", If_None_Match=tag).status == 200
    for missing in ("/api/images/99.png", "/api/images/live/side.jpg", "/api/images/../record.sqlite"):
        assert client.ask("GET", missing).status == 404


def events(response: HTTPResponse) -> Iterator[dict[str, str]]:
    """The events of a stream, as the HTML standard has them parsed."""
    event: dict[str, str] = {}
    for line in response:
        text = line.decode().rstrip("\n")
        if text and not text.startswith(":"):
            name, _, value = text.partition(": ")
            event[name] = value
        elif event:
            yield event
            event = {}


def test_events_tell_the_state_and_every_verdict_and_go_on_where_a_client_was(served: Station) -> None:
    client = Client(served)
    judged(client, "a")
    with client.asking("GET", "/api/events") as response:
        stream = events(response)
        first = next(stream)
        assert first["event"] == "state" and json.loads(first["data"])["state"] == "running"
        judged(client, "b", "c")
        told = [next(stream), next(stream)]
        assert [(e["event"], e["id"], json.loads(e["data"])["part_id"]) for e in told] == [
            ("verdict", "2", "b"),
            ("verdict", "3", "c"),
        ]
    for path, headers in (("/api/events", {"Last_Event_ID": "1"}), ("/api/events?after=1", {})):
        with client.asking("GET", path, **headers) as response:
            assert [event.get("id") for event in islice(events(response), 3)] == [None, "2", "3"]


def test_the_trend_is_around_the_mean_that_the_bundle_tells(station: MakeStation, tmp_path: Path) -> None:
    spoil_manifest(tmp_path / "bright.bundle", lambda tree: tree["precisions"]["fp32"].update(score_mean=104.0))
    calibration = Client(station(SERVED)).get("/api/trend")["calibration"]
    assert calibration["mean"] == 104.0 and not calibration["mean_is_estimated"]


def test_a_recipe_is_switched_or_refused(served: Station) -> None:
    client = Client(served)
    status, answer = client.post("/api/recipe", {"recipe": "bright"})
    assert status == 200 and answer["cameras"]["top"]["bundle"] == "tiny"
    status, answer = client.post("/api/recipe", {"recipe": "housing"})
    assert status == 409 and answer["error"]["expected"] == "bright"
    assert client.post("/api/recipe", {})[0] == 400


def test_a_trigger_names_its_recipe(station: MakeStation, tmp_path: Path) -> None:
    brightness_bundle(tmp_path / "housing.bundle")
    client = Client(station(SERVED + '[recipes.housing]\nbundle = "housing.bundle"\n'))
    until(lambda: client.get("/api/state")["open_recipes"] == ["bright", "housing"])
    for given, used in (("housing", "housing"), (None, "bright")):
        status, answer = client.post("/api/trigger", {"recipe": given, "wait_ms": 20_000})
        assert status == 200 and answer["triggers"][0]["verdict"]["recipe"] == used
    status, answer = client.post("/api/trigger", {"recipe": "flange"})
    assert status == 503 and answer["error"]["expected"] == "bright or housing"
    assert client.post("/api/trigger", {"recipe": 7})[0] == 400


def test_a_trigger_that_cannot_be_taken_is_refused(served: Station) -> None:
    client = Client(served)
    status, answer = client.post("/api/trigger", {"camera": "side"})
    assert status == 503 and answer["error"]["expected"] == "top"
    assert client.post("/api/trigger", {"part_id": 7})[0] == 400
    assert client.post("/api/trigger", {"wait_ms": -1})[0] == 400
    served.stop()
    with pytest.raises(OSError):
        client.post("/api/trigger", {})


def test_metrics_are_what_prometheus_reads(served: Station) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    client = Client(served)
    judged(client, "a", "b", "c")
    for path in ("/metrics", "/api/metrics"):
        text = client.ask("GET", path).content.decode()
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in parser.text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert samples["edge_ad_running", ()] == 1
        assert samples["edge_ad_verdicts_total", (("camera", "top"), ("verdict", "anomalous"))] == 3
        total = (("camera", "top"), ("stage", "total"))
        assert samples["edge_ad_stage_seconds_count", total] == 3
        assert samples["edge_ad_stage_seconds_bucket", (("camera", "top"), ("le", "+Inf"), ("stage", "total"))] == 3
        assert 0 < samples["edge_ad_stage_seconds_sum", total] < 60
        assert samples["edge_ad_camera_events_total", (("camera", "top"), ("event", "frames"))] == 3


# --- who may ask -------------------------------------------------------------------------------------------------


def test_opened_to_others_it_wants_a_token(station: MakeStation, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-long-secret\n")
    opened = station(CAMERA + '[http]\nhost = "0.0.0.0"\nport = 0\ntoken_file = "token"\n')
    assert Client(opened).ask("GET", "/api/state").status == 401
    assert Client(opened, Authorization="Bearer a-long-secre").ask("GET", "/api/state").status == 401
    assert Client(opened, Authorization="Basic a-long-secret").ask("GET", "/api/state").status == 401
    assert Client(opened).post("/api/trigger", {})[0] == 401
    assert Client(opened, Authorization="Bearer a-long-secret").get("/api/state")["state"] == "running"
    assert Client(opened).post("/api/login", {"token": "guess"})[0] == 401
    login = Client(opened).ask("POST", "/api/login", {"token": "a-long-secret"})
    cookie = login.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert Client(opened, Cookie=cookie.partition(";")[0]).get("/api/state")["state"] == "running"
    assert Client(opened, Cookie=f"{COOKIE}=guess").ask("GET", "/api/state").status == 401


def test_it_is_not_opened_to_others_without_a_token(settings: MakeSettings) -> None:
    with pytest.raises(SettingsError, match=r"http\.token_file"):
        settings(CAMERA + '[http]\nhost = "0.0.0.0"\n')


def test_another_site_s_page_can_change_nothing(served: Station) -> None:
    client = Client(served)
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        assert client.ask("POST", "/api/trigger", {}, **headers).status == 403
    assert client.ask("GET", "/api/state", Host="evil.example:8080").status == 403
    form = client.ask("POST", "/api/trigger", {}, **{"Content-Type": "text/plain"})  # which a form may send
    assert form.status == 415
    own = f"http://127.0.0.1:{client.port}"
    assert client.ask("POST", "/api/trigger", {"wait_ms": 20_000}, Origin=own).status == 200
    assert served.ledger.counts()["triggers"] == 1


JSON = "Content-Type: application/json"
WRONG = (
    ("POST /api/trigger", "Content-Length: 99999999", "", 413),
    ("POST /api/trigger", "Content-Length: nine", "", 413),
    ("POST /api/trigger", "Transfer-Encoding: chunked", "0\r\n\r\n", 413),
    ("POST /api/trigger", f"{JSON}\r\nContent-Length: 3", "{x}", 400),
    ("POST /api/trigger", f"{JSON}\r\nContent-Length: 2", "[]", 400),
    ("POST /api/trigger", f"{JSON}\r\nContent-Length: 22", r'{"part_id": "G\ud800"}', 400),
    ("POST /api/state", f"{JSON}\r\nContent-Length: 0", "", 405),
    ("DELETE /api/state", "Accept: */*", "", 501),
    ("GET /api/%2e%2e/%2e%2e/etc/passwd", "Accept: */*", "", 404),
)


def test_what_is_sent_wrongly_is_refused_and_the_next_request_is_answered(served: Station) -> None:
    client = Client(served)
    for line, header, body, status in WRONG:
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as link:
            link.sendall(f"{line} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n{body}".encode())
            with closing(HTTPResponse(link)) as answer:
                answer.begin()
                assert answer.status == status, (line, header)
        assert client.get("/api/state")["state"] == "running"


def test_more_connections_than_it_serves_are_closed_and_those_it_serves_go_on(served: Station) -> None:
    client = Client(served)
    with ExitStack() as held:
        address = ("127.0.0.1", client.port)
        links = [held.enter_context(socket.create_connection(address, timeout=20)) for _ in range(MOST_CONNECTIONS)]
        until(lambda: _is_refused(client))
        links[0].sendall(b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert links[0].recv(12) == b"HTTP/1.1 200"
    until(lambda: not _is_refused(client))


def _is_refused(client: Client) -> bool:
    try:
        client.get("/api/state")
    except (OSError, HTTPException):
        return True
    return False


def test_an_address_that_is_taken_is_told(served: Station) -> None:
    assert served.http is not None
    with pytest.raises(StationError, match="cannot be listened on"):
        HttpServer(HttpSettings(host="127.0.0.1", port=served.http.port, token=None), [])


def test_many_clients_at_once_are_all_answered(served: Station) -> None:
    client = Client(served)
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                judged(client, f"{number}-{turn}")
                client.get("/api/state")
                client.get("/api/verdicts?limit=5")
        except Exception as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Reader(served.settings.record.folder) as reader:
        assert sorted(v.part_id or "" for v in reader.after(0, 100)) == sorted(
            f"{number}-{turn}" for number in range(6) for turn in range(5)
        )
