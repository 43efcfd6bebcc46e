"""Two hosts and many pairs of addresses between them: a tunnel on each.

A gateway of ours has one IKE SA for a pair of addresses, so that many IKE SAs want many pairs.
The other makers' daemon gets the same connections.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Literal, Protocol

from netns_lab.topology import End, Host, Link, Topology

Side = Literal["moon", "sun"]
SIDES: tuple[Side, Side] = ("moon", "sun")

IKE = "aes256gcm16-prfsha512-x25519-ke1_mlkem768"
ESP = "aes256gcm16-x25519-ke1_mlkem768"
"""In IKE_AUTH this is aes256gcm16: key exchanges of a Child SA begin with its first rekey."""

AGREED = "AES_GCM_16-256/PRF_HMAC_SHA2_512/X25519/KE1_ML-KEM-768"
"""What both makers say of an IKE SA with these proposals; with a PPK, "/PPK" follows."""

COUNT = 300
_ADDRESSES: Mapping[Side, int] = {"moon": 20, "sun": 15}
_FIRST: Mapping[Side, IPv4Address] = {
    "moon": IPv4Address("10.64.0.1"),
    "sun": IPv4Address("10.64.0.101"),
}
_NETWORK: Mapping[Side, IPv4Address] = {
    "moon": IPv4Address("10.65.0.0"),
    "sun": IPv4Address("10.66.0.0"),
}


def other(side: Side) -> Side:
    return "sun" if side == "moon" else "moon"


def name(number: int) -> str:
    return f"t{number:03d}"


def address(side: Side, number: int) -> str:
    """Of tunnel ``number``. Neighbours have different addresses at moon: see ``AT_ONCE``."""
    share = number % _ADDRESSES["moon"] if side == "moon" else number // _ADDRESSES["moon"]
    return str(_FIRST[side] + share)


def addresses(side: Side) -> tuple[str, ...]:
    return tuple(str(_FIRST[side] + share) for share in range(_ADDRESSES[side]))


def network(side: Side, number: int) -> str:
    """What is protected on this side of tunnel ``number``."""
    return f"{_NETWORK[side] + number}/32"


def topology() -> Topology:
    ends = tuple(
        End(host=side, addresses=tuple(IPv4Interface(f"{one}/24") for one in addresses(side)))
        for side in SIDES
    )
    return Topology(
        hosts=tuple(Host(name=side) for side in SIDES), links=(Link(ends=(ends[0], ends[1])),)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What both ends of a pairing are configured with."""

    psk: str = field(repr=False)
    ppk: bool = False


class Daemon(Protocol):
    """A gateway of either make, with ``COUNT`` tunnels of which none is up."""

    maker: str

    @property
    def pid(self) -> int: ...

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """End it; nothing of it stays in the kernel."""
        ...

    async def follow(self) -> AsyncIterator[int]:
        """From now on: the numbers of tunnels that come up, as they do."""
        ...

    async def begin(self, number: int) -> None:
        """Have tunnel ``number`` set up; returns at once."""
        ...

    async def agreed(self) -> list[str]:
        """The algorithms of each IKE SA that is up and has a Child SA in the kernel."""
        ...


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, by proc(5), in steps of a clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(at for at in status.splitlines() if at.startswith("VmRSS")).split()[1]) / 1024
