"""ESP keys in Wireshark's table format, for the lab only.

A human or scapy can then open a capture. Whoever holds this file can read the traffic, so
the daemon writes it only on an explicit switch and refuses to under systemd.
"""

from __future__ import annotations

import os
from pathlib import Path

from gateway.errors import StartupError
from gateway.model import SaSpec


class EspKeyLog:
    """Appends one line per SA to an ``esp_sa`` table (Wireshark, ESP preferences)."""

    def __init__(self, path: Path) -> None:
        """Create the file, mode 0600. Raises StartupError under systemd or if it cannot."""
        if "INVOCATION_ID" in os.environ:  # systemd.exec(5): set for every unit
            raise StartupError("--insecure-key-log is for the lab; refused under systemd")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise StartupError(f"key log {path}: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "a", buffering=1)

    def write(self, sa: SaSpec) -> None:
        version = f"IPv{sa.destination.version}"
        fields = (
            version,
            str(sa.source),
            str(sa.destination),
            f"0x{sa.spi:08x}",
            "AES-GCM with 16 octet ICV [RFC4106]",
            f"0x{sa.key.expose().hex()}",
            "NULL",
            "",
        )
        self._file.write(",".join(f'"{field}"' for field in fields) + "\n")

    def close(self) -> None:
        self._file.close()
