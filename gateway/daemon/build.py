"""From the checked configuration to the parts of a tunnel."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from cryptography import x509

from gateway.config.schema import NATT_PORT, Start, TunnelConfig
from gateway.daemon.lifetimes import SaLimits
from gateway.ike.config import ChildConfig, Connection, PpkMode, Timing
from gateway.ike.credentials import OwnKey, TrustedAuthorities
from gateway.ike.identity import Identity
from gateway.ike.proposals import ProposalSpec
from gateway.ike.registry import IdType
from gateway.model import QkdPolicy
from gateway.pki.authorities import AuthorityFiles
from gateway.protection.settings import HARD_AGE_FACTOR, ProtectionSettings
from kms_client.pool import PoolSettings

PPK_MODES = {
    QkdPolicy.REQUIRE: PpkMode.REQUIRE,
    QkdPolicy.PREFER: PpkMode.PREFER,
    QkdPolicy.OFF: PpkMode.OFF,
}

RETENTION_USED = 0.8
"""Of the time a KME keeps a key for the peer: the rest is for the exchange that names the key."""

KERNEL_GRACE = 60  # seconds past the policy's own end of an SA: the kernel's is for a dead daemon


def connections(
    tunnels: Mapping[str, TunnelConfig], accepted: Callable[[str], PpkMode | None]
) -> list[Connection]:
    """One for each peer. ``accepted``: the mode that policy has set for a tunnel by now."""
    children: dict[str, list[ChildConfig]] = {}
    for config in tunnels.values():
        if not config.childless:
            made = child(config, accepted(config.name))
            children.setdefault(config.connection, []).append(made)
    return [
        connection(config, tuple(children.get(config.name, ())), accepted(config.name))
        for config in tunnels.values()
        if config.shares is None
    ]


def connection(
    config: TunnelConfig, children: tuple[ChildConfig, ...], mode: PpkMode | None
) -> Connection:
    """The IKE core's view of a peer, with the tunnels to it. ``mode``: as for ``child``."""
    timing = Timing(liveness_interval=config.liveness)
    if config.retransmit_base is not None:
        timing = Timing(liveness_interval=config.liveness, retransmit_base=config.retransmit_base)
    return Connection(
        name=config.name,
        local_address=config.local,
        remote_address=config.remote,
        local_id=_own_identity(config),
        remote_id=Identity.parse(config.remote_id),
        local_auth=config.local_auth,
        remote_auth=config.remote_auth,
        ike_proposals=tuple(ProposalSpec.parse(text) for text in config.ike),
        children=children,
        ppk=mode or PPK_MODES[config.qkd],
        allow_classical=config.allow_classical,
        fragment_size=config.fragment_size,
        ike_lifetime=config.ike_rekey,
        timing=timing,
        nat_port_first=config.port == NATT_PORT,
        force_encap=config.force_encap,
    )


def child(config: TunnelConfig, mode: PpkMode | None) -> ChildConfig:
    """One tunnel of a connection. ``mode``: what policy has set by now, if it has."""
    return ChildConfig(
        name=config.name,
        esp_proposals=tuple(ProposalSpec.parse(text) for text in config.esp),
        local_networks=config.local_subnets,
        remote_networks=config.remote_subnets,
        esp_mode=config.mode,
        ppk=mode or PPK_MODES[config.qkd],
    )


def _own_identity(config: TunnelConfig) -> Identity:
    """A distinguished name goes out as our certificate spells it: some peers compare octets."""
    identity = Identity.parse(config.local_id)
    ours = config.local_auth
    if identity.type == IdType.DER_ASN1_DN and isinstance(ours, OwnKey) and ours.certificates:
        return Identity.of_name(x509.load_der_x509_certificate(ours.certificates[0]).subject)
    return identity


def authorities(config: TunnelConfig) -> AuthorityFiles | None:
    """Whom the peer's certificate is checked with; None where it shows none."""
    trust = config.trust
    if trust is None:
        return None
    return AuthorityFiles(ca=trust.ca, crl=trust.crl, revocation=trust.revocation)


def same_peer(one: TunnelConfig, other: TunnelConfig) -> bool:
    """Whether SAs made under one hold under the other: what they differ in is policy only."""
    return _negotiated(one) == _negotiated(other)


def _negotiated(config: TunnelConfig) -> tuple[object, ...]:
    return (
        config.connection,
        config.local,
        config.remote,
        config.local_id,
        config.remote_id,
        # A renewed certificate, or other CAs, count from the next IKE SA on.
        None if isinstance(config.local_auth, OwnKey) else config.local_auth,
        None if isinstance(config.remote_auth, TrustedAuthorities) else config.remote_auth,
        config.local_subnets,
        config.remote_subnets,
        config.ike,
        config.esp,
        config.mode,
        config.allow_classical,
        config.force_encap,
    )


def protection_settings(config: TunnelConfig) -> ProtectionSettings:
    """The policy's view of a tunnel."""
    return ProtectionSettings(
        qkd=config.qkd,
        initiates=config.start is Start.INITIATE,
        on_demand=config.start is Start.TRAP,
        dpd_action=config.dpd_action,
        close_action=config.close_action,
        childless=config.childless,
        allow_classical=config.allow_classical,
        restore_dwell=config.restore_dwell,
        degraded_max=config.degraded_max,
        rekey_min=config.rekey_min,
        rekey_max=config.rekey_max,
        key_reserve=config.key_reserve,
        peer_key_age=pool_settings(config).max_age,
        jitter=random.random(),
    )


def sa_limits(config: TunnelConfig) -> SaLimits:
    """The kernel's limits. The one in seconds bounds how long SAs outlive a daemon that is gone."""
    return SaLimits(
        octets=config.rekey_bytes,
        packets=config.rekey_packets,
        seconds=math.ceil(config.rekey_max * HARD_AGE_FACTOR) + KERNEL_GRACE,
        early=config.start is not Start.RESPOND,
    )


def pool_settings(config: TunnelConfig, *, retention: float | None = None) -> PoolSettings:
    """How many keys a tunnel keeps ready; filled up again from half.

    ``retention``: seconds after which a KME of the tunnel forgets a key that the peer has not
    fetched.
    """
    pool = PoolSettings(target=config.pool_target, low_water=config.pool_target // 2)
    if retention is None:
        return pool
    return replace(pool, max_age=min(pool.max_age, RETENTION_USED * retention))
