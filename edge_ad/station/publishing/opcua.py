"""An OPC UA server of the station's own, after OPC 40100-1 (Machine Vision): its names and its order, not its types.

    Objects/VisionSystem
        StationName, Record
        VisionStateMachine/CurrentState     Preoperational, Operational, Error or Halted; Problems says why it is Error
        RecipeManagement                    ActiveRecipe, Recipes, SelectRecipe(Recipe) -> Error
        StartSingleJob(PartId, Camera, Recipe) -> JobIds, Error
        ResultManagement/LatestResult       ResultId, JobId, PartId, Camera, Recipe, Verdict, Reason, Score, ...

Each verdict is also an event, ResultReadyEventType, with the same fields: who must miss none subscribes to the events,
since values may be skipped between two samples. ResultId is written last: when it changes, the others belong to it.
Events that nobody subscribed to are not kept; the record has them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from edge_ad import __version__
from edge_ad.errors import DeliveryFailed, EdgeAdError, MissingDependency, StationError
from edge_ad.station.publishing import Control
from edge_ad.station.table import LOOPBACK, Table
from edge_ad.station.verdict import Verdict

if TYPE_CHECKING:
    from asyncua import Node, Server
    from asyncua.server.event_generator import EventGenerator

__all__ = ["NAMESPACE", "OpcUaPublisher", "OpcUaSettings", "read_opcua"]

NAMESPACE = "urn:edge-ad:station"
TIMEOUT_S = 10.0
START_S = 120.0  # the standard's own nodes take seconds of a processor, and it may be busy

STATES = {"starting": "Preoperational", "running": "Operational", "fault": "Error"}
"""Of the station, in 40100-1's names; Halted otherwise."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class OpcUaSettings:
    """[[publish]] kind = "opcua"

    Attributes:
        endpoint: Where it listens.
        user, password: Whoever connects must give them; None for anybody.
        certificate_file, key_file: Of the server; with them everything is signed and encrypted.
    """

    endpoint: str
    user: str | None
    password: str | None
    certificate_file: Path | None
    key_file: Path | None


def read_opcua(table: Table) -> Callable[[Control], OpcUaPublisher]:
    """Read the settings."""
    settings = OpcUaSettings(
        endpoint=table.text("endpoint", "opc.tcp://127.0.0.1:4840/edge-ad"),
        user=table.text("user", None),
        password=table.secret("password_file"),
        certificate_file=table.file("certificate_file", None),
        key_file=table.file("key_file", None),
    )
    is_known = table.flag("allow_unencrypted", False)
    url = urlsplit(settings.endpoint)
    if url.scheme != "opc.tcp" or not url.hostname:
        raise table.wrong("endpoint", "opc.tcp://HOST:PORT/PATH", settings.endpoint)
    if (settings.user is None) != (settings.password is None):
        raise table.wrong("user", "user and password_file together, or neither", settings.user)
    if (settings.certificate_file is None) != (settings.key_file is None):
        raise table.wrong("certificate_file", "certificate_file and key_file together, or neither", None)
    if url.hostname not in LOOPBACK and settings.certificate_file is None and not is_known:
        raise table.wrong(
            "endpoint",
            f"certificate_file and key_file, since {url.hostname} opens it to others",
            settings.endpoint,
            fix="or allow_unencrypted = true, in a network that you trust",
        )
    return lambda control: OpcUaPublisher(settings, control)


