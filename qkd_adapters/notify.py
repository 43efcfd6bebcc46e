"""systemd's notification protocol (sd_notify(3)), as far as it is needed here."""

from __future__ import annotations

import os
import socket


def notify(*assignments: str) -> None:
    """Send e.g. ``READY=1`` to the service manager; nothing happens without one.

    A message that cannot be delivered is dropped: a service must not die of it.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.send("\n".join(assignments).encode())
        except OSError:
            return
