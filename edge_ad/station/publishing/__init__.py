"""Ways out of the station: one file for each, behind one small protocol.

Every way has its own place in the record, the id up to which it has delivered. Verdicts are read from there in the
order of their ids, which have no gaps; so a broker that is away holds up nothing, and what comes back gets all it
missed, in order. What was sent and not acknowledged is sent again: a verdict can arrive twice, with the same id.
A receiver that passes over every id that is not above the last one it took has each verdict once, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edge_ad.station.table import Table
from edge_ad.station.verdict import Verdict

if TYPE_CHECKING:
    from edge_ad.station.ticket import Ticket

__all__ = ["PUBLISHERS", "Control", "OpenPublisher", "Publisher", "message", "read_publisher"]

PUBLISHERS = {
    "mqtt": "an MQTT broker",
    "opcua": "an OPC UA server of the station's own",
    "webhook": "an HTTP server that is sent each verdict",
    "python": "a function of yours",
}
"""Kinds of [[publish]], and what each is."""


class Control(Protocol):
    """What a way in may ask of the station.

    Attributes:
        name: Of the station.
        uid: Of its record; ids of verdicts begin anew in another record.
    """

    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...

    def trigger(
        self, part_id: str | None = None, *, camera: str | None = None, recipe: str | None = None
    ) -> Sequence[Ticket]:
        """Trigger a camera, or all that can be; each ticket's id is the `trigger_id` that its verdict will carry.

        Args:
            recipe: One that is open; None for the one in use.

        Raises:
            TriggerRefused: It was not accepted.
        """
        ...

    def switch_recipe(self, name: str) -> None:
        """Switch to another recipe; one that is not open is loaded and proven before, and this waits for it.

        Raises:
            EdgeAdError: It cannot be used; the one before goes on.
        """
        ...


class Publisher(Protocol):
    """One way out. Every method is called in the same thread, one of its own."""

    def deliver(self, verdicts: Sequence[Verdict]) -> int:
        """Deliver verdicts, in this order; returns how many, from the first on, the other side has acknowledged.

        Raises:
            DeliveryFailed: None was, and why. It is called again with the same verdicts after a while.
        """
        ...

    def tell(self, state: Mapping[str, Any]) -> None:
        """The station's state, at first and whenever it has changed; for ways that show it."""
        ...

    def close(self) -> None:
        """Say that the station goes, and release everything; a second call does nothing."""
        ...


@dataclass(frozen=True)
class OpenPublisher:
    """A way out as station.toml asks for it, not yet opened.

    Attributes:
        name: Its own, under which its place in the record is kept.
        open: Opens it; never waits for the other side.
    """

    name: str
    kind: str
    open: Callable[[Control], Publisher]


def message(control: Control, verdict: Verdict) -> dict[str, Any]:
    """A verdict as it is published: `Verdict.to_json` with the station's name and its record's uid."""
    return {"station": control.name, "record": control.uid, **verdict.to_json()}


def read_publisher(table: Table) -> OpenPublisher:
    """A [[publish]] of station.toml.

    Raises:
        SettingsError: Naming what is wrong.
    """
    kind = table.choice("kind", tuple(PUBLISHERS))
    name = table.name("name", kind)
    opening = OpenPublisher(name, kind, _opening(kind, table))
    table.end()
    return opening


def _opening(kind: str, table: Table) -> Callable[[Control], Publisher]:
    match kind:
        case "mqtt":
            from edge_ad.station.publishing.mqtt import read_mqtt

            return read_mqtt(table)
        case "opcua":
            from edge_ad.station.publishing.opcua import read_opcua

            return read_opcua(table)
        case "webhook":
            from edge_ad.station.publishing.webhook import read_webhook

            return read_webhook(table)
    from edge_ad.station.publishing.callback import read_callback

    return read_callback(table)