class OpcUaPublisher:
    """A server in a thread of its own.

    Raises:
        MissingDependency: asyncua is not installed.
        StationError: It cannot listen there.
    """

    def __init__(self, settings: OpcUaSettings, control: Control) -> None:
        try:
            import asyncua  # noqa: F401
        except ImportError as exc:
            raise MissingDependency("asyncua is not installed.", fix="pip install 'edge-ad[station]'") from exc
        _probe(settings.endpoint)
        self._space = _AddressSpace(control)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="opcua", daemon=True)
        self._thread.start()
        try:
            self._server: Server | None = self._wait(_started(settings, self._space), START_S)
        except Exception as exc:  # of asyncua, of its sockets and certificates
            self._end_loop()
            raise StationError(f"The OPC UA server at {settings.endpoint} does not start.", got=repr(exc)) from exc

    def _wait(self, work: Coroutine[Any, Any, T], timeout_s: float = TIMEOUT_S) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def deliver(self, verdicts: Sequence[Verdict]) -> int:
        """See Publisher.deliver: shown is delivered."""
        try:
            for verdict in verdicts:
                self._wait(self._space.show_verdict(verdict))
        except Exception as exc:  # of asyncua
            raise DeliveryFailed(f"The OPC UA server failed: {exc!r}.") from exc
        return len(verdicts)

    def tell(self, state: Mapping[str, Any]) -> None:
        """See Publisher.tell."""
        self._wait(self._space.show_state(state))

    def close(self) -> None:
        """Stop the server; a second call does nothing."""
        server, self._server = self._server, None
        if server is not None:
            try:
                self._wait(self._space.show_state({"state": "stopped"}))
                self._wait(server.stop())
            finally:
                self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()


def _probe(endpoint: str) -> None:
    """Raise StationError if the address cannot be listened on, before the server's nodes are made for nothing."""
    url = urlsplit(endpoint)
    try:
        socket.create_server((url.hostname or "", url.port or 4840), reuse_port=False).close()
    except OSError as exc:
        raise StationError(
            f"The OPC UA server cannot listen at {endpoint}.", got=exc.strerror or exc, fix="choose another endpoint"
        ) from exc


async def _started(settings: OpcUaSettings, space: _AddressSpace) -> Server:
    from asyncua import Server, ua
    from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole

    class _Users:
        def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
            if settings.user is None or (username, password) == (settings.user, settings.password):
                return User(role=UserRole.User)
            return None

    logging.getLogger("asyncua").setLevel(logging.ERROR)
    server = Server(user_manager=_Users())
    await server.init()
    server.set_endpoint(settings.endpoint)
    server.set_server_name(f"edge-ad {__version__}")
    tokens = [ua.AnonymousIdentityToken] if settings.user is None else [ua.UserNameIdentityToken]
    server.set_identity_tokens(tokens)
    if settings.certificate_file is not None and settings.key_file is not None:
        await server.load_certificate(str(settings.certificate_file))
        await server.load_private_key(str(settings.key_file))
        policy = ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt
    else:
        policy = ua.SecurityPolicyType.NoSecurity
    server.set_security_policy([policy], permission_ruleset=SimpleRoleRuleset())
    await space.build(server)
    await server.start()
    return server


