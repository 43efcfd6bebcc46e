"""Readers for single values. Each raises ValueError with what would be right."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from urllib.parse import urlsplit

from gateway.model import IpAddress, IpNetwork

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)", re.ASCII)
_OCTETS = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kMG]?)(?: packets)?", re.ASCII)
_MULTIPLES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_CKN = re.compile(r"(?:[0-9a-fA-F]{2}){1,32}")  # 1 to 32 octets, 802.1X 9.3.1
_INTERFACE_MAX = 15  # octets: <linux/if.h>, IFNAMSIZ less its terminator
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def parse_duration(text: str) -> float:
    """Seconds from ``250ms``, ``30s``, ``5m``, ``1h``, ``1d``, ``1h30m`` or ``0``."""
    if text == "0":
        return 0.0
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(
            f'"{text}" is not a duration: write a number and a unit (ms, s, m, h, d), like "30s"'
        )
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def parse_size(text: str) -> int:
    """Octets from ``64 GiB``, ``500MB`` or ``0``."""
    if text == "0":
        return 0
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(
            f'"{text}" is not an amount of data: write a number and a unit '
            '(B, KiB, MiB, GiB, TiB, kB, MB, GB, TB), like "64 GiB"'
        )
    return int(float(found[1]) * _OCTETS[found[2]])


def parse_packets(text: str) -> int:
    """A number of packets from ``1000M``, ``2G packets`` or ``0``; k, M and G are decimal."""
    found = _COUNT.fullmatch(text)
    if found is None:
        raise ValueError(
            f'"{text}" is not a number of packets: write a number, if need be with k, M or G, '
            'like "1000M"'
        )
    return int(float(found[1]) * _MULTIPLES[found[2]])


def parse_address(text: str) -> IpAddress:
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f'"{text}" is not an IPv4 or IPv6 address') from None
    if address.is_unspecified:
        raise ValueError(f'"{text}" stands for every address: name the one to use')
    if address.is_multicast:
        raise ValueError(f'"{text}" is a multicast address')
    if address.version == 6 and address.is_link_local:  # the kernel's SAs know no zones
        raise ValueError(f'"{text}" is good on one link only: use a global or unique local address')
    return address


def parse_network(text: str) -> IpNetwork:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{text}" is not a network: write it like "10.1.0.0/24"') from None
    if "/" in text and ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f'"{text}" has host bits set: did you mean "{network}"?')
    return network


def parse_interface_address(text: str) -> IPv4Interface | IPv6Interface:
    """An address of one of our devices, with the length of its prefix."""
    try:
        found = ip_interface(text)
    except ValueError:
        found = None
    if found is None or "/" not in text:
        raise ValueError(f'"{text}" is not an address with its prefix, like "10.9.3.1/30"')
    if found.ip.is_unspecified or found.ip.is_multicast or found.ip.is_loopback:
        raise ValueError(f'"{text}" cannot be the address of a device')
    ends = (found.network.network_address, found.network.broadcast_address)
    if found.version == 4 and found.network.prefixlen < 31 and found.ip in ends:  # RFC 3021
        raise ValueError(f'"{text}" is not of one host: it stands for the network or all in it')
    return found


def parse_interface(text: str) -> str:
    """The name of a network interface, as the kernel takes it (``dev_valid_name``)."""
    if len(text.encode()) > _INTERFACE_MAX:
        raise ValueError(f'"{text}" is too long for an interface: {_INTERFACE_MAX} octets at most')
    if text in {"", ".", ".."} or set(text) & set("/:") or not text.isprintable() or " " in text:
        raise ValueError(f'"{text}" cannot be the name of an interface: no "/", ":" or spaces')
    return text


def parse_ckn(text: str) -> bytes:
    """The name of a CAK: 1 to 32 octets in hexadecimal."""
    if not _CKN.fullmatch(text):
        raise ValueError(f'"{text}" is not a CKN: write 1 to 32 octets in hexadecimal')
    return bytes.fromhex(text)


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def parse_name(text: str) -> str:
    """A name of a tunnel, KME or gateway: it becomes part of topics, labels and log fields."""
    if not is_name(text):
        raise ValueError(
            f'"{text}" cannot be a name: use up to 63 letters, digits, ".", "_" or "-", '
            "beginning and ending with a letter or digit"
        )
    return text


def parse_sae_id(text: str) -> str:
    """A SAE_ID; it becomes part of a URL path (ETSI GS QKD 014)."""
    if not text.isascii() or not text.isprintable() or set(text) & set(" /?#%"):
        raise ValueError(f'"{text}" cannot be a SAE_ID: it stands in a URL path')
    return text


def parse_kme_url(text: str) -> str:
    """The base URL of a KME, without a trailing slash."""
    parts = urlsplit(text)
    if parts.scheme != "https":
        raise ValueError(f'"{text}": a KME is reached over https:// (ETSI GS QKD 014)')
    try:
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        port_is_good = False
    if not parts.hostname or not port_is_good or parts.username is not None:
        raise ValueError(f'"{text}" is not a KME address: write it like "https://kme.example:8443"')
    if parts.query or parts.fragment:
        raise ValueError(f'"{text}": leave out everything after "?" or "#"')
    return text.rstrip("/")


def parse_listen(text: str) -> tuple[IpAddress, int]:
    """``address:port`` or ``[address]:port``."""
    host, separator, port = text.rpartition(":")
    good = separator and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        good = False
    if not good:
        raise ValueError(f'"{text}" is not address:port, like "127.0.0.1:9464" or "[::1]:9464"')
    try:
        return ip_address(host.strip("[]")), int(port)
    except ValueError:
        raise ValueError(f'"{text}": "{host}" is not an IPv4 or IPv6 address') from None


def parse_topic_prefix(text: str) -> str:
    """An MQTT topic prefix: no wildcards (MQTT 5.0 4.7.1), no empty first or last level."""
    if set(text) & set("+#\0") or text.startswith(("/", "$")) or text.endswith("/"):
        raise ValueError(
            f'"{text}" cannot be a topic prefix: no "+", "#", leading "$" or "/", trailing "/"'
        )
    return text
