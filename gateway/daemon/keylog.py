"""IKE, ESP and MACsec keys in Wireshark's table formats, for the lab only.

The folder is a Wireshark configuration: ``WIRESHARK_CONFIG_DIR=FOLDER wireshark isp.pcap``.
Whoever holds it can read the traffic, so the daemon writes it only on an explicit switch and
refuses to under systemd.

Wireshark finds IKE keys by the SPIs alone and of several rows for the same SPIs takes the
last. IKE_INTERMEDIATE changes the keys under the same SPIs, so the table in the folder itself
opens everything from IKE_AUTH on, and ``generation-N`` holds a table for the messages that
went under the N-th generation: in ``generation-0`` those of the first IKE_INTERMEDIATE.

Wireshark takes SAKs out of MKA, with the CAKs. ``macsec_sak`` is a table of our own, for those
who would rather not rely on MKA.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from gateway.crypto.algorithms import EncryptionId
from gateway.crypto.secret import Secret
from gateway.errors import StartupError
from gateway.ike.commands import RecordIkeKeys
from gateway.mka.commands import ReceiveSa, SaKey, TransmitSa
from gateway.model import SaSpec

ESP_TABLE: Final = "esp_sa"
IKE_TABLE: Final = "ikev2_decryption_table"
CAK_TABLE: Final = "mka_ckn_info"
SAK_TABLE: Final = "macsec_sak"
_PREFERENCES: Final = "preferences"
_SWITCHES: Final = "esp.enable_encryption_decode: TRUE\n"

_ESP_AES_GCM: Final = "AES-GCM with 16 octet ICV [RFC4106]"
_NO_INTEGRITY: Final = "NONE [RFC4306]"
_SALT: Final = 4  # octets at the end of SK_e (RFC 5282 7.1)


class KeyLog:
    """Appends a row per ESP SA, per generation of an IKE SA's keys, per CAK and MACsec SA."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, mode 0700. Raises StartupError under systemd or if it cannot."""
        if "INVOCATION_ID" in os.environ:  # systemd.exec(5): set for every unit
            raise StartupError("--insecure-key-log is for the lab; refused under systemd")
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._esp = _private(folder / ESP_TABLE)
            self._ike = _private(folder / IKE_TABLE)
            with _private(folder / _PREFERENCES) as preferences:
                if preferences.tell() == 0:
                    preferences.write(_SWITCHES)
        except OSError as error:
            raise StartupError(f"key log {folder}: {error.strerror}") from error

    def write_sa(self, sa: SaSpec) -> None:
        """A row of Wireshark's ``esp_sa`` table."""
        fields = (
            f"IPv{sa.destination.version}",
            str(sa.source),
            str(sa.destination),
            f"0x{sa.spi:08x}",
            _ESP_AES_GCM,
            f"0x{sa.key.expose().hex()}",
            "NULL",
            "",
        )
        self._esp.write(",".join(f'"{field}"' for field in fields) + "\n")

    def write_ike(self, keys: RecordIkeKeys) -> None:
        """A row of Wireshark's ``ikev2_decryption_table``; the keys are wiped."""
        sk_ei, sk_er = keys.sk_ei.expose(), keys.sk_er.expose()
        keys.sk_ei.wipe()
        keys.sk_er.wipe()
        if keys.encryption is not EncryptionId.AES_GCM_16:
            return  # Wireshark cannot open ChaCha20-Poly1305 in IKE
        algorithm = f"AES-GCM-{8 * (len(sk_ei) - _SALT)} with 16 octet ICV [RFC5282]"
        spis = f"{keys.spi_i.hex()},{keys.spi_r.hex()}"
        no_keys = ",,"  # SK_ai and SK_ar: an AEAD has none
        row = f'{spis},{sk_ei.hex()},{sk_er.hex()},"{algorithm}"{no_keys},"{_NO_INTEGRITY}"\n'
        self._ike.write(row)
        folder = self._folder / f"generation-{keys.generation}"
        folder.mkdir(mode=0o700, exist_ok=True)
        with _private(folder / IKE_TABLE) as table:
            table.write(row)

    def write_cak(self, link: str, ckn: bytes, cak: Secret) -> None:
        """A row of Wireshark's ``mka_ckn_info`` table, with the CAK as later than 4.0 has it."""
        with _private(self._folder / CAK_TABLE) as table:
            table.write(f'{ckn.hex()},"{link}",{cak.expose().hex()}\n')

    def write_sak(self, sak: SaKey, channels: Iterable[TransmitSa | ReceiveSa]) -> None:
        """Rows of ``macsec_sak``: KI, AN, SCI, SSCI, suite, SAK, salt; "" for what only XPN has."""
        salt = "" if sak.salt is None else sak.salt.hex()
        with _private(self._folder / SAK_TABLE) as table:
            for each in channels:
                ssci = "" if each.ssci is None else str(each.ssci)
                fields = (sak.ki.encode().hex(), str(sak.an), each.sci.encode().hex(), ssci)
                table.write(
                    ",".join((*fields, sak.suite.name, sak.key.expose().hex(), salt)) + "\n"
                )

    def close(self) -> None:
        self._esp.close()
        self._ike.close()


def _private(path: Path) -> IO[str]:
    """``path``, mode 0600, to append to; every line is out at once."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "a", buffering=1)