class _AddressSpace:
    """The nodes; used in the server's loop only."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._nodes: dict[str, Node] = {}
        self._events: EventGenerator | None = None

    async def build(self, server: Server) -> None:
        from asyncua import ua

        index = await server.register_namespace(NAMESPACE)
        system = await server.nodes.objects.add_object(index, "VisionSystem")
        folders = {"": system}
        for name in ("VisionStateMachine", "RecipeManagement", "ResultManagement"):
            folders[name] = await system.add_object(index, name)
        folders["LatestResult"] = await folders["ResultManagement"].add_object(index, "LatestResult")
        plain = {
            "": ["StationName", "Record"],
            "VisionStateMachine": ["CurrentState"],
            "RecipeManagement": ["ActiveRecipe"],
        }
        for folder, names in plain.items():
            for name in names:
                self._nodes[name] = await folders[folder].add_variable(index, name, "", ua.VariantType.String)
        for folder, name in (("VisionStateMachine", "Problems"), ("RecipeManagement", "Recipes")):
            empty = ua.Variant([], ua.VariantType.String, is_array=True)
            self._nodes[name] = await folders[folder].add_variable(index, name, empty, datatype=ua.NodeId(12))
        fields = {name: ua.VariantType[kind] for name, (kind, _) in _FIELDS.items()}
        for name, kind in fields.items():
            self._nodes[name] = await folders["LatestResult"].add_variable(index, name, _EMPTY[kind.name], kind)
        event_type = await server.create_custom_event_type(
            index, "ResultReadyEventType", ua.ObjectIds.BaseEventType, list(fields.items())
        )
        self._events = await server.get_event_generator(event_type, system)
        await self._add_methods(index, folders)
        await self._nodes["StationName"].write_value(self._control.name)
        await self._nodes["Record"].write_value(self._control.uid)

    async def _add_methods(self, index: int, folders: Mapping[str, Node]) -> None:
        from asyncua import ua, uamethod

        text = ua.VariantType.String

        async def start_single_job(
            parent: Any, part_id: str | None, camera: str | None, recipe: str | None = None
        ) -> tuple[Any, str]:
            try:
                tickets = self._control.trigger(part_id or None, camera=camera or None, recipe=recipe or None)
            except EdgeAdError as error:
                return ua.Variant([], text, is_array=True), str(error)
            return ua.Variant([ticket.id for ticket in tickets], text, is_array=True), ""

        async def select_recipe(parent: Any, recipe: str | None) -> str:
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(None, self._control.switch_recipe, recipe or "")
            except EdgeAdError as error:
                return str(error)
            return ""

        def argument(name: str, *, is_array: bool = False) -> ua.Argument:
            rank = ua.ValueRank.OneDimension if is_array else ua.ValueRank.Scalar
            return ua.Argument(Name=name, DataType=ua.NodeId(ua.ObjectIds.String), ValueRank=rank)

        await folders[""].add_method(
            index,
            "StartSingleJob",
            uamethod(start_single_job),
            [argument("PartId"), argument("Camera"), argument("Recipe")],
            [argument("JobIds", is_array=True), argument("Error")],
        )
        await folders["RecipeManagement"].add_method(
            index, "SelectRecipe", uamethod(select_recipe), [argument("Recipe")], [argument("Error")]
        )

    async def show_state(self, state: Mapping[str, Any]) -> None:
        from asyncua import ua

        await self._nodes["CurrentState"].write_value(STATES.get(state["state"], "Halted"))
        for name, key in (("Problems", "problems"), ("Recipes", "recipes")):
            await self._nodes[name].write_value(
                ua.Variant(list(state.get(key, [])), ua.VariantType.String, is_array=True)
            )
        await self._nodes["ActiveRecipe"].write_value(state.get("recipe", ""))

    async def show_verdict(self, verdict: Verdict) -> None:
        from asyncua import ua

        assert self._events is not None
        for name, (kind, read) in _FIELDS.items():
            value = read(verdict)
            variant = ua.Variant(_EMPTY[kind] if value is None else value, ua.VariantType[kind])
            await self._nodes[name].write_value(variant)
            setattr(self._events.event, name, variant.Value)
        self._events.event.Severity = 100 if verdict.verdict == "good" else 500
        await self._events.trigger(message=f"{verdict.part_id or verdict.trigger_id}: {verdict.verdict}")


def _moment(verdict: Verdict) -> datetime:
    return (_EPOCH + timedelta(microseconds=verdict.time_ns // 1000)).replace(tzinfo=None)


_FIELDS: dict[str, tuple[str, Callable[[Verdict], Any]]] = {
    "JobId": ("String", lambda verdict: verdict.trigger_id),
    "PartId": ("String", lambda verdict: verdict.part_id),
    "Camera": ("String", lambda verdict: verdict.camera),
    "Recipe": ("String", lambda verdict: verdict.recipe),
    "Verdict": ("String", lambda verdict: verdict.verdict),
    "Reason": ("String", lambda verdict: verdict.reason),
    "Score": ("Double", lambda verdict: verdict.score),
    "Threshold": ("Double", lambda verdict: verdict.model and verdict.model.threshold),
    "ThresholdVersion": ("Int64", lambda verdict: verdict.model and verdict.model.threshold_version),
    "BundleSha256": ("String", lambda verdict: verdict.model and verdict.model.bundle_sha256),
    "CreationTime": ("DateTime", _moment),
    "ResultId": ("Int64", lambda verdict: verdict.id),
}
"""Of a result, in the order in which they are written: their types, and where they come from."""

_EMPTY = {"String": "", "Double": float("nan"), "Int64": 0, "DateTime": datetime(1970, 1, 1)}
"""What stands for nothing, by type: NaN is no score."""
