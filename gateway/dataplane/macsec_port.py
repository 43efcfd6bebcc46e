"""What the daemon needs of a kernel for MACsec. ``netlink`` does it for real, ``memory`` for tests.

A SecY (802.1AE) is a MACsec device on a parent: the interface with the layer-2 link. Its frames
leave the parent protected, or not at all; the parent itself carries EAPOL and MACsec only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final, Protocol

from gateway.crypto.secret import Secret
from gateway.mka.identifiers import KeyIdentifier, Sci
from gateway.mka.registry import CipherSuite
from gateway.model import MacsecCounters, PortState

IpInterface = IPv4Interface | IPv6Interface

MACSEC_OVERHEAD: Final = 32  # octets: SecTAG with SCI (16) and ICV (16), 802.1AE 9.3


@dataclass(frozen=True, slots=True, kw_only=True)
class SecySpec:
    """One MACsec device, as the kernel is to have it."""

    link: str  # the operator's name for it
    parent: str  # name of the interface below
    device: str  # name of the MACsec device
    suite: CipherSuite
    encrypt: bool  # False: integrity only
    replay_window: int  # frames that may come late; 0: none
    filtered: bool  # nothing but EAPOL and MACsec passes the parent, in or out
    addresses: tuple[IpInterface, ...] = ()  # that the device has; others are left alone
    mtu: int | None = None  # None: the parent's less MACSEC_OVERHEAD
    port: int = 1  # of the SCI


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentState:
    """The interface below, as found."""

    index: int
    mac: bytes  # 6 octets
    mtu: int
    running: bool  # administratively up and with a carrier
    addresses: tuple[IpInterface, ...]  # its own: what is sent there is not protected


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmitSaSpec:
    """Our own channel. Not used for sending until ``transmit_with``. Packet numbers begin at 1."""

    an: int
    key: Secret  # 16 or 32 octets, as the suite has it; stays the caller's to wipe
    ki: KeyIdentifier
    ssci: int | None  # XPN only
    salt: bytes | None  # 12 octets, XPN only


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveSaSpec:
    """A peer's channel, which is made where it is not there. The SA is active at once."""

    sci: Sci
    an: int
    lowest_pn: int  # >= 1
    key: Secret
    ki: KeyIdentifier
    ssci: int | None
    salt: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecySaState:
    """An SA as read back, never with its key."""

    sci: Sci  # whose frames it protects
    an: int
    ki: bytes  # 16 octets
    active: bool
    pn: int  # sending: the next; receiving: the next expected one


@dataclass(frozen=True, slots=True, kw_only=True)
class SecyState:
    """A MACsec device as read back from the kernel."""

    index: int
    parent: int  # interface index
    sci: Sci
    suite: CipherSuite
    mtu: int
    running: bool  # administratively up
    encrypt: bool
    port: PortState  # derived from what the kernel protects, lets in and sends with
    encoding_an: int  # frames leave with this AN, if it has an SA
    filtered: bool
    transmit: tuple[SecySaState, ...]
    receive: tuple[SecySaState, ...]
    receive_channels: tuple[Sci, ...]
    counters: MacsecCounters


@dataclass(frozen=True, slots=True)
class InterfaceChanged:
    """An interface came, went, or has another state, MAC address or MTU. Read it."""

    name: str


@dataclass(frozen=True, slots=True)
class InterfaceEventsLost:
    """The event socket overran and was reopened: read everything."""


MacsecEvent = InterfaceChanged | InterfaceEventsLost


class MacsecPlane(Protocol):
    """All raise DataplaneError with the kernel's words when refused, naming the device."""

    async def open(self) -> None:
        """Open the sockets; raises StartupError where the kernel or a capability lacks."""

    async def close(self) -> None:
        """Close the sockets. Devices, SAs and filters stay. Ends ``events()``."""

    async def parent(self, name: str) -> ParentState:
        """The interface ``name``."""

    async def set_up(self, spec: SecySpec) -> SecyState:
        """Make the device and the parent's filter be as ``spec`` has it; up, both of them.

        A device of that name on that parent keeps its SAs and channels where SCI and suite are
        the same; else it is made anew. A new device lets nothing pass (BLOCKED). The filter comes
        first, so that no moment is without it.
        """

    async def take_down(self, device: str, parent: str) -> None:
        """Delete the device with its SAs, and the parent's filter. What is gone is no error."""

    async def read(self, device: str) -> SecyState | None:
        """The device as the kernel has it; None where it is not there."""

    async def set_port(self, device: str, state: PortState) -> None:
        """SECURED and BLOCKED: protect all that leaves, take in nothing else. CLEAR: neither."""

    async def install_transmit_sa(self, device: str, sa: TransmitSaSpec) -> None: ...

    async def transmit_with(self, device: str, an: int) -> None:
        """From now on frames leave with this AN."""

    async def remove_transmit_sa(self, device: str, an: int) -> None:
        """One that is gone is no error."""

    async def install_receive_sa(self, device: str, sa: ReceiveSaSpec) -> None: ...

    async def raise_lowest_pn(self, device: str, sci: Sci, an: int, lowest_pn: int) -> None:
        """Drop what is older than ``lowest_pn``. Never lowers it; one that is gone is no error."""

    async def remove_receive_sa(self, device: str, sci: Sci, an: int) -> None: ...

    async def remove_receive_channel(self, device: str, sci: Sci) -> None:
        """With all SAs in it. One that is gone is no error."""

    def events(self) -> AsyncIterator[MacsecEvent]:
        """Endless, from a socket of its own, until ``close``."""
