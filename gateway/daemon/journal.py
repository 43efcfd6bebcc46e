"""A logging handler that speaks journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

So ``journalctl TUNNEL=sun`` shows one tunnel. Fields come from ``extra`` of the log call.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
MESSAGE_MAX = 64 * 1024  # octets; a datagram of twice that still fits the default buffers
EXTRA_FIELDS = ("tunnel", "kme", "event")  # of the log record; become TUNNEL=, KME=, EVENT=

_PRIORITIES = (  # syslog(3)
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)


def priority(level: int) -> int:
    """The syslog priority of a logging level."""
    return next((number for least, number in _PRIORITIES if level >= least), 7)


def stream_is_journal(descriptor: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this descriptor is the one systemd connected to the journal ($JOURNAL_STREAM)."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """Sends records as structured entries. A journal that does not read loses lines, counted."""

    def __init__(self, identifier: str, path: Path = SOCKET) -> None:
        """Raises OSError when there is no journal at ``path``."""
        super().__init__()
        self._identifier = identifier
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        if self._lost:
            message = f"{message} ({self._lost} earlier lines lost)"
        fields = {
            "MESSAGE": message,
            "PRIORITY": str(priority(record.levelno)),
            "SYSLOG_IDENTIFIER": self._identifier,
            "LOGGER": record.name,
        }
        for name in EXTRA_FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                fields[name.upper()] = str(value)
        try:
            self._socket.send(b"".join(_field(*item) for item in fields.items()))
        except OSError:
            self._lost += 1
        else:
            self._lost = 0

    def close(self) -> None:
        self._socket.close()
        super().close()


def _field(name: str, value: str) -> bytes:
    """``NAME=value``, or with a length in front where the value has line breaks."""
    data = value.encode(errors="replace")[:MESSAGE_MAX]
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
