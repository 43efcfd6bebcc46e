"""Between the gateway's vocabulary and XFRM messages. No I/O."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

from gateway.dataplane.netlink.xfrm_messages import (
    AEAD_ICV_BITS,
    AEAD_KEY_SIZE,
    AEAD_NAME,
    ALL_ALGORITHMS,
    IPPROTO_ESP,
    UDP_ENCAP_ESPINUDP,
    USERSA_INFO,
    XFRM_INF,
    XFRM_MODE_TRANSPORT,
    XFRM_MODE_TUNNEL,
    PolicyDir,
    PolicyVerdict,
    SaDir,
    SaFlag,
    policy_id_request,
    policy_message,
    sa_id_request,
    sa_request,
    spi_request,
)
from gateway.dataplane.reconcile import is_our_priority, is_our_reqid
from gateway.errors import DataplaneError
from gateway.model import (
    Direction,
    EspMode,
    IpAddress,
    IpNetwork,
    PolicyAction,
    PolicySpec,
    SaId,
    SaLifetime,
    SaSpec,
    SaState,
    UdpEncap,
)

SPI_MIN: Final = 0xC000_0000
SPI_MAX: Final = 0xCFFF_FFFF
MAPPING_INTERVAL: Final = 1  # seconds between two reports of the same new port

_POLICY_DIRS: Final = {
    Direction.INBOUND: PolicyDir.IN,
    Direction.OUTBOUND: PolicyDir.OUT,
    Direction.FORWARD: PolicyDir.FWD,
}
_MODES: Final = {EspMode.TRANSPORT: XFRM_MODE_TRANSPORT, EspMode.TUNNEL: XFRM_MODE_TUNNEL}
_DIRECTIONS: Final = {int(number): direction for direction, number in _POLICY_DIRS.items()}


# --- addresses -------------------------------------------------------------------------------


def family_of(address: IpAddress | IpNetwork) -> int:
    return int(socket.AF_INET if address.version == 4 else socket.AF_INET6)


def pack_address(address: IpAddress) -> bytes:
    """xfrm_address_t: IPv4 stands in the first four octets."""
    return address.packed.ljust(16, b"\0")


def unpack_address(data: bytes, family: int) -> IpAddress:
    return IPv4Address(data[:4]) if family == socket.AF_INET else IPv6Address(data)


def _unpack_network(data: bytes, prefix: int, family: int) -> IpNetwork:
    if family == socket.AF_INET:
        return IPv4Network((data[:4], prefix), strict=False)
    return IPv6Network((data, prefix), strict=False)


# --- SAs -------------------------------------------------------------------------------------


def encode_sa(sa: SaSpec, *, with_direction: bool) -> Any:
    """NEWSA or UPDSA. ``with_direction``: the kernel knows XFRMA_SA_DIR (from 6.10)."""
    key = sa.key.expose()
    if len(key) != AEAD_KEY_SIZE:
        raise DataplaneError(f"SA {sa.spi:08x}: the key has {len(key)} octets, not {AEAD_KEY_SIZE}")
    inbound = sa.direction is Direction.INBOUND
    tunnel = sa.mode is EspMode.TUNNEL
    message = sa_request()
    message.update(
        daddr=pack_address(sa.destination),
        spi=sa.spi,
        proto=IPPROTO_ESP,
        saddr=pack_address(sa.source),
        reqid=sa.reqid,
        family=family_of(sa.destination),
        mode=_MODES[sa.mode],
        flags=(SaFlag.AF_UNSPEC if tunnel else 0) | (SaFlag.ESN if sa.esn else 0),
        **_lifetime(sa.lifetime),
    )
    message["attrs"] = [
        ("XFRMA_ALG_AEAD", _aead(key)),
        ("XFRMA_REPLAY_ESN_VAL", _replay(sa, with_direction=with_direction)),
    ]
    if sa.encap is not None:
        message["attrs"].append(("XFRMA_ENCAP", _encap(sa.encap)))
        if inbound:
            message["attrs"].append(("XFRMA_MTIMER_THRESH", MAPPING_INTERVAL))
    if with_direction:
        message["attrs"].append(("XFRMA_SA_DIR", int(SaDir.IN if inbound else SaDir.OUT)))
    return message


def encode_encap(known: Any, encap: UdpEncap, stand_in: bytes) -> Any:
    """UPDSA that gives the SA in ``known``, as the kernel showed it, other UDP ports.

    Of an SA in use the kernel takes encapsulation and lifetimes from UPDSA and leaves key,
    counters and replay window as they are (xfrm_state_update). A key must be in the message
    all the same: ``stand_in`` is 36 random octets, so that it would be worth nothing to anybody
    if it ever got into use.
    """
    message = sa_request()
    message.update({name: known[name] for name, form in USERSA_INFO if not form.endswith("x")})
    message["attrs"] = [("XFRMA_ALG_AEAD", _aead(stand_in)), ("XFRMA_ENCAP", _encap(encap))]
    replay = known.get_attr("XFRMA_REPLAY_ESN_VAL")
    if replay is not None:
        kept = {name: replay[name] for name in ("bmp_len", "replay_window")}
        message["attrs"].append(("XFRMA_REPLAY_ESN_VAL", kept))
    direction = known.get_attr("XFRMA_SA_DIR")
    if direction is not None:
        message["attrs"].append(("XFRMA_SA_DIR", direction))
    return message


def _aead(key: bytes) -> dict[str, Any]:
    return {
        "alg_name": AEAD_NAME.ljust(64, b"\0"),
        "alg_key_len": 8 * AEAD_KEY_SIZE,
        "alg_icv_len": AEAD_ICV_BITS,
        "alg_key": key,
    }


def _encap(encap: UdpEncap) -> dict[str, int]:
    return {
        "encap_type": UDP_ENCAP_ESPINUDP,
        "encap_sport": encap.source_port,
        "encap_dport": encap.destination_port,
    }


def _replay(sa: SaSpec, *, with_direction: bool) -> dict[str, int]:
    """The replay state. It also carries the outbound counter, so both directions have one.

    Outbound: with XFRMA_SA_DIR the window must be 0, kernels before it refuse ESN without one.
    """
    outbound_window = 0 if with_direction else 1
    window = sa.replay_window if sa.direction is Direction.INBOUND else outbound_window
    return {"bmp_len": (window + 31) // 32, "replay_window": window}


def _lifetime(lifetime: SaLifetime) -> dict[str, int]:
    def limit(value: int | None) -> int:
        return XFRM_INF if value is None else value

    return {
        "soft_byte_limit": limit(lifetime.soft_bytes),
        "hard_byte_limit": limit(lifetime.hard_bytes),
        "soft_packet_limit": limit(lifetime.soft_packets),
        "hard_packet_limit": limit(lifetime.hard_packets),
        "soft_add_expires_seconds": lifetime.soft_seconds or 0,  # here 0 is "never"
        "hard_add_expires_seconds": lifetime.hard_seconds or 0,
    }


def _unpack_lifetime(message: Any) -> SaLifetime:
    def limit(value: int) -> int | None:
        return None if value == XFRM_INF else value

    return SaLifetime(
        soft_bytes=limit(message["soft_byte_limit"]),
        hard_bytes=limit(message["hard_byte_limit"]),
        soft_packets=limit(message["soft_packet_limit"]),
        hard_packets=limit(message["hard_packet_limit"]),
        soft_seconds=message["soft_add_expires_seconds"] or None,
        hard_seconds=message["hard_add_expires_seconds"] or None,
    )


def encode_spi_request(
    source: IpAddress, destination: IpAddress, reqid: int, *, with_direction: bool
) -> Any:
    message = spi_request()
    message.update(
        daddr=pack_address(destination),
        proto=IPPROTO_ESP,
        saddr=pack_address(source),
        reqid=reqid,
        family=family_of(destination),
        mode=XFRM_MODE_TUNNEL,
        min=SPI_MIN,
        max=SPI_MAX,
        **_lifetime(SaLifetime()),
    )
    if with_direction:
        # UPDSA may not give a direction to a reservation that was made without one.
        message["attrs"] = [("XFRMA_SA_DIR", int(SaDir.IN))]
    return message


def encode_sa_id(sa_id: SaId) -> Any:
    message = sa_id_request()
    message.update(
        daddr=pack_address(sa_id.destination),
        spi=sa_id.spi,
        family=family_of(sa_id.destination),
        proto=IPPROTO_ESP,
    )
    return message


def decode_sa(message: Any) -> SaState:
    family = message["family"]
    return SaState(
        sa_id=SaId(unpack_address(message["daddr"], family), message["spi"]),
        source=unpack_address(message["saddr"], family),
        reqid=message["reqid"],
        larval=message.get_attr("XFRMA_ALG_AEAD") is None,
        esn=bool(message["flags"] & SaFlag.ESN),
        bytes=message["bytes"],
        packets=message["packets"],
        replay_drops=message["replay_window_drops"] + message["replay_drops"],
        integrity_failures=message["integrity_failed"],
        added_at=message["add_time"],
        lifetime=_unpack_lifetime(message),
    )


def is_our_sa(message: Any) -> bool:
    return message["proto"] == IPPROTO_ESP and is_our_reqid(message["reqid"])


# --- policies --------------------------------------------------------------------------------


def _selector(policy: PolicySpec) -> dict[str, Any]:
    """The selector with the priority in its destination port, under a zero mask.

    The kernel compares (packet port ^ selector port) & mask, so the number matches any packet;
    but it takes part when the kernel looks for "the same selector", and so keeps policies of
    different priority apart. iproute2 prints ports only where a mask is set.
    """
    return {
        "sel_daddr": pack_address(policy.destination.network_address),
        "sel_saddr": pack_address(policy.source.network_address),
        "sel_dport": policy.priority & 0xFFFF,
        "sel_family": family_of(policy.source),
        "sel_prefixlen_d": policy.destination.prefixlen,
        "sel_prefixlen_s": policy.source.prefixlen,
    }


def encode_policy(policy: PolicySpec) -> Any:
    """UPDPOLICY: creates, or replaces the policy with the same selector, direction, priority."""
    protect = policy.action is PolicyAction.PROTECT
    message = policy_message()
    message.update(
        **_selector(policy),
        **_lifetime(SaLifetime()),
        priority=policy.priority,
        dir=_POLICY_DIRS[policy.direction],
        action=PolicyVerdict.ALLOW if protect else PolicyVerdict.BLOCK,
    )
    if protect:
        message["attrs"] = [("XFRMA_TMPL", _template(policy))]
    return message


def _template(policy: PolicySpec) -> dict[str, Any]:
    source, destination = policy.tunnel_source, policy.tunnel_destination
    if source is None or destination is None:
        raise DataplaneError(f"{policy_label(policy)}: no tunnel addresses")
    return {
        "daddr": pack_address(destination),
        "spi": policy.outbound_spi,
        "proto": IPPROTO_ESP,
        "family": family_of(destination),
        "saddr": pack_address(source),
        "reqid": policy.reqid,
        "mode": _MODES[policy.mode],
        "optional": 0,  # level "required": no SA, no traffic
        "aalgos": ALL_ALGORITHMS,
        "ealgos": ALL_ALGORITHMS,
        "calgos": ALL_ALGORITHMS,
    }


def encode_policy_id(policy: PolicySpec) -> Any:
    message = policy_id_request()
    message.update(**_selector(policy), dir=_POLICY_DIRS[policy.direction])
    return message


def decode_policy(message: Any) -> PolicySpec | None:
    """One of ours, or None: our mark is the priority in the port, see ``_selector``."""
    priority, family = message["priority"], message["sel_family"]
    if not is_our_priority(priority) or message["sel_dport"] != priority & 0xFFFF:
        return None
    template = message.get_attr("XFRMA_TMPL")
    blocks = message["action"] == PolicyVerdict.BLOCK
    if message["sel_dport_mask"] or message["dir"] not in _DIRECTIONS or blocks == bool(template):
        return None
    outer = template["family"] if template else 0
    transport = bool(template) and template["mode"] == XFRM_MODE_TRANSPORT
    return PolicySpec(
        tunnel="",
        direction=_DIRECTIONS[message["dir"]],
        source=_unpack_network(message["sel_saddr"], message["sel_prefixlen_s"], family),
        destination=_unpack_network(message["sel_daddr"], message["sel_prefixlen_d"], family),
        action=PolicyAction.BLOCK if blocks else PolicyAction.PROTECT,
        priority=priority,
        tunnel_source=unpack_address(template["saddr"], outer) if template else None,
        tunnel_destination=unpack_address(template["daddr"], outer) if template else None,
        reqid=template["reqid"] if template else 0,
        outbound_spi=template["spi"] if template else 0,
        mode=EspMode.TRANSPORT if transport else EspMode.TUNNEL,
    )


# --- for people ------------------------------------------------------------------------------


def policy_label(policy: PolicySpec) -> str:
    return (
        f"policy {policy.direction.value} {policy.source} -> {policy.destination}"
        f" ({policy.action.value})"
    )


def sa_label(sa_id: SaId) -> str:
    return f"SA {sa_id.spi:08x} to {sa_id.destination}"
