"""What systemd is told (sd_notify) and how it starts a station. Without systemd, nothing."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

__all__ = ["SERVICE", "notify"]

SERVICE = Path(__file__).with_name("edge-ad-station.service")
"""The unit; `edge-ad station --systemd` prints it."""


def notify(*lines: str) -> None:
    """Send lines such as "READY=1" to the service manager that started this process, if one did."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        link.connect("\0" + address[1:] if address.startswith("@") else address)
        link.sendall("\n".join(lines).encode())
