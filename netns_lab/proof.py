"""What a capture at isp proves: what kinds of packets there were, and that ESP is what it seems.

Counting is done on octets, so it is fast. Decryption is scapy's, an implementation that
shares nothing with ours, with the keys that both gateways claim.
"""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from netns_lab import pcap
from netns_lab.errors import LabError
from netns_lab.traffic import MARKER

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

INNER_NETWORKS: tuple[IpNetwork, ...] = tuple(
    ip_network(text) for text in ("10.1.0.0/24", "10.2.0.0/24", "fd01::/64", "fd02::/64")
)
"""Behind the gateways: neither source nor destination of anything may be here."""

_ETHERTYPE_IPV4, _ETHERTYPE_IPV6 = 0x0800, 0x86DD
_UDP, _ESP = 17, 50
_IKE_PORT, _NATT_PORT = 500, 4500
_NON_ESP_MARKER = bytes(4)  # RFC 3948 2.2
_KEEPALIVE = b"\xff"  # RFC 3948 2.3

ALGORITHM = "AES-GCM with 16 octet ICV [RFC4106]"
SALT = 4  # octets at the end of the key, RFC 4106 8.1


@dataclass(frozen=True, slots=True)
class IpPacket:
    """An IP packet cut out of a frame."""

    raw: bytes  # from the IP header on
    source: IpAddress
    destination: IpAddress
    protocol: int
    payload: bytes


def ip_packet(frame: bytes) -> IpPacket | None:
    """The IP packet in an Ethernet frame; None for anything else."""
    if len(frame) < 34:
        return None
    ethertype = struct.unpack_from("!H", frame, 12)[0]
    raw = frame[14:]
    if ethertype == _ETHERTYPE_IPV4:
        header = (raw[0] & 0x0F) * 4
        raw = raw[: struct.unpack_from("!H", raw, 2)[0]]  # without Ethernet's padding
        source, destination = ip_address(raw[12:16]), ip_address(raw[16:20])
        return IpPacket(raw, source, destination, raw[9], raw[header:])
    if ethertype == _ETHERTYPE_IPV6 and len(raw) >= 40:
        source, destination = ip_address(raw[8:24]), ip_address(raw[24:40])
        return IpPacket(raw, source, destination, raw[6], raw[40:])
    return None


def esp_payload(packet: IpPacket) -> bytes | None:
    """The ESP packet in it, in UDP or not; None if it is something else."""
    if packet.protocol == _ESP:
        return packet.payload
    if packet.protocol != _UDP or len(packet.payload) < 12:
        return None
    source, destination = struct.unpack_from("!HH", packet.payload)
    data = packet.payload[8:]
    if _NATT_PORT not in (source, destination) or data[:4] == _NON_ESP_MARKER:
        return None
    return None if data[:1] == _KEEPALIVE and len(data) == 1 else data


def kind(frame: bytes) -> str:
    """``ike``, ``esp``, ``plaintext``, ``arp``... or ``other``: what a frame at isp is."""
    if MARKER in frame:
        return "plaintext"
    packet = ip_packet(frame)
    if packet is None:
        return "arp" if frame[12:14] == b"\x08\x06" else "other"
    if any(a in net for a in (packet.source, packet.destination) for net in INNER_NETWORKS):
        return "plaintext"
    if esp_payload(packet) is not None:
        return "esp"
    if packet.protocol == _UDP and len(packet.payload) >= 8:
        ports = struct.unpack_from("!HH", packet.payload)
        if {_IKE_PORT, _NATT_PORT} & set(ports):
            return "keepalive" if packet.payload[8:] == _KEEPALIVE else "ike"
    return "other"


def count_kinds(frames: Iterable[pcap.Frame]) -> dict[str, int]:
    """Frames by kind; ``plaintext`` is always there."""
    counts = {"plaintext": 0}
    for frame in frames:
        what = kind(frame.data)
        counts[what] = counts.get(what, 0) + 1
    return counts


# --- keys the gateways claim ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EspKey:
    """One row of an ``esp_sa`` table."""

    destination: IpAddress
    spi: int
    key: bytes = field(repr=False)  # AES key and salt


