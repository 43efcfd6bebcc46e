"""KME clients from the configuration."""

from __future__ import annotations

from gateway.config.schema import KmeConfig
from kms_client.connect import make_client
from kms_client.failover import Kme
from kms_client.profiles import find_profile


def connect(config: KmeConfig) -> Kme:
    """A client; where certificate or key cannot be used, every request to it says so.

    So a bad file costs this KME, and not the daemon or the tunnels that do without it.
    """
    return make_client(
        name=config.name,
        url=config.url,
        credentials=config.credentials,
        protocol=config.protocol,
        profile=find_profile(config.profile),
        timeout=config.timeout,
        peers=dict(config.peers),
    )


def retention(config: KmeConfig) -> float | None:
    """Seconds for which this KME keeps a key for the peer; None: long enough for all we know."""
    if config.retention is not None:
        return config.retention
    return find_profile(config.profile).retention
