"""A GigE Vision camera that is not there: Aravis's own, on loopback, to try a station without a camera.

    python -m edge_ad.cameras.fake_gige --serial GV01

It speaks the real protocol (GVCP and GVSP over UDP). `arv-fake-gv-camera` of Debian's aravis-tools is the same camera,
but looks for a trigger only 25 times a second, so that of two triggers in between one is lost; this one looks more
often.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Sequence

from edge_ad.cameras.native import Library, glib

__all__ = ["main"]

_CONTROL_PORT = 3956  # of GVCP


def main(argv: Sequence[str] | None = None) -> int:
    """Run the camera until it is interrupted; prints "ready" when it answers."""
    parser = argparse.ArgumentParser(prog="python -m edge_ad.cameras.fake_gige", description=__doc__)
    parser.add_argument("--serial", default="GV01", help="(default: GV01)")
    parser.add_argument("--address", default="127.0.0.1", help="of the interface it listens on (default: 127.0.0.1)")
    parser.add_argument("--trigger-hz", type=float, default=200.0, help="how often it looks for a trigger")
    parser.add_argument("--lost-packets", type=float, default=0.0, metavar="SHARE", help="of its packets, 0 to 1")
    arguments = parser.parse_args(argv)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((arguments.address, _CONTROL_PORT))
        except OSError as exc:
            print(f"{arguments.address} port {_CONTROL_PORT}: {exc.strerror}", file=sys.stderr)
            return 1
    call = Library(
        "libaravis-0.8.so.0",
        "libaravis-0.8-0",
        {
            "arv_gv_fake_camera_new": "pointer(text, text)",
            "arv_gv_fake_camera_get_fake_camera": "pointer(pointer)",
            "arv_fake_camera_set_trigger_frequency": "void(pointer, double)",
        },
    )
    camera = call("arv_gv_fake_camera_new", arguments.address.encode(), arguments.serial.encode())
    Library("libgobject-2.0.so.0", "libglib2.0-0", {"g_object_set": "void(pointer, text, double, pointer)"})(
        "g_object_set", camera, b"gvsp-lost-ratio", arguments.lost_packets, None
    )
    call(
        "arv_fake_camera_set_trigger_frequency",
        call("arv_gv_fake_camera_get_fake_camera", camera),
        arguments.trigger_hz,
    )
    print("ready", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    glib()("g_object_unref", camera)
    return 0


if __name__ == "__main__":
    sys.exit(main())
