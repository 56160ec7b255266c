"""A function of yours as a way out: called with each verdict, in order, in a thread of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_ad.errors import DeliveryFailed
from edge_ad.station.publishing import Control, OpenPublisher, message
from edge_ad.station.table import Table
from edge_ad.station.verdict import Verdict

__all__ = ["CallbackPublisher", "OnVerdict", "callback", "read_callback"]

OnVerdict = Callable[[dict[str, Any]], object]
"""Takes a message (edge_ad.station.publishing.message). If it raises, it is called again with the same one."""


def callback(function: OnVerdict, name: str = "python") -> OpenPublisher:
    """A way out for `Station(settings, publishers=[callback(print)])`."""
    return OpenPublisher(name, "python", lambda control: CallbackPublisher(function, control))


def read_callback(table: Table) -> Callable[[Control], CallbackPublisher]:
    """`function = "package.module:function"`; the module is imported now, so that a mistake shows before the start."""
    text = table.text("function")
    module, _, name = text.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as exc:  # importing runs somebody's code
        raise table.wrong("function", "package.module:function that can be imported", f"{text} ({exc})") from exc
    if not callable(function):
        raise table.wrong("function", "a function", text)
    return lambda control: CallbackPublisher(function, control)


class CallbackPublisher:
    """Calls a function."""

    def __init__(self, function: OnVerdict, control: Control) -> None:
        self._function, self._control = function, control

    def deliver(self, verdicts: Sequence[Verdict]) -> int:
        """See Publisher.deliver."""
        for count, verdict in enumerate(verdicts):
            try:
                self._function(message(self._control, verdict))
            except Exception as exc:  # somebody's code
                if count:
                    return count
                raise DeliveryFailed(f"The function refused verdict {verdict.id}: {exc!r}.") from exc
        return len(verdicts)

    def tell(self, state: Mapping[str, Any]) -> None:
        """Nothing: it is told of verdicts only."""

    def close(self) -> None:
        """Nothing to release."""
