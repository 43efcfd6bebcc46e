"""sd_notify(3) in a few lines of our own, for every long-running command.

Without $NOTIFY_SOCKET every call does nothing, so a daemon need not care who started it.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger("qsgw.notify")


class ServiceManager:
    """Whoever started us. Telling never raises: a lost notification harms nobody."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))

    def tell(self, *assignments: str) -> None:
        """Send ``NAME=value`` assignments in one message."""
        if self._address is None or not assignments:
            return
        message = "\n".join(assignments).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto(message, self._address)
        except OSError as error:
            log.debug("service manager not notified: %s", error)


def _address(path: str) -> str | None:
    """A path, or "@name" for the abstract namespace (unix(7))."""
    if path.startswith("@"):
        return "\0" + path[1:]
    return path if path.startswith("/") else None
