"""TLS with a pre-shared key, as draft-cisco-skip-02 Table 1 recommends it beside certificates.

Python's ``ssl`` can do it from 3.13 on (``SSLContext.set_psk_client_callback``), for TLS 1.2.
The draft's cipher suites for that, TLS_DHE_PSK_WITH_AES_256_CBC_SHA384 and .._SHA, give forward
secrecy by finite-field Diffie-Hellman: no protection of a recorded session against a quantum
computer but the pre-shared key's own, which is why that has to have 256 bits.
On an older Python every request ends in a TlsMaterialError that says so; use certificates there.
"""

from __future__ import annotations

import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

from kms_client.errors import TlsMaterialError

# OpenSSL's names; the AEAD suite first, of the same family and offered by open key providers.
CIPHERS = "DHE-PSK-AES256-GCM-SHA384:DHE-PSK-AES256-CBC-SHA384:DHE-PSK-AES256-CBC-SHA"
MIN_PSK = 32  # octets
_MAX_FILE = 4096  # octets


@dataclass(frozen=True, slots=True, kw_only=True)
class PskFile:
    """The identity we show, and a file with the key in hexadecimal (one line)."""

    identity: str
    key: Path


class ClientPsk:
    """The context of a pre-shared key. Which side lies is found out by the handshake failing."""

    def __init__(self, psk: PskFile) -> None:
        self._psk = psk

    def context(self) -> ssl.SSLContext:
        """Raises TlsMaterialError. Made anew each time, so a changed key is taken up."""
        key = _read(self._psk.key)
        if sys.version_info < (3, 13) or not ssl.HAS_PSK:
            raise TlsMaterialError(
                "TLS with a pre-shared key needs Python 3.13 and an OpenSSL with PSK; "
                "this is Python "
                f"{sys.version_info.major}.{sys.version_info.minor}: use certificates"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # there is no certificate: who knows the key is the KP
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        identity = self._psk.identity
        context.set_psk_client_callback(lambda _hint: (identity, key))
        return context


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE)
    except OSError as error:
        raise TlsMaterialError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        raise TlsMaterialError(f"{path}: holds no key in hexadecimal") from None
    if len(key) < MIN_PSK:
        raise TlsMaterialError(f"{path}: a key of {len(key)} octets; {MIN_PSK} are needed")
    return key