def load_keys(path: Path) -> dict[tuple[IpAddress, int], EspKey]:
    """Rows of a key log in Wireshark's ``esp_sa`` format. Raises LabError if it is none."""
    keys = {}
    with path.open(newline="") as file:
        for row in csv.reader(file):
            if len(row) != 8 or row[4] != ALGORITHM:
                raise LabError(f"{path}: not a row of an esp_sa table with AES-GCM")
            entry = EspKey(ip_address(row[2]), int(row[3], 16), bytes.fromhex(row[5][2:]))
            keys[entry.destination, entry.spi] = entry
    return keys


def agreed_keys(logs: Sequence[Path]) -> dict[tuple[IpAddress, int], EspKey]:
    """The SAs that every log has. Raises LabError if two claim different keys for one SA."""
    tables = [load_keys(path) for path in logs]
    common = set(tables[0]).intersection(*tables[1:])
    for sa in common:
        if len({table[sa].key for table in tables}) != 1:
            raise LabError(f"the gateways claim different keys for SPI {sa[1]:08x}")
    return {sa: tables[0][sa] for sa in common}


# --- decryption by scapy -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Decryption:
    """What scapy made of the ESP packets; ``failed`` says why, per SA."""

    sas_seen: int
    decrypted: int  # SAs of which a packet was decrypted and showed an inner packet
    failed: tuple[str, ...]

    @property
    def proven(self) -> bool:
        return self.sas_seen > 0 and self.decrypted == self.sas_seen


def decrypt(
    frames: Iterable[pcap.Frame], keys: dict[tuple[IpAddress, int], EspKey], *, esn: bool = True
) -> Decryption:
    """Decrypt the first packet of every SA seen, with the keys agreed on."""
    first: dict[tuple[IpAddress, int], IpPacket] = {}
    for frame in frames:
        packet = ip_packet(frame.data)
        data = esp_payload(packet) if packet is not None else None
        if packet is not None and data is not None and len(data) >= 4:
            first.setdefault((packet.destination, struct.unpack_from("!I", data)[0]), packet)
    failed = []
    for sa, packet in first.items():
        trouble = _decrypt_one(packet, sa[1], keys.get(sa), esn=esn)
        if trouble is not None:
            failed.append(f"SPI {sa[1]:08x}: {trouble}")
    return Decryption(sas_seen=len(first), decrypted=len(first) - len(failed), failed=tuple(failed))


def _decrypt_one(packet: IpPacket, spi: int, key: EspKey | None, *, esn: bool) -> str | None:
    """Why it cannot be decrypted; None when it was and an inner packet came out."""
    if key is None:
        return "no key that both gateways claim"
    inner, trouble = open_esp(packet.raw, spi, key.key, esn=esn)
    if inner is None:
        return trouble
    inside = {str(inner.src), str(inner.dst)}
    if not all(any(ip_address(a) in net for net in INNER_NETWORKS) for a in inside):
        return f"decrypted to {' > '.join(sorted(inside))}, which is not between the sites"
    return None


def open_esp(raw: bytes, spi: int, key: bytes, *, esn: bool) -> tuple[Any, str]:
    """scapy's inner packet of one ESP packet, or None and why. High ESN bits are taken as 0."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation

    outer = IP(raw) if raw[0] >> 4 == 4 else IPv6(raw)
    make: Any = SecurityAssociation  # scapy has no types
    association = make(
        ESP,
        spi=spi,
        crypt_algo="AES-GCM",
        crypt_key=key,
        tunnel_header=type(outer)(src=outer.src, dst=outer.dst),
        nat_t_header=UDP(sport=_NATT_PORT, dport=_NATT_PORT) if UDP in outer else None,
        esn_en=esn,
        esn=0,
    )
    try:
        return association.decrypt(outer), ""
    except (IPSecIntegrityError, TypeError, ValueError) as error:
        return None, f"{type(error).__name__} {error}".strip()


def secrets_in(logs: Iterable[Path]) -> list[bytes]:
    """Every ESP key of key logs, as the needles of ``keyscan``: without the salt."""
    return [
        entry.key[:-SALT] for path in logs if path.exists() for entry in load_keys(path).values()
    ]
