"""Tells systemd how the daemon is, and finds out how often it wants to hear of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from kms_client.notify import ServiceManager


class Notifier:
    """Sends state to the service manager. Never raises: a lost notification harms nobody."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._manager = ServiceManager(environment)
        self._watchdog = _watchdog_seconds(environment)

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between pings, half of WatchdogSec= as sd_watchdog_enabled(3) advises."""
        return None if self._watchdog is None else self._watchdog / 2

    def ready(self, status: str = "") -> None:
        """Start-up or reload is over: sockets bound, configuration in force."""
        self._manager.tell("READY=1", *_status(status))

    def reloading(self) -> None:
        """A reload begins; ``ready`` must follow, also when it failed.

        MONOTONIC_USEC is what Type=notify-reload needs to tell this reload from an older one;
        without it ``systemctl reload`` waits until its time-out.
        """
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._manager.tell("RELOADING=1", f"MONOTONIC_USEC={usec}")

    def stopping(self) -> None:
        self._manager.tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._manager.tell(*_status(text))

    def watchdog(self) -> None:
        """Still making progress. Stop calling it, and systemd restarts the service."""
        self._manager.tell("WATCHDOG=1")


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    pid = environment.get("WATCHDOG_PID")
    if pid is not None and pid != str(os.getpid()):
        return None  # meant for another process of this service
    usec = environment.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isascii() and usec.isdigit() and int(usec) > 0 else None


def _status(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []
