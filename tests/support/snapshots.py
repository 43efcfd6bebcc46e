"""A snapshot as a running gateway makes it, for tests of what shows it."""

from dataclasses import fields, replace
from typing import Any

from gateway.model import (
    Alarm,
    CakView,
    ChildView,
    EspMode,
    IkeView,
    KeysView,
    KmeView,
    MacsecCounters,
    MacsecPeerView,
    MacsecView,
    PortSecurity,
    PortState,
    Protection,
    QkdPolicy,
    Role,
    SakView,
    Severity,
    Snapshot,
    StatusEvent,
    TunnelView,
)

KEY_ID = "0f4e1c9a-52d1-4c9e-8a77-3b1f0c9d2e61"
NOW = "2026-11-21T10:00:00.000Z"


def child_view(**changes: Any) -> ChildView:
    return replace(
        ChildView(
            spi_in="c1000001",
            spi_out="c2000002",
            protection=Protection.HYBRID,
            key_exchanges=("X25519", "ML-KEM-768"),
            ppk_method="RFC9867-child",
            key_id=KEY_ID,
            key_shared=False,
            encryption="AES_GCM_16-256",
            mode=EspMode.TUNNEL,
            esn=True,
            in_kernel=True,
            carries_outbound=True,
            bytes_in=1536,
            bytes_out=20,
            packets_in=12,
            packets_out=1,
            established_at="2026-11-21T09:59:30.000Z",
            rekey_at="2026-11-21T10:00:30.000Z",
            rekey_bytes=1 << 39,
            rekey_packets=1_900_000_000,
            life_bytes=1 << 40,
            life_packets=4_000_000_000,
        ),
        **changes,
    )


def ike_view(**changes: Any) -> IkeView:
    return replace(
        IkeView(
            spi_i="00112233445566aa",
            spi_r="8899aabbccddeeff",
            role=Role.INITIATOR,
            state="established",
            local="10.0.12.1:4500",
            remote="10.0.23.3:4500",
            proposal="AES_GCM_16-256/PRF_HMAC_SHA2_512/X25519/KE1_ML-KEM-768/PPK",
            key_exchanges=("X25519", "ML-KEM-768"),
            ppk_method="RFC9867",
            key_id=KEY_ID,
            protection=Protection.HYBRID,
            established_at="2026-11-21T09:00:00.000Z",
            nat=False,
            fragmentation=True,
            local_proof="ECDSA-P384-SHA384 CN=moon",
            remote_proof="ECDSA-P384-SHA384 CN=sun",
        ),
        **changes,
    )


def keys_view(**changes: Any) -> KeysView:
    return replace(
        KeysView(
            peer_sae="sun",
            pool=4,
            key_ids=(KEY_ID,),
            pool_target=4,
            stored_at_kme=120,
            rate=0.5,
            used=21,
            burned=1,
            reused=0,
        ),
        **changes,
    )


def tunnel_view(name: str = "sun", **changes: Any) -> TunnelView:
    return replace(
        TunnelView(
            name=name,
            connection=name,
            protection=Protection.HYBRID,
            reason="",
            since="2026-11-21T09:59:00.000Z",
            qkd=QkdPolicy.PREFER,
            on_demand=False,
            childless=False,
            rekey_at=None,
            local_id="moon.example",
            remote_id="sun.example",
            local_address="10.0.12.1",
            remote_address="10.0.23.3",
            local_subnets=("10.1.0.0/24",),
            remote_subnets=("10.2.0.0/24",),
            ike=ike_view(),
            children=(child_view(),),
            keys=keys_view(),
            rekeys=20,
            rekeys_hybrid=18,
            rekeys_pqc_only=2,
            ike_rekeys=3,
            failures=0,
            last_error=None,
        ),
        **changes,
    )


CKN = "3f9a01c2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f"
OUR_SCI = "02:00:00:00:12:01/1"
THEIR_SCI = "02:00:00:00:23:03/1"
MI = "0102030405060708090a0b0c"


def cak_view(**changes: Any) -> CakView:
    return replace(
        CakView(
            ckn=CKN,
            protection=Protection.HYBRID,
            key_exchanges=("X25519", "ML-KEM-768"),
            ppk_method="RFC9867",
            key_id=KEY_ID,
            principal=True,
            key_server=OUR_SCI,
            live_peers=1,
            since="2026-11-21T09:55:00.000Z",
        ),
        **changes,
    )


def sak_view(**changes: Any) -> SakView:
    return replace(
        SakView(
            an=1,
            ki=f"{MI}.3",
            kn=3,
            ckn=CKN,
            suite="GCM-AES-256",
            encrypted=True,
            transmits=True,
            in_kernel=True,
            next_pn=12346,
        ),
        **changes,
    )


def member_view(**changes: Any) -> MacsecPeerView:
    return replace(
        MacsecPeerView(sci=THEIR_SCI, mi=MI[::-1], live=True, priority=16, key_server=False),
        **changes,
    )


def macsec_counters(**changes: int) -> MacsecCounters:
    counts = dict.fromkeys((field.name for field in fields(MacsecCounters)), 0)
    seen = {"out_packets": 12345, "out_octets": 20, "in_ok": 12, "in_octets": 1536}
    return MacsecCounters(**{**counts, **seen, **changes})


def macsec_view(name: str = "metro", **changes: Any) -> MacsecView:
    return replace(
        MacsecView(
            name=name,
            interface="eth1",
            device=f"macsec-{name}",
            sci=OUR_SCI,
            link=name,
            connection="sun",
            qkd=QkdPolicy.PREFER,
            protection=Protection.HYBRID,
            reason="",
            since="2026-11-21T09:59:00.000Z",
            security=PortSecurity.MUST_SECURE,
            port=PortState.SECURED,
            we_are_key_server=True,
            caks=(cak_view(),),
            cak_at="2026-11-21T10:40:00.000Z",
            peers=(member_view(),),
            saks=(sak_view(),),
            counters=macsec_counters(),
            mtu=1468,
            cak_rollovers=20,
            cak_rollovers_hybrid=18,
            cak_rollovers_pqc_only=2,
            sak_rollovers=24,
            failures=0,
            last_error=None,
            drops={},
        ),
        **changes,
    )


def kme_view(**changes: Any) -> KmeView:
    return replace(
        KmeView(
            name="primary",
            url="https://10.9.1.2:8443",
            healthy=True,
            active=True,
            last_error=None,
            requests=30,
            failures=0,
            refused_by=(),
        ),
        **changes,
    )


def alarm(**changes: Any) -> Alarm:
    return replace(
        Alarm(
            id="qkd-loss",
            severity=Severity.WARNING,
            subject="sun",
            text="no QKD keys since 5 s",
            since="2026-11-21T09:59:55.000Z",
        ),
        **changes,
    )


def snapshot(**changes: Any) -> Snapshot:
    return replace(
        Snapshot(
            schema=1,
            gateway="moon",
            version="0.1.0",
            time=NOW,
            started_at="2026-11-21T08:00:00.000Z",
            tunnels=(tunnel_view(),),
            kmes=(kme_view(),),
            alarms=(),
            drops={"integrity": 3},
        ),
        **changes,
    )


def event(**changes: Any) -> StatusEvent:
    return replace(
        StatusEvent(
            time=NOW,
            type="child-up",
            tunnel="sun",
            text=f"rekeyed with QKD key {KEY_ID}",
            fields={"key_id": KEY_ID, "spi_in": "c1000001"},
        ),
        **changes,
    )
