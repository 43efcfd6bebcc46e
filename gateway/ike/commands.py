"""What the IKE core asks of the outside, and the answers it takes back.

Every command carries a token; its answer carries the same one. The core never waits
for long: a command that is not answered by its deadline is treated as failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from gateway.crypto.secret import Secret
from gateway.ike.identity import Identity
from gateway.ike.registry import EncryptionId
from gateway.model import EspMode, IpAddress, IpNetwork, KeyId, Ppk, SaId, SaSpec, UdpEncap

Token = NewType("Token", int)


# --- commands --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateSpi:
    """Reserve an inbound ESP SPI. Answer: SpiAllocated or Failed."""

    token: Token
    tunnel: str
    source: IpAddress  # the peer
    destination: IpAddress  # us


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPpk:
    """The peer named this key_ID: get that key (dec_keys). Answer: PpkFetched or Failed."""

    token: Token
    tunnel: str
    key_id: KeyId


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckCertificates:
    """The peer showed these certificates (DER, its own first) and says it is ``identity``.

    Does the chain lead to a CA that is trusted, now, and does its first certificate speak for
    the identity? Answer: CertificatesTrusted or Failed.
    """

    token: Token
    connection: str
    chain: tuple[bytes, ...]
    identity: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class TakePpk:
    """We begin to make a Child SA nobody asked for: a fresh key (enc_keys), if policy has one.

    Answer: PpkFetched or Failed.
    """

    token: Token
    tunnel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallInbound:
    """Put the inbound SA of a new Child SA in before the peer's answer, which may be another.

    InstallChild or RemoveSas for the same SPI follows. The peer is not authenticated yet, so no
    policy is laid for it: it takes in what an SA of this tunnel may bring in as it is.
    Answer: Done or Failed.
    """

    token: Token
    tunnel: str
    inbound: SaSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallChild:
    """Put both SAs of a new Child SA into the kernel: inbound first, then outbound.

    Traffic moves only with ActivateOutbound. ``spec.reqid`` and lifetimes are the
    outside's to fill in (``dataclasses.replace``). After InstallInbound the inbound SA is there
    and stays, but for its lifetimes and encapsulation. Answer: Done or Failed.
    """

    token: Token
    tunnel: str
    inbound: SaSpec
    outbound: SaSpec
    local_networks: tuple[IpNetwork, ...]
    remote_networks: tuple[IpNetwork, ...]
    replaces_inbound: bool = False  # what InstallInbound put in is another: it goes first


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivateOutbound:
    """Pin the outbound policies to this SPI: from now on traffic leaves through it.

    Answer: Done or Failed.
    """

    token: Token
    tunnel: str
    spi: int
    mode: EspMode
    source: IpAddress
    destination: IpAddress
    local_networks: tuple[IpNetwork, ...]
    remote_networks: tuple[IpNetwork, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchInbound:
    """Tell when the first packet has come in on this SA (see ``Endpoint.inbound_seen``)."""

    tunnel: str
    sa_id: SaId


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveSas:
    """Take these SAs (or SPI reservations) out of the kernel now. No answer."""

    tunnel: str
    sa_ids: tuple[SaId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateEncap:
    """The peer is at another port now: these SAs are to take and send ESP in UDP there.

    Keys, counters and replay windows stay. No answer.
    """

    tunnel: str
    encaps: tuple[tuple[SaId, UdpEncap], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlePpk:
    """This key is out of our hands: ``used`` in an SA that is up, or burned. No answer.

    ``refused``: the peer answered that it does not take it, as far as its answer tells.
    """

    tunnel: str
    key_id: KeyId
    used: bool
    reason: str
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordIkeKeys:
    """Write down one generation of an IKE SA's keys: whoever takes this owns and wipes them.

    Made only by an Endpoint with ``record_keys``, the lab's switch. No answer.
    """

    tunnel: str
    spi_i: bytes
    spi_r: bytes
    generation: int  # 0 after IKE_SA_INIT, then one for each change in IKE_INTERMEDIATE
    encryption: EncryptionId
    sk_ei: Secret  # salt included
    sk_er: Secret


Command = (
    AllocateSpi
    | FetchPpk
    | CheckCertificates
    | TakePpk
    | InstallInbound
    | InstallChild
    | ActivateOutbound
    | WatchInbound
    | RemoveSas
    | UpdateEncap
    | SettlePpk
    | RecordIkeKeys
)


# --- answers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiAllocated:
    token: Token
    spi: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PpkFetched:
    token: Token
    ppk: Ppk


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatesTrusted:
    token: Token
    public_key: bytes  # SubjectPublicKeyInfo of the peer's own certificate
    subject: str  # its subject, one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    token: Token
    reason: str


Answer = SpiAllocated | PpkFetched | CertificatesTrusted | Done | Failed


__all__ = [
    "ActivateOutbound",
    "AllocateSpi",
    "Answer",
    "CertificatesTrusted",
    "CheckCertificates",
    "Command",
    "Done",
    "Failed",
    "FetchPpk",
    "InstallChild",
    "InstallInbound",
    "PpkFetched",
    "RecordIkeKeys",
    "RemoveSas",
    "SettlePpk",
    "SpiAllocated",
    "TakePpk",
    "Token",
    "UpdateEncap",
    "WatchInbound",
]
