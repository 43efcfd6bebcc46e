"""Tells systemd how the daemon is: sd_notify(3) in a few lines of our own.

Without $NOTIFY_SOCKET every call does nothing, so the daemon need not care who started it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger("qsgw.notify")


class Notifier:
    """Sends state to the service manager. Never raises: a lost notification harms nobody."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._watchdog = _watchdog_seconds(environment)

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between pings, half of WatchdogSec= as sd_watchdog_enabled(3) advises."""
        return None if self._watchdog is None else self._watchdog / 2

    def ready(self, status: str = "") -> None:
        """Start-up or reload is over: sockets bound, configuration in force."""
        self._send(["READY=1", *_status(status)])

    def reloading(self) -> None:
        """A reload begins; ``ready`` must follow, also when it failed.

        MONOTONIC_USEC is what Type=notify-reload needs to tell this reload from an older one;
        without it ``systemctl reload`` waits until its time-out.
        """
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(["RELOADING=1", f"MONOTONIC_USEC={usec}"])

    def stopping(self) -> None:
        self._send(["STOPPING=1"])

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(_status(text))

    def watchdog(self) -> None:
        """Still making progress. Stop calling it, and systemd restarts the service."""
        self._send(["WATCHDOG=1"])

    def _send(self, lines: list[str]) -> None:
        if self._address is None or not lines:
            return
        message = "\n".join(lines).encode()
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


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    pid = environment.get("WATCHDOG_PID")
    if pid is not None and pid != str(os.getpid()):
        return None  # meant for another process of this service
    usec = environment.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isascii() and usec.isdigit() and int(usec) > 0 else None


def _status(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []
