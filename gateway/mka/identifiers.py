"""Names of things: secure channels, members, keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from gateway.mka.limits import MAC_SIZE, MI_SIZE

MemberId = NewType("MemberId", bytes)
"""MI, 12 octets: one participant, from its start or restart on (9.4.2)."""

NO_MEMBER = MemberId(bytes(MI_SIZE))


@dataclass(frozen=True, slots=True, order=True)
class Sci:
    """Secure Channel Identifier: MAC address and port number (802.1AE 9.9). Ordered as a number."""

    mac: bytes
    port: int = 1

    def __post_init__(self) -> None:
        if len(self.mac) != MAC_SIZE or not 0 <= self.port <= 0xFFFF:
            raise ValueError("an SCI is a MAC address and a 16-bit port")

    def encode(self) -> bytes:
        return self.mac + self.port.to_bytes(2, "big")

    @classmethod
    def decode(cls, octets: bytes) -> Sci:
        return cls(octets[:MAC_SIZE], int.from_bytes(octets[MAC_SIZE:], "big"))

    def __str__(self) -> str:
        return f"{self.mac.hex(':')}/{self.port}"


@dataclass(frozen=True, slots=True)
class KeyIdentifier:
    """KI: the key server's MI and its key number (9.8). 16 octets name a SAK."""

    mi: MemberId
    kn: int

    def encode(self) -> bytes:
        return self.mi + self.kn.to_bytes(4, "big")

    def __str__(self) -> str:
        return f"{self.mi.hex()}.{self.kn}"
