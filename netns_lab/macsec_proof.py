"""What a capture at a MACsec link proves: nothing but EAPOL and MACsec, and that it opens.

Frames are told apart on octets. Decryption is scapy's, which shares nothing with ours, with the
SAKs that both gateways claim (``macsec_sak`` of their key logs).
"""

from __future__ import annotations

import csv
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netns_lab import pcap
from netns_lab.errors import LabError
from netns_lab.traffic import MARKER

EAPOL, MACSEC = 0x888E, 0x88E5
_INNER = {0x0800, 0x0806, 0x86DD}  # what gateways send each other

_SC, _AN = 0x20, 0x03  # bits of TCI and AN, 802.1AE 9.5
_ICV = 16  # octets
_PAYLOAD = len(MARKER) + 60  # octets: a frame as long as this may be one of the numbered packets
_PACKETS_TRIED = 5  # of one SA, to find a numbered packet

Channel = tuple[bytes, int]  # SCI and AN


def ethertypes(frames: Iterable[pcap.Frame]) -> dict[str, int]:
    """How many frames of each type, "0x888e" and so on."""
    counts = Counter(struct.unpack_from("!H", frame.data, 12)[0] for frame in frames)
    return {f"0x{number:04x}": count for number, count in sorted(counts.items())}


def in_the_clear(frames: Iterable[pcap.Frame]) -> int:
    """Frames that are neither EAPOL nor MACsec, or show the payload's marker."""
    return sum(
        struct.unpack_from("!H", frame.data, 12)[0] not in (EAPOL, MACSEC) or MARKER in frame.data
        for frame in frames
    )


# --- keys the gateways claim ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedSa:
    """One row of a ``macsec_sak`` table: a SAK in one channel."""

    ki: str  # 32 hexadecimal digits, as the kernel's key id
    an: int
    sci: bytes
    ssci: int | None
    suite: str
    key: bytes = field(repr=False)
    salt: bytes | None

    @property
    def channel(self) -> Channel:
        return self.sci, self.an


def load_saks(path: Path) -> list[ClaimedSa]:
    """In the order they were installed. Raises LabError if it is no such table."""
    found = []
    with path.open(newline="") as file:
        for row in csv.reader(file):
            if len(row) != 7:
                raise LabError(f"{path}: not a row of a macsec_sak table")
            ki, an, sci, ssci, suite, key, salt = row
            found.append(
                ClaimedSa(
                    ki=ki,
                    an=int(an),
                    sci=bytes.fromhex(sci),
                    ssci=int(ssci) if ssci else None,
                    suite=suite,
                    key=bytes.fromhex(key),
                    salt=bytes.fromhex(salt) or None,
                )
            )
    return found


def agreed(logs: Sequence[Path]) -> list[ClaimedSa]:
    """What every log has, in the first one's order. Raises LabError if two contradict."""
    tables = [{(sa.ki, sa.sci): sa for sa in load_saks(path)} for path in logs]
    common = [name for name in tables[0] if all(name in table for table in tables[1:])]
    for name in common:
        if any(table[name] != tables[0][name] for table in tables[1:]):
            raise LabError(f"the gateways claim different SAKs for key {name[0]}")
    return [tables[0][name] for name in common]


def load_caks(path: Path) -> dict[str, bytes]:
    """CAKs by CKN (hex), of a Wireshark ``mka_ckn_info`` table."""
    with path.open(newline="") as file:
        return {row[0]: bytes.fromhex(row[2]) for row in csv.reader(file)}


def secrets_in(folders: Iterable[Path]) -> list[bytes]:
    """Every CAK and SAK of key log folders, as the needles of ``keyscan``."""
    found = []
    for folder in folders:
        saks, caks = folder / "macsec_sak", folder / "mka_ckn_info"
        found += [sa.key for sa in load_saks(saks)] if saks.exists() else []
        found += list(load_caks(caks).values()) if caks.exists() else []
    return found


# --- decryption by scapy -------------------------------------------------------------------------


@dataclass(slots=True)
class _Run:
    """Frames of one channel and AN from packet number 1 on: those of one SAK."""

    channel: Channel
    last: int = 0
    frames: list[bytes] = field(default_factory=list)  # some of them, the best last


@dataclass(frozen=True, slots=True, kw_only=True)
class Decryption:
    """What scapy made of the MACsec frames; ``failed`` says why, per SAK and channel."""

    saks: int  # that both gateways claim and frames were seen of
    runs: int  # SAK and direction, as seen on the link
    decrypted: int  # of these
    numbered: int  # of these, showing one of the numbered packets
    failed: tuple[str, ...]

    @property
    def proven(self) -> bool:
        return self.runs > 0 and self.decrypted == self.runs


def runs(frames: Iterable[pcap.Frame]) -> list[_Run]:
    """Split into SAKs: packet numbers begin anew with each."""
    current: dict[Channel, _Run] = {}
    found = []
    for frame in frames:
        data = frame.data
        if struct.unpack_from("!H", data, 12)[0] != MACSEC or not data[14] & _SC:
            continue
        channel = (data[20:28], data[14] & _AN)
        number = struct.unpack_from("!I", data, 16)[0]
        run = current.get(channel)
        if run is None or number <= run.last:
            run = current[channel] = _Run(channel)
            found.append(run)
        run.last = number
        if not run.frames or (len(data) >= _PAYLOAD and len(run.frames) < _PACKETS_TRIED):
            run.frames.append(data)
    return found


def decrypt(frames: Iterable[pcap.Frame], claimed: Sequence[ClaimedSa]) -> Decryption:
    """Open a frame of every SAK in every channel. SAKs of one AN come in the order claimed."""
    waiting: dict[Channel, list[ClaimedSa]] = {}
    for sa in claimed:
        waiting.setdefault(sa.channel, []).append(sa)
    found = runs(frames)
    opened: set[str] = set()
    numbered = 0
    failed = []
    for run in found:
        candidates = waiting.get(run.channel, [])
        match = next((sa for sa in candidates if open_frame(run.frames[0], sa) is not None), None)
        if match is None:
            sci, an = run.channel
            failed.append(f"{sci.hex()} AN {an}: none of {len(candidates)} SAKs opens it")
            continue
        # Those before it were installed and never sent with.
        waiting[run.channel] = candidates[candidates.index(match) + 1 :]
        opened.add(match.ki)
        numbered += any(MARKER in (open_frame(data, match) or b"") for data in run.frames)
    return Decryption(
        saks=len(opened),
        runs=len(found),
        decrypted=len(found) - len(failed),
        numbered=numbered,
        failed=tuple(failed),
    )


def open_frame(data: bytes, sa: ClaimedSa) -> bytes | None:
    """scapy's plaintext, from the inner Ethertype on; None where the SAK does not open it.

    The high half of an XPN packet number is taken as 0.
    """
    from cryptography.exceptions import InvalidTag
    from scapy.contrib.macsec import MACsec, MACsecSA
    from scapy.layers.l2 import Ether

    make: Any = MACsecSA  # scapy has no types
    frame = Ether(data)
    association = make(
        sci=sa.sci,
        an=sa.an,
        pn=1,
        key=sa.key,
        icvlen=_ICV,
        encrypt=bool(frame[MACsec].E),
        send_sci=bool(frame[MACsec].SC),
        xpn_en=sa.ssci is not None,
        ssci=sa.ssci,
        salt=sa.salt,
    )
    try:
        opened = association.decrypt(frame)
    except InvalidTag:
        return None
    kind = opened[MACsec].type
    return struct.pack("!H", kind) + bytes(opened[MACsec].payload) if kind in _INNER else None
