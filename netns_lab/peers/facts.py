"""What is asked of a foreign IKE daemon, and what it says of itself, in one form for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

PpkUse = Literal["off", "prefer", "require"]
Proof = Literal["psk", "certificate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One Child SA a peer is to have, as its operator would name it."""

    name: str = "net"
    local: tuple[str, ...] = ("10.2.0.0/24",)
    remote: tuple[str, ...] = ("10.1.0.0/24",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """A peer's side of the tunnel. Proposals in our own words; seconds, 0 = never."""

    local: str
    remote: str
    local_id: str
    remote_id: str
    psk: str = field(repr=False)
    local_proof: Proof = "psk"
    remote_proof: Proof = "psk"
    pki: Path | None = None  # folder of "qsgw pki", with certificates for "sun"
    ike: str
    esp: str
    children: tuple[Child, ...] = (Child(),)
    ppk: PpkUse = "off"
    ppk_id: str = ""  # the key_ID it names as initiator
    rekey_child: float = 0.0
    rekey_packets: int = 0  # of a Child SA; 0 = never
    rekey_ike: float = 0.0
    liveness: float = 0.0
    cookies: bool = False  # ask every initiator for one


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildFacts:
    """A Child SA as the peer tells it. SPIs as 8 hexadecimal digits."""

    name: str
    spi_in: str
    spi_out: str
    installed: bool
    algorithms: str  # "AES_GCM_16-256/X25519/KE1_ML-KEM-768/ESN", as qsgw shows it


@dataclass(frozen=True, slots=True, kw_only=True)
class SaFacts:
    """An IKE SA as the peer tells it, with its Child SAs."""

    number: str  # the peer's own for it
    established: bool
    initiator: bool  # is the peer the original initiator?
    spi_i: str  # 16 hexadecimal digits, or "" where the peer does not tell
    spi_r: str
    algorithms: str  # "AES_GCM_16-256/PRF_HMAC_SHA2_512/X25519/KE1_ML-KEM-768/PPK"
    ppk: bool
    children: tuple[ChildFacts, ...]


Matches = Callable[[tuple[SaFacts, ...]], bool]
