"""Takes keys from a KME and leaves them in files, for an IKE daemon that speaks no ETSI 014.

A key is used up by this: it is to be handed to the daemon and the file removed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kms_client.etsi014 import KmeClient
from kms_client.models import QkdKey
from kms_client.tls import TlsFiles
from qkd_adapters.errors import KeyFileError


async def get_keys(
    url: str, files: TlsFiles, peer: str, key_ids: Sequence[str], folder: Path
) -> list[Path]:
    """The keys of ``key_ids``, which ``peer`` was given as master SAE; without any, a new one.

    Each is a file in ``folder`` called after its key_ID, readable by its owner only, with the
    key in hexadecimal. Raises KmeError, and KeyFileError where a file cannot be written.
    """
    client = KmeClient(name=url, url=url, tls=files)
    try:
        if key_ids:
            keys = await client.dec_keys(peer, key_ids)
        else:
            keys = await client.enc_keys(peer)
    finally:
        await client.close()
    return [_write(folder, key) for key in keys]


def _write(folder: Path, key: QkdKey) -> Path:
    path = folder / key.key_id
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key.key.expose().hex() + "\n")
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    finally:
        key.key.wipe()
    return path
