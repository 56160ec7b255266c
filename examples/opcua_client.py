"""A line's controller over OPC UA: starts a job for a part, and waits for the event that tells its result.

    pip install 'edge-ad[station]'
    python examples/opcua_client.py opc.tcp://127.0.0.1:4840/edge-ad part-4711

Prints a line for each camera. Exits with 0 if each of them says "good", with 1 if not; no result in time is no "good".
"""

import asyncio
import sys
from typing import Any

from asyncua import Client, Node

NAMESPACE = "urn:edge-ad:station"
PATIENCE_S = 10.0


class Results:
    """Takes in the events of type ResultReadyEventType."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[Any] = asyncio.Queue()

    def event_notification(self, event: Any) -> None:
        self.arrived.put_nowait(event)


async def judge(system: Node, index: int, part_id: str, results: Results) -> bool:
    """Start a job; whether every camera accepts the part."""
    # Subscribed first, started then: a result can come before the call returns.
    job_ids, error = await system.call_method(f"{index}:StartSingleJob", part_id, "", "")
    if error:
        print(error, file=sys.stderr)
        return False
    waiting, is_good = set(job_ids), True
    while waiting:
        event = await asyncio.wait_for(results.arrived.get(), PATIENCE_S)
        if event.JobId in waiting:  # there are other parts, too
            waiting.remove(event.JobId)
            is_good = is_good and event.Verdict == "good"
            figures = f"score {event.Score:.4g} threshold {event.Threshold:.4g}"
            print(event.Camera, event.Verdict, event.Reason or figures)
    return is_good


async def main(endpoint: str, part_id: str) -> int:
    async with Client(endpoint) as client:
        index = await client.get_namespace_index(NAMESPACE)
        system = await client.nodes.objects.get_child(f"{index}:VisionSystem")
        event_type = await client.nodes.base_event_type.get_child(f"{index}:ResultReadyEventType")
        results = Results()
        subscription = await client.create_subscription(50, results)
        await subscription.subscribe_events(system, event_type)
        try:
            return 0 if await judge(system, index, part_id, results) else 1
        except asyncio.TimeoutError:
            print(f"no result within {PATIENCE_S:g} s", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
