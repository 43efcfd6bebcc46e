"""What happened inside the IKE core, for policy, status, log and counters. Frozen, whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.ike.identity import Identity
from gateway.model import Ended, IpAddress, IpNetwork, KeyId, Mixed, PpkMethod, Role


class DropReason(StrEnum):
    """Why a datagram or request was dropped without an answer. Counted, never an exception."""

    TOO_SHORT = "too-short"
    BAD_HEADER = "bad-header"
    BAD_VERSION = "bad-version"
    UNKNOWN_SPI = "unknown-spi"
    UNKNOWN_PEER = "unknown-peer"
    MALFORMED = "malformed"
    INTEGRITY = "integrity"
    BAD_FRAGMENT = "bad-fragment"
    FRAGMENT_LIMIT = "fragment-limit"
    UNEXPECTED_EXCHANGE = "unexpected-exchange"
    UNEXPECTED_MESSAGE_ID = "unexpected-message-id"
    UNPROTECTED = "unprotected"
    DUPLICATE_PENDING = "duplicate-pending"
    BAD_COOKIE = "bad-cookie"
    HALF_OPEN_LIMIT = "half-open-limit"
    REPLAYED = "replayed"
    RATE_LIMIT = "rate-limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeEstablished:
    connection: str
    role: Role
    spi_i: bytes
    spi_r: bytes
    proposal: str
    key_exchanges: tuple[str, ...]
    ppk_method: PpkMethod | None
    key_id: KeyId | None
    peer_is_qsgw: bool
    local_proof: str  # how we proved who we are, e.g. "ECDSA-P384-SHA384 CN=moon"
    remote_proof: str  # how the peer did
    remote_id: Identity
    remote_certificates: tuple[bytes, ...]  # DER, the peer's own first; empty where it has none
    nat: bool
    fragmentation: bool
    local: tuple[IpAddress, int]
    remote: tuple[IpAddress, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeRekeyed:
    """Another IKE SA stands in the place of one, with its children; the old one is deleted."""

    connection: str
    role: Role  # in the exchange that made it
    old_spi_i: bytes
    old_spi_r: bytes
    spi_i: bytes
    spi_r: bytes
    proposal: str
    key_exchanges: tuple[str, ...]
    key_id: KeyId | None  # of the QKD key that is fresh in it
    remote: tuple[IpAddress, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeRekeyDue:
    """The IKE SA is old. Said again while nothing comes of it (see ``lifetime``)."""

    connection: str
    replace: bool  # too old to be rekeyed: ``Endpoint.initiate``, not ``rekey_ike``


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeClosed:
    """An IKE SA and all its children are gone. Each of them has its ChildDown."""

    connection: str
    spi_i: bytes
    spi_r: bytes
    reason: str
    ended: Ended  # by whom
    peer_lost: bool  # retransmissions ran out, as opposed to closed on purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildUp:
    """A Child SA is in the kernel and, on our side, carries outbound traffic."""

    tunnel: str
    role: Role  # in the exchange that made it
    spi_in: int
    spi_out: int
    mixed: Mixed
    encryption: str
    esn: bool
    local_networks: tuple[IpNetwork, ...]
    remote_networks: tuple[IpNetwork, ...]
    replaces: int | None  # inbound SPI of the Child SA it rekeys


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildDown:
    tunnel: str
    spi_in: int
    spi_out: int
    reason: str
    rekeyed: bool  # replaced by another one
    ended: Ended  # by whom, where nothing replaced it


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeFailed:
    """An attempt to set up or rekey came to nothing. What was running still runs."""

    tunnel: str  # or the connection's name where it was not known yet for which tunnel
    what: str  # "initiate" | "rekey" | "rekey-ike" | "respond" | "delete" | "liveness"
    reason: str  # one line for the operator
    notify: str | None  # the IKE error by name, where there was one
    from_peer: bool
    ppk_missing: bool  # it failed because one side had no QKD key
    yielded: bool = False  # nothing is wrong: the peer rekeys the same SA, and ours gave way


@dataclass(frozen=True, slots=True, kw_only=True)
class PpkNotUsed:
    """A QKD key was offered or wanted and the SA came up without one, as policy allows."""

    tunnel: str  # or the connection's name where it was not known yet for which tunnel
    key_id: KeyId | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPortChanged:
    """The NAT in front of the peer has given it another port; IKE and ESP go there now."""

    connection: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthHintUnmet:
    """What the peer says it can check (CERTREQ, RFC 9593) is not what we have to show.

    It is shown all the same; if authentication fails, this is a reason why.
    """

    connection: str
    reason: str  # one line for the operator


@dataclass(frozen=True, slots=True, kw_only=True)
class DowngradeSuspected:
    """Setting up failed, and the peer's IKE_SA_INIT lacked what it, or policy, always has."""

    connection: str
    missing: tuple[str, ...]  # names, e.g. "USE_PPK_INT", "ML-KEM", "Vendor ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class DowngradeSuspicionOver:
    """An IKE SA was authenticated, or there was no further sign for long."""

    connection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    reason: DropReason
    detail: str
    remote: tuple[IpAddress, int]
    connection: str | None = None


Event = (
    IkeEstablished
    | IkeRekeyed
    | IkeRekeyDue
    | IkeClosed
    | ChildUp
    | ChildDown
    | ExchangeFailed
    | PpkNotUsed
    | PeerPortChanged
    | AuthHintUnmet
    | DowngradeSuspected
    | DowngradeSuspicionOver
    | Dropped
)
