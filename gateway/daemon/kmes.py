"""KME clients from the configuration."""

from __future__ import annotations

from gateway.config.schema import KmeConfig
from kms_client.etsi014 import KmeClient
from kms_client.failover import Kme
from kms_client.tls import TlsFiles


def connect(config: KmeConfig) -> Kme:
    """A client; where certificate or key cannot be used, every request to it says so.

    So a bad file costs this KME, and not the daemon or the tunnels that do without it.
    """
    files = TlsFiles(ca=config.ca, certificate=config.certificate, key=config.key)
    return KmeClient(name=config.name, url=config.url, tls=files, timeout=config.timeout)
