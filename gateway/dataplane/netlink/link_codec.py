"""Interfaces and addresses: requests, and what the kernel says, in our terms."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from gateway.dataplane.macsec_port import IpInterface, SecySpec
from gateway.dataplane.netlink.link_messages import (
    IFF_LOWER_UP,
    IFF_UP,
    address_message,
    link_message,
)
from gateway.dataplane.netlink.macsec_messages import VALIDATE_CHECK, VALIDATE_STRICT
from gateway.mka.identifiers import Sci

IFA_F_NODAD = 0x02  # linux/if_addr.h
MACSEC_KIND = "macsec"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An interface as the kernel has it."""

    index: int
    name: str
    mac: bytes
    mtu: int
    up: bool  # administratively
    running: bool  # and with a carrier
    kind: str  # "" of one that is not made by software
    below: int | None  # index of the interface below; None: none, or in another namespace


def decode_link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    elsewhere = message.get_attr("IFLA_LINK_NETNSID") is not None
    up = bool(message["flags"] & IFF_UP)
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME", ""),
        mac=message.get_attr("IFLA_ADDRESS", b""),
        mtu=message.get_attr("IFLA_MTU", 0),
        up=up,
        running=up and bool(message["flags"] & IFF_LOWER_UP),
        kind=info.get_attr("IFLA_INFO_KIND", "") if info is not None else "",
        below=None if elsewhere else message.get_attr("IFLA_LINK"),
    )


def encode_link_by_name(name: str) -> Any:
    message = link_message()
    message["attrs"] = [("IFLA_IFNAME", name)]
    return message


def encode_link_by_index(index: int) -> Any:
    message = link_message()
    message["index"] = index
    return message


def encode_link_up(index: int) -> Any:
    message = encode_link_by_index(index)
    message["flags"] = message["change"] = IFF_UP
    return message


def encode_link_mtu(index: int, mtu: int) -> Any:
    message = encode_link_by_index(index)
    message["attrs"] = [("IFLA_MTU", mtu)]
    return message


def encode_new_pair(name: str) -> Any:
    """Two virtual Ethernet interfaces; the kernel names the other one."""
    message = link_message()
    kind = {"attrs": [("IFLA_INFO_KIND", "veth")]}
    message["attrs"] = [("IFLA_IFNAME", name), ("IFLA_LINKINFO", kind)]
    return message


# --- MACsec devices --------------------------------------------------------------------------


def encode_new_macsec(spec: SecySpec, parent: int, sci: Sci) -> Any:
    """Down, and from its first moment on protecting and strict."""
    message = link_message()
    data = [
        ("IFLA_MACSEC_SCI", sci.encode()),
        ("IFLA_MACSEC_CIPHER_SUITE", int(spec.suite)),
        *_settings(spec),
    ]
    message["attrs"] = [
        ("IFLA_IFNAME", spec.device),
        ("IFLA_LINK", parent),
        _link_info(data),
    ]
    return message


def encode_macsec_settings(index: int, spec: SecySpec) -> Any:
    """All that can be changed of a device; again protecting and strict."""
    return _change(index, _settings(spec))


def encode_macsec_port(index: int, *, clear: bool) -> Any:
    return _change(index, _port(clear=clear))


def encode_encoding_an(index: int, an: int) -> Any:
    return _change(index, [("IFLA_MACSEC_ENCODING_SA", an)])


def _settings(spec: SecySpec) -> list[tuple[str, Any]]:
    return [
        ("IFLA_MACSEC_WINDOW", spec.replay_window),
        ("IFLA_MACSEC_ENCRYPT", int(spec.encrypt)),
        ("IFLA_MACSEC_INC_SCI", 1),
        ("IFLA_MACSEC_ES", 0),
        ("IFLA_MACSEC_SCB", 0),
        ("IFLA_MACSEC_REPLAY_PROTECT", 1),
        *_port(clear=False),
    ]


def _port(*, clear: bool) -> list[tuple[str, Any]]:
    return [
        ("IFLA_MACSEC_PROTECT", int(not clear)),
        ("IFLA_MACSEC_VALIDATION", VALIDATE_CHECK if clear else VALIDATE_STRICT),
    ]


def _change(index: int, data: list[tuple[str, Any]]) -> Any:
    message = encode_link_by_index(index)
    message["attrs"] = [_link_info(data)]
    return message


def _link_info(data: list[tuple[str, Any]]) -> tuple[str, Any]:
    attributes = [("IFLA_INFO_KIND", MACSEC_KIND), ("IFLA_INFO_DATA", {"attrs": data})]
    return ("IFLA_LINKINFO", {"attrs": attributes})


# --- addresses -------------------------------------------------------------------------------


def encode_address_dump() -> Any:
    """All addresses: an index in the request is heeded only by newer kernels."""
    return address_message()


def encode_new_address(index: int, address: IpInterface) -> Any:
    """IPv6: without duplicate address detection, whose frames leave before there is an SA."""
    message = address_message()
    v6 = address.version == 6
    message["family"] = socket.AF_INET6 if v6 else socket.AF_INET
    message["flags"] = IFA_F_NODAD if v6 else 0
    message["prefixlen"] = address.network.prefixlen
    message["index"] = index
    packed = address.ip.packed
    message["attrs"] = [("IFA_LOCAL", packed), ("IFA_ADDRESS", packed)]
    return message


def decode_address(message: Any) -> tuple[int, IpInterface]:
    """The index of its interface, and the address."""
    octets = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return message["index"], ip_interface((octets, message["prefixlen"]))
