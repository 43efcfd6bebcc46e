"""Every key handed out, in a file: for the lab alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from kms_client.secret import Secret
from qkd_adapters.errors import KmeStartupError


class KeyRecorder:
    """Writes every key handed out, for the lab's search for key bytes in all artefacts.

    It defeats the purpose of the keys, so it exists only where ``QSGW_LAB=1`` is set.
    One line per key: key id, blank, key in hexadecimal. Mode 0600.
    """

    def __init__(self, path: Path) -> None:
        if os.environ.get("QSGW_LAB") != "1":
            raise KmeStartupError("--record-keys is for the lab only: QSGW_LAB=1 is not set")
        try:
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600
            )
            os.fchmod(descriptor, 0o600)
            self._file: TextIO = os.fdopen(descriptor, "a", buffering=1, encoding="ascii")
        except OSError as error:
            raise KmeStartupError(f"cannot write {path}: {error.strerror}") from error

    def record(self, key_id: str, block: Secret) -> None:
        self._file.write(f"{key_id} {block.expose().hex()}\n")

    def close(self) -> None:
        self._file.close()
