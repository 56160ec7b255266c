"""MQTT: verdicts with QoS 1 in one topic, the station's state retained in another, its death told by the broker.

    TOPIC/state      retained: {"online": true, "session": 7, ...}; the broker says "online": false
    TOPIC/verdicts   one message for each verdict, in the order of their ids

In Sparkplug's manner the birth and the death of one connection carry the same number, so a death that arrives late is
not taken for that of the connection after it.

What is guaranteed: every verdict of the record arrives, in order, however long the broker was away and however the
station was killed. Between losing a connection and regaining it, a verdict whose acknowledgement was lost is sent again
with the same `id`: a subscriber that passes over ids that are not above the last one it took has each exactly once.
"""

from __future__ import annotations

import json
import logging
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from edge_ad.errors import DeliveryFailed, MissingDependency
from edge_ad.station.publishing import Control, message
from edge_ad.station.table import Table
from edge_ad.station.verdict import Verdict

if TYPE_CHECKING:
    from paho.mqtt.client import Client

__all__ = ["MqttPublisher", "MqttSettings", "read_mqtt"]

QOS = 1
ACKNOWLEDGED_S = 2.0  # a batch that is not acknowledged by then is looked at again later
_LONGEST_RETRY_S = 10
_LOOK_S = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MqttSettings:
    """[[publish]] kind = "mqtt"

    Attributes:
        topic: Below it are `state` and `verdicts`; None for edge-ad/STATION.
        ca_file: Of the broker's certificate; the system's authorities without it.
    """

    host: str
    port: int
    topic: str | None
    user: str | None
    password: str | None
    tls: bool
    ca_file: Path | None
    keepalive_s: int


def read_mqtt(table: Table) -> Callable[[Control], MqttPublisher]:
    """Read the settings; the broker need not be there."""
    tls = table.flag("tls", False)
    settings = MqttSettings(
        host=table.text("host"),
        port=table.whole("port", 1, 65_535, 8883 if tls else 1883),
        topic=table.text("topic", None),
        user=table.text("user", None),
        password=table.secret("password_file"),
        tls=tls,
        ca_file=table.file("ca_file", None),
        keepalive_s=table.whole("keepalive_s", 1, 3600, 10),
    )
    if settings.topic and ("+" in settings.topic or "#" in settings.topic):
        raise table.wrong("topic", "a topic without + and #", settings.topic)
    return lambda control: MqttPublisher(settings, control)


class MqttPublisher:
    """A client of one broker, which connects, and connects again, by itself."""

    def __init__(self, settings: MqttSettings, control: Control) -> None:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as exc:
            raise MissingDependency("paho-mqtt is not installed.", fix="pip install 'edge-ad[station]'") from exc
        self._control = control
        self._topic = settings.topic or f"edge-ad/{control.name}"
        self._session = time.time_ns() // 1_000_000  # of connections; above every one of earlier runs
        self._state: Mapping[str, Any] = {}
        self._unacknowledged: dict[int, int] = {}  # number of the message in MQTT to id, in their order
        self._handed_over = 0  # up to which id
        self._acknowledged: SimpleQueue[int] = SimpleQueue()  # numbers; paho holds its lock when it tells them
        self._failure = "not connected yet"
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"edge-ad-{control.name}-{control.uid}")
        client.on_pre_connect = self._before_connecting
        client.on_connect = self._connected
        client.on_connect_fail = self._not_connected
        client.on_disconnect = self._disconnected
        client.on_publish = lambda client, userdata, number, reason, properties: self._acknowledged.put(number)
        client.reconnect_delay_set(1, _LONGEST_RETRY_S)
        client.max_inflight_messages_set(100)
        if settings.user:
            client.username_pw_set(settings.user, settings.password)
        if settings.tls:
            client.tls_set(
                None if settings.ca_file is None else str(settings.ca_file), tls_version=ssl.PROTOCOL_TLS_CLIENT
            )
        client.connect_async(settings.host, settings.port, settings.keepalive_s)
        self._client, self._is_started = client, False

    # --- paho's thread -------------------------------------------------------------------------------------------

    def _before_connecting(self, client: Client, *_: Any) -> None:
        self._session += 1
        death = json.dumps({"online": False, "session": self._session})
        client.will_set(f"{self._topic}/state", death, qos=QOS, retain=True)

    def _connected(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._failure = f"the broker refuses: {reason}" if reason.is_failure else ""
        if not self._failure:
            self._publish_state()

    def _not_connected(self, *_: Any) -> None:
        exc = sys.exc_info()[1]  # paho calls this while it handles what went wrong
        self._failure = f"no connection: {exc}" if exc else "no connection"

    def _disconnected(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._failure = self._failure or f"disconnected: {reason}"  # a refusal says more than the end that follows

    def _publish_state(self) -> None:
        birth = json.dumps({"online": True, "session": self._session, **self._state})
        self._client.publish(f"{self._topic}/state", birth, qos=0, retain=True)  # never sent again in a later session

    # --- the courier's thread ------------------------------------------------------------------------------------

    def deliver(self, verdicts: Sequence[Verdict]) -> int:
        """See Publisher.deliver. What paho has it sends again by itself, so that is only waited for."""
        if not self._unacknowledged:
            if self._failure:
                raise DeliveryFailed(f"The broker is away ({self._failure}).")
            self._hand_over(verdicts)
        self._await_acknowledgements(time.monotonic() + ACKNOWLEDGED_S)
        first_missing = min(self._unacknowledged.values(), default=self._handed_over + 1)
        acknowledged = sum(verdict.id < first_missing for verdict in verdicts)
        if not acknowledged:
            raise DeliveryFailed(f"The broker does not acknowledge ({self._failure or 'no answer'}).")
        return acknowledged

    def _await_acknowledgements(self, deadline_s: float) -> None:
        while self._unacknowledged:
            try:
                self._unacknowledged.pop(self._acknowledged.get(timeout=_LOOK_S), None)
            except Empty:
                if self._failure or time.monotonic() > deadline_s:
                    return

    def _hand_over(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            content = json.dumps(message(self._control, verdict))
            sent = self._client.publish(f"{self._topic}/verdicts", content, qos=QOS)
            self._unacknowledged[sent.mid] = self._handed_over = verdict.id

    def tell(self, state: Mapping[str, Any]) -> None:
        """See Publisher.tell: the birth carries the state, and so does every change of it."""
        self._state = state
        if not self._is_started:  # the first birth has a state to tell
            self._is_started = True
            self._client.loop_start()
        elif self._client.is_connected():
            self._publish_state()

    def close(self) -> None:
        """Tell the death that was planned, then go; a second call does nothing."""
        if self._client.is_connected():
            death = json.dumps({"online": False, "session": self._session, "planned": True})
            with suppress(RuntimeError, ValueError):  # the connection went meanwhile, and the broker tells the death
                self._client.publish(f"{self._topic}/state", death, qos=QOS, retain=True).wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()
