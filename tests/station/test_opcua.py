"""The OPC UA server, asked by a real client over a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge_ad.station.publishing.opcua import NAMESPACE
from edge_ad.station.station import Station
from tests.station.broker import free_port, self_signed
from tests.station.conftest import CAMERA, MakeStation
from tests.station.made import until

asyncua = pytest.importorskip("asyncua")


class Events:
    """What a subscription brought."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def event_notification(self, event: Any) -> None:
        self.seen.append(event)


def serving(port: int, more: str = "") -> str:
    return CAMERA + f'[[publish]]\nkind = "opcua"\nendpoint = "opc.tcp://127.0.0.1:{port}/edge-ad"\n{more}'


def as_client(port: int, work: Callable[[Any, Any, int], Awaitable[None]], **credentials: str) -> None:
    """Do what a client does with the vision system: client, its object, the namespace's index."""

    async def connected() -> None:
        client = asyncua.Client(f"opc.tcp://127.0.0.1:{port}/edge-ad")
        if credentials:
            client.set_user(credentials["user"])
            client.set_password(credentials["password"])
        async with client:
            index = await client.get_namespace_index(NAMESPACE)
            await work(client, await client.nodes.objects.get_child(f"{index}:VisionSystem"), index)

    asyncio.run(connected())


def is_up(running: Station) -> bool:
    return running.couriers[0]._told is not None


def test_a_client_gives_parts_in_gets_verdicts_out_and_selects_recipes(station: MakeStation) -> None:
    port = free_port()
    running = station(serving(port))
    until(lambda: is_up(running), timeout_s=120)
    before = running.recipes.current

    async def work(client: Any, system: Any, index: int) -> None:
        async def value(*path: str) -> Any:
            return await (await system.get_child([f"{index}:{name}" for name in path])).read_value()

        assert await value("StationName") == "station" and await value("Record") == running.uid
        assert await value("VisionStateMachine", "CurrentState") == "Operational"
        assert await value("RecipeManagement", "ActiveRecipe") == "bright"
        assert await value("RecipeManagement", "Recipes") == ["bright"]
        events = Events()
        subscription = await client.create_subscription(10, events)
        kind = await client.nodes.base_event_type.get_child(f"{index}:ResultReadyEventType")
        await subscription.subscribe_events(system, kind, queuesize=1000)
        jobs = []
        for number in range(20):
            ids, error = await system.call_method(f"{index}:StartSingleJob", f"part-{number}", "")
            assert error == ""
            jobs += ids
        while len(events.seen) < 20:
            await asyncio.sleep(0.01)
        assert [event.JobId for event in events.seen] == jobs
        assert [event.ResultId for event in events.seen] == list(range(1, 21))
        assert [event.PartId for event in events.seen] == [f"part-{number}" for number in range(20)]
        last = events.seen[-1]
        assert last.Verdict == "anomalous" and last.Score > last.Threshold and last.Severity == 500
        assert await value("ResultManagement", "LatestResult", "ResultId") == 20
        assert await value("ResultManagement", "LatestResult", "PartId") == "part-19"
        ids, error = await system.call_method(f"{index}:StartSingleJob", "x", "no-such-camera")
        assert ids == [] and "There is no camera" in error
        ids, error = await system.call_method(f"{index}:StartSingleJob", "y", "", "bright")
        assert len(ids) == 1 and error == ""
        ids, error = await system.call_method(f"{index}:StartSingleJob", "z", "", "housing")
        assert ids == [] and "There is no recipe" in error
        recipes = await system.get_child(f"{index}:RecipeManagement")
        assert await recipes.call_method(f"{index}:SelectRecipe", "bright") == ""
        assert running.recipes.current is not before  # loaded anew
        assert "There is no recipe" in await recipes.call_method(f"{index}:SelectRecipe", "housing")
        active = await recipes.get_child(f"{index}:ActiveRecipe")
        with pytest.raises(asyncua.ua.UaStatusCodeError):  # nothing else can be changed
            await active.write_value("housing")
        with pytest.raises(asyncua.ua.UaStatusCodeError):
            await system.add_object(index, "mine")

    as_client(port, work)


@pytest.mark.slow
def test_a_user_and_a_password_are_asked_for_where_they_are_set(station: MakeStation, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("opc-secret")
    port = free_port()
    running = station(serving(port, 'user = "plc"\npassword_file = "password"\n'))
    until(lambda: is_up(running), timeout_s=120)

    async def work(client: Any, system: Any, index: int) -> None:
        assert await (await system.get_child(f"{index}:StationName")).read_value() == "station"

    for wrong in ({}, {"user": "plc", "password": "guess"}, {"user": "other", "password": "opc-secret"}):
        with pytest.raises(asyncua.ua.UaStatusCodeError):
            as_client(port, work, **wrong)
    as_client(port, work, user="plc", password="opc-secret")


@pytest.mark.slow
def test_with_a_certificate_everything_is_signed_and_encrypted(station: MakeStation, tmp_path: Path) -> None:
    self_signed(tmp_path, "urn:freeopcua:client")
    port = free_port()
    running = station(serving(port, 'certificate_file = "cert.pem"\nkey_file = "key.pem"\n'))
    until(lambda: is_up(running), timeout_s=120)

    async def work() -> None:
        client = asyncua.Client(f"opc.tcp://127.0.0.1:{port}/edge-ad")
        await client.set_security(
            SecurityPolicyBasic256Sha256, str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"), mode=3
        )
        client.application_uri = "urn:freeopcua:client"
        async with client:
            index = await client.get_namespace_index(NAMESPACE)
            system = await client.nodes.objects.get_child(f"{index}:VisionSystem")
            assert await (await system.get_child(f"{index}:StationName")).read_value() == "station"

    from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

    asyncio.run(work())

    async def nothing(client: Any, system: Any, index: int) -> None:
        pytest.fail("it was let in without encryption")

    with pytest.raises((asyncua.ua.UaStatusCodeError, asyncua.ua.UaError, ConnectionError)):
        as_client(port, nothing)


def test_a_port_that_is_taken_is_told_and_verdicts_go_on(station: MakeStation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        running = station(serving(other.getsockname()[1]))
        until(lambda: "cannot listen" in running.couriers[0].failure)
        assert running.trigger()[0].wait(20) is not None
