"""Tells whoever started us that we are ready (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def ready() -> None:
    """Send READY=1 to ``NOTIFY_SOCKET``, if there is one."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", path)
