"""NAT detection (RFC 7296 2.23) and what follows from it for ports and encapsulation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.ike.outbox import Address
from gateway.model import UdpEncap

_NOWHERE: Final = (IPv4Address(0), 0)  # nobody sends from there


@dataclass(frozen=True, slots=True)
class NatStatus:
    """Who sits behind a NAT, as one side sees it."""

    local: bool = False  # we do
    remote: bool = False  # the peer does, or says so to have ESP in UDP
    forced: bool = False  # we said so, to have ESP in UDP

    @property
    def present(self) -> bool:
        """ESP goes in UDP."""
        return self.local or self.remote or self.forced

    @property
    def follows(self) -> bool:
        """Whether the peer's port is where it was heard last (RFC 7296 2.23)."""
        # Behind a NAT ourselves we do not: an attacker could lead us astray by changing the
        # source of one packet, and the peer would not be where our own NAT lets answers in from.
        return self.remote and not self.local


def detection_hash(spi_i: bytes, spi_r: bytes, address: Address) -> bytes:
    """Data of a NAT_DETECTION_*_IP notify: SHA-1(SPIi | SPIr | IP address | port)."""
    ip, port = address
    digest = hashlib.sha1(usedforsecurity=False)  # prescribed; hides nothing and proves nothing
    digest.update(spi_i + spi_r + ip.packed + port.to_bytes(2, "big"))
    return digest.digest()


def source_hash(spi_i: bytes, spi_r: bytes, local: Address, *, force: bool) -> bytes:
    """Our NAT_DETECTION_SOURCE_IP. ``force``: one that fits nowhere, so that the peer sees a NAT.

    RFC 7296 2.23 asks for ESP in UDP where a NAT is detected and has no other way to ask.
    """
    return detection_hash(spi_i, spi_r, _NOWHERE if force else local)


def detect(
    *,
    spi_i: bytes,
    spi_r: bytes,
    local: Address,
    remote: Address,
    sources: Sequence[bytes],
    destinations: Sequence[bytes],
    force: bool = False,
) -> NatStatus:
    """Compare what the peer says it sent with what arrived. ``force``: as in ``source_hash``.

    ``sources`` are the hashes of all its NAT_DETECTION_SOURCE_IP notifies: several are
    allowed, one match is enough. A peer without NAT traversal sends none.
    """
    if not sources or not destinations:
        return NatStatus()
    return NatStatus(
        local=detection_hash(spi_i, spi_r, local) not in destinations,
        remote=detection_hash(spi_i, spi_r, remote) not in sources,
        forced=force,
    )


def encapsulation(
    nat: NatStatus, local: Address, remote: Address
) -> tuple[UdpEncap | None, UdpEncap | None]:
    """ESP in UDP for (inbound, outbound) packets: both or none (RFC 7296 2.23)."""
    if not nat.present:
        return None, None
    inbound = UdpEncap(source_port=remote[1], destination_port=local[1])
    outbound = UdpEncap(source_port=local[1], destination_port=remote[1])
    return inbound, outbound
