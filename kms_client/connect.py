"""A client for a KME by its protocol: what stands in a ``[kme.NAME]`` table of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import assert_never

from kms_client.etsi014 import KmeClient
from kms_client.profiles import Profile
from kms_client.skip import SkipClient
from kms_client.tls import ClientTls, TlsFiles
from kms_client.tls_psk import ClientPsk, PskFile


class KeyProtocol(StrEnum):
    """What is spoken to a KME."""

    ETSI014 = "etsi014"  # ETSI GS QKD 014 V1.1.1
    SKIP = "skip"  # draft-cisco-skip-02


def make_client(
    *,
    name: str,
    url: str,
    credentials: TlsFiles | PskFile,
    protocol: KeyProtocol,
    profile: Profile,
    timeout: float,
    peers: Mapping[str, str],
) -> KmeClient | SkipClient:
    """``timeout`` in seconds. Raises TypeError for ETSI 014 without certificates (clause 5.1)."""
    match protocol:
        case KeyProtocol.ETSI014:
            if not isinstance(credentials, TlsFiles):
                raise TypeError("ETSI GS QKD 014 has mutual authentication by certificates")
            return KmeClient(
                name=name,
                url=url,
                tls=credentials,
                timeout=timeout,
                profile=profile,
                peers=peers,
            )
        case KeyProtocol.SKIP:
            tls = (
                ClientTls(credentials)
                if isinstance(credentials, TlsFiles)
                else ClientPsk(credentials)
            )
            return SkipClient(name=name, url=url, tls=tls, timeout=timeout, peers=peers)
        case _:
            assert_never(protocol)
