"""MQTT against a real broker: everything arrives, in order, once by its id, whoever is away or cut off meanwhile."""

from __future__ import annotations

import gc
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_ad.station.station import Station
from tests.station.broker import Broker, Cable, Subscriber, free_port, running_broker, self_signed
from tests.station.conftest import CAMERA, MakeStation
from tests.station.made import until

pytest.importorskip("paho.mqtt.client")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as running:
        yield running


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    opened = Subscriber(broker.port, "edge-ad/station")
    yield opened
    opened.close()


def publishing_to(port: int) -> str:
    return CAMERA + f'[[publish]]\nkind = "mqtt"\nhost = "127.0.0.1"\nport = {port}\n'


def give(station: Station, count: int) -> None:
    """Trigger so often, and wait for the verdicts."""
    for ticket in [station.trigger(f"part-{number}")[0] for number in range(count)]:
        assert ticket.wait(20) is not None


def test_a_birth_then_verdicts_in_order_then_a_planned_death(
    station: MakeStation, broker: Broker, subscriber: Subscriber
) -> None:
    running = station(publishing_to(broker.port))
    until(subscriber.states, "the birth")
    give(running, 30)
    until(lambda: len(subscriber.verdicts()) == 30)
    assert [message["id"] for message in subscriber.verdicts()] == list(range(1, 31))
    assert subscriber.verdicts()[4]["part_id"] == "part-4" and subscriber.verdicts()[4]["record"] == running.uid
    running.stop()
    until(lambda: not subscriber.states()[-1]["online"], "the death")
    birth, death = subscriber.states()[0], subscriber.states()[-1]
    assert birth["online"] and birth["state"] == "running" and birth["recipe"] == "bright"
    assert death == {"online": False, "session": birth["session"], "planned": True}


@pytest.mark.slow
def test_what_is_wrong_is_told_in_the_state(station: MakeStation, broker: Broker, subscriber: Subscriber) -> None:
    running = station(publishing_to(broker.port))
    until(subscriber.states)
    running.inspecting.stage.failure = "made up"
    until(lambda: subscriber.states()[-1]["state"] == "fault")
    assert subscriber.states()[-1]["problems"] == ["inspector has ended: made up"]
    running.inspecting.stage.failure = ""
    until(lambda: subscriber.states()[-1]["state"] == "running")


@pytest.mark.slow
def test_the_broker_tells_the_death_of_a_station_that_is_cut_off(
    station: MakeStation, broker: Broker, subscriber: Subscriber
) -> None:
    cable = Cable(broker.port)
    station(publishing_to(cable.port))
    until(subscriber.states)
    session = subscriber.states()[-1]["session"]
    cable.cut()
    until(lambda: not subscriber.states()[-1]["online"], "the death")
    assert subscriber.states()[-1] == {"online": False, "session": session}
    cable.mend()
    until(lambda: subscriber.states()[-1]["online"], "the second birth")
    assert subscriber.states()[-1]["session"] > session
    cable.close()


def test_what_came_while_the_broker_was_away_arrives_after_once_and_in_order(
    station: MakeStation, broker: Broker, subscriber: Subscriber
) -> None:
    running = station(publishing_to(broker.port))
    give(running, 10)
    until(lambda: len(subscriber.verdicts()) == 10)
    broker.stop()
    give(running, 200)
    until(lambda: running.couriers[0].failure)
    assert running.couriers[0].to_json()["waiting"] == 200
    assert running.state()["state"] == "running"
    assert any("publisher mqtt: The broker is away" in warning for warning in running.state()["warnings"])
    broker.start()
    until(lambda: len(subscriber.once()) == 210)
    assert [message["id"] for message in subscriber.once()] == list(range(1, 211))
    until(lambda: running.couriers[0].failure == "")


@pytest.mark.slow
def test_a_station_that_starts_without_its_broker_delivers_once_it_is_there(
    station: MakeStation, broker: Broker, subscriber: Subscriber
) -> None:
    broker.stop()
    running = station(publishing_to(broker.port))
    give(running, 20)
    broker.start()
    until(lambda: len(subscriber.once()) == 20)


@pytest.mark.slow
def test_connections_cut_in_the_middle_of_it_lose_nothing_and_swap_nothing(
    station: MakeStation, broker: Broker, subscriber: Subscriber
) -> None:
    cable = Cable(broker.port)
    running = station(publishing_to(cable.port))
    until(subscriber.states)
    random_ = random.Random(0)
    for _ in range(4):
        tickets = [running.trigger()[0] for _ in range(50)]
        time.sleep(random_.uniform(0, 0.3))
        cable.cut()
        assert all(ticket.wait(20) for ticket in tickets)
        cable.mend()
    until(lambda: len(subscriber.once()) == 200)
    assert [message["id"] for message in subscriber.once()] == list(range(1, 201))
    same_id: dict[int, dict[str, object]] = {}
    for message in subscriber.verdicts():  # what came twice said the same twice
        assert same_id.setdefault(message["id"], message) == message
    cable.close()


@pytest.mark.slow
def test_a_restart_goes_on_after_the_last_verdict_that_was_delivered(
    station: MakeStation, broker: Broker, subscriber: Subscriber
) -> None:
    first = station(publishing_to(broker.port))
    give(first, 10)
    until(lambda: len(subscriber.verdicts()) == 10)
    broker.stop()
    give(first, 10)
    first.stop()
    broker.start()
    second = station(publishing_to(broker.port))
    give(second, 10)
    until(lambda: len(subscriber.once()) == 30)
    assert [message["trigger_id"] for message in subscriber.once()] == [
        *(f"1-{number}" for number in range(1, 21)),
        *(f"2-{number}" for number in range(1, 11)),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_and_a_password_are_used_and_a_broker_that_cannot_prove_itself_is_refused(
    station: MakeStation, tmp_path: Path
) -> None:
    pytest.importorskip("cryptography")
    certificate, key = self_signed(tmp_path)
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "line-3", "mqtt-secret"], check=True)
    port = free_port()
    more = f"""
listener {port} 127.0.0.1
certfile {certificate}
keyfile {key}
allow_anonymous false
password_file {passwords}
"""
    (tmp_path / "password").write_text("mqtt-secret\n")
    (tmp_path / "wrong").write_text("guess\n")
    with running_broker(tmp_path, more) as broker:
        subscriber = Subscriber(broker.port, "edge-ad/station")
        secured = publishing_to(port) + 'user = "line-3"\npassword_file = "password"\ntls = true\n'
        trusting = station(secured + 'ca_file = "cert.pem"\n')
        give(trusting, 5)
        until(lambda: len(subscriber.verdicts()) == 5)
        trusting.stop()
        for doubtful, why in (
            (secured, "certificate verify failed"),  # nobody vouches for the certificate
            (secured.replace('"password"', '"wrong"') + 'ca_file = "cert.pem"\n', "Not authorized"),
        ):
            refused = station(doubtful)
            give(refused, 1)
            until(lambda why=why, refused=refused: why in refused.couriers[0].failure)  # type: ignore[misc]
            refused.stop()
        assert len(subscriber.verdicts()) == 5
        subscriber.close()
    gc.collect()  # paho leaves sockets that it refused to the collector, which says so
