"""The same SAs as our status, the peer's and both kernels tell of them, compared word by word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from netns_lab import proof
from netns_lab.peers.facts import ChildFacts, SaFacts

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSa:
    """An ESP SA with its keys, as iproute2 lists it."""

    source: str
    destination: str
    spi: str  # 8 hexadecimal digits
    algorithm: str
    key: str = field(repr=False)  # hexadecimal, key and salt
    icv_bits: int
    esn: bool

    @property
    def words(self) -> str:
        """Encryption and sequence numbers in our words; the kernel's where we have none."""
        name = "AES_GCM_16" if (self.algorithm, self.icv_bits) == _GCM else self.algorithm
        size = len(self.key) * 4 - proof.SALT * 8
        return f"{name}-{size}{'/ESN' if self.esn else ''}"

    def esp_sa_row(self) -> str:
        """A row of Wireshark's esp_sa table."""
        version = 6 if ":" in self.source else 4
        return (
            f'"IPv{version}","{self.source}","{self.destination}","0x{self.spi}",'
            f'"{proof.ALGORITHM}","0x{self.key}","NULL",""\n'
        )


_GCM = ("rfc4106(gcm(aes))", 128)
_STATE = re.compile(
    r"^src (\S+) dst (\S+)\n\s+proto esp spi 0x([0-9a-f]{8})(.*?)(?=^src |\Z)",
    re.DOTALL | re.MULTILINE,
)
_AEAD = re.compile(r"^\s+aead (\S+) 0x([0-9a-f]+) (\d+)", re.MULTILINE)
_ESN = re.compile(r"^\s+replay-window .*\bflag\b.*\besn\b", re.MULTILINE)


def kernel_sas(text: str) -> dict[str, KernelSa]:
    """Keyed ESP SAs in the output of ``ip xfrm state list``, by SPI."""
    found = {}
    for source, destination, spi, rest in _STATE.findall(text):
        aead = _AEAD.search(rest)
        if aead is not None:
            found[spi] = KernelSa(
                source=source,
                destination=destination,
                spi=spi,
                algorithm=aead[1],
                key=aead[2],
                icv_bits=int(aead[3]),
                esn=_ESN.search(rest) is not None,
            )
    return found


@dataclass(slots=True, kw_only=True)
class Agreement:
    """The same SAs, as each end tells of them. ``children``: ours and the peer's, in pairs."""

    ike: Json
    peer_ike: SaFacts
    children: tuple[tuple[Json, ChildFacts], ...]

    @property
    def child(self) -> Json:
        """Our only Child SA."""
        ((ours, _),) = self.children
        return ours

    @property
    def spis(self) -> set[str]:
        return {ours[name] for ours, _ in self.children for name in ("spi_in", "spi_out")}

    @property
    def negotiated(self) -> str:
        theirs = (facts.algorithms for _, facts in self.children)
        return " | ".join([str(self.ike["proposal"]), *dict.fromkeys(theirs)])


def pairs(
    ours: Iterable[Json], theirs: Iterable[ChildFacts]
) -> tuple[tuple[tuple[Json, ChildFacts], ...], str]:
    """Our Child SAs, each with the peer's of mirrored SPIs; or why one of them has none."""
    found = []
    known = {(each.spi_out, each.spi_in): each for each in theirs if each.installed}
    for child in ours:
        mirrored = known.pop((child["spi_in"], child["spi_out"]), None)
        if mirrored is None:
            return (), f"our {child['spi_in']}/{child['spi_out']} is not among {sorted(known)}"
        found.append((child, mirrored))
    if known:
        return (), f"the peer has more Child SAs: {sorted(known)}"
    return tuple(found), ""


def child_trouble(
    ours: Json,
    theirs: ChildFacts,
    kernels: Mapping[str, Mapping[str, KernelSa]],
    *,
    first: bool,
) -> str:
    """What does not fit in the algorithms of one Child SA; "" if all of it does.

    ``kernels``: by host. ``first``: set up with its IKE SA, so that it has that one's key
    exchanges, which we name and a peer need not.
    """
    said = f"{ours['encryption']}{'/ESN' if ours['esn'] else ''}"
    for host, sas in kernels.items():
        for spi in (ours["spi_in"], ours["spi_out"]):
            if spi not in sas:
                return f"{spi} is not in {host}'s kernel"
            if sas[spi].words != said:
                return f"we say {said}, {host}'s kernel has {sas[spi].words}"
    name, *more = ours["key_exchanges"]
    exchanges = [name, *(f"KE{slot}_{each}" for slot, each in enumerate(more, 1))]
    whole = "/".join([ours["encryption"], *exchanges, *(["ESN"] if ours["esn"] else [])])
    accepted = {whole, said} if first else {whole}
    return "" if theirs.algorithms in accepted else f"we say {whole}, the peer {theirs.algorithms}"
