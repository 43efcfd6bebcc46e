"""A whole frame: Ethernet and EAPOL header, parameter sets, ICV (11.3, 11.11).

```
DA 01:80:c2:00:00:03 (6) | SA (6) | 88 8e | version (1) | 5 (1) | length (2) | sets | ICV (16)
\\________________________ covered by the ICV ________________________________/
```

Reading is in two steps, as 11.11.2 has it: ``Envelope`` finds the CKN, which says whose ICK
verifies the frame; only a frame that verifies has its other sets read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from gateway.mka.errors import DropReason, MkpduError, malformed
from gateway.mka.keys import MkaKeys
from gateway.mka.limits import (
    ALIGNMENT,
    EAPOL_HEADER_SIZE,
    ETHERNET_HEADER_SIZE,
    ICV_SIZE,
    MAC_SIZE,
    MKPDU_SIZE_MIN,
)
from gateway.mka.registry import (
    ALGORITHM_AGILITY,
    EAPOL_MKA,
    EAPOL_VERSION,
    ETHERTYPE_EAPOL,
    PAE_GROUP_ADDRESS,
    SetType,
)
from gateway.mka.sets import (
    Basic,
    DistributedSak,
    Header,
    ParameterSet,
    PeerList,
    SakUse,
    UnknownSet,
    Xpn,
    decode_set,
)
from gateway.mka.wire import Reader

_Set = TypeVar("_Set", SakUse, DistributedSak, Xpn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mkpdu:
    """What one participant says."""

    basic: Basic
    sets: tuple[ParameterSet, ...] = ()

    @property
    def live_peers(self) -> PeerList | None:
        return self._peers(live=True)

    @property
    def potential_peers(self) -> PeerList | None:
        return self._peers(live=False)

    def _peers(self, *, live: bool) -> PeerList | None:
        found = (item for item in self.sets if isinstance(item, PeerList) and item.live is live)
        return next(found, None)

    @property
    def sak_use(self) -> SakUse | None:
        return self._find(SakUse)

    @property
    def distributed_sak(self) -> DistributedSak | None:
        return self._find(DistributedSak)

    @property
    def xpn(self) -> Xpn | None:
        return self._find(Xpn)

    def _find(self, kind: type[_Set]) -> _Set | None:
        return next((item for item in self.sets if isinstance(item, kind)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A frame whose outside is sound: nothing in it is authentic yet."""

    source: bytes  # MAC address
    basic: Basic
    covered: bytes
    icv: bytes
    raw_sets: tuple[tuple[Header, bytes], ...]

    def open(self, keys: MkaKeys) -> Mkpdu:
        """MkpduError(BAD_ICV, MALFORMED)."""
        if not keys.verifies(self.covered, self.icv):
            raise MkpduError(DropReason.BAD_ICV, f"ICV of CKN {self.basic.ckn.hex()} is wrong")
        sets = tuple(decode_set(header, body) for header, body in self.raw_sets)
        kinds = [item.set_type for item in sets if not isinstance(item, UnknownSet)]
        if len(kinds) != len(set(kinds)):
            raise malformed("a parameter set comes twice")
        return Mkpdu(basic=self.basic, sets=sets)


def encode_mkpdu(mkpdu: Mkpdu, source: bytes, keys: MkaKeys) -> bytes:
    """The frame, from the destination address to the ICV."""
    content = b"".join(_padded(*item.encode()) for item in (mkpdu.basic, *mkpdu.sets))
    length = len(content) + ICV_SIZE
    frame = PAE_GROUP_ADDRESS + source + ETHERTYPE_EAPOL.to_bytes(2, "big")
    frame += bytes((EAPOL_VERSION, EAPOL_MKA)) + length.to_bytes(2, "big") + content
    return frame + keys.icv(frame)


def parse_frame(frame: bytes) -> Envelope:
    """MkpduError(NOT_MKA, MALFORMED, UNKNOWN_ALGORITHM). Padding of a short frame is passed over.

    Never reads beyond the EAPOL length; a set is read only where it is there as a whole.
    """
    reader = Reader(frame, "frame")
    if reader.octets(MAC_SIZE) != PAE_GROUP_ADDRESS:
        raise MkpduError(DropReason.NOT_MKA, "not to the PAE group address")
    source = reader.octets(MAC_SIZE)
    ethertype, _version, packet_type = reader.u16(), reader.u8(), reader.u8()
    if (ethertype, packet_type) != (ETHERTYPE_EAPOL, EAPOL_MKA):
        raise MkpduError(DropReason.NOT_MKA, f"Ethertype {ethertype:04x}, EAPOL {packet_type}")
    length = reader.u16()
    # 11.11.2: 32 octets or more, a multiple of 4
    if length < MKPDU_SIZE_MIN or length % ALIGNMENT:
        raise malformed(f"MKPDU of {length} octets")
    content = Reader(reader.octets(length), "MKPDU")
    basic = Basic.decode(*_read_set(content))
    if basic.agility != ALGORITHM_AGILITY:
        raise MkpduError(DropReason.UNKNOWN_ALGORITHM, f"algorithm agility {basic.agility:08x}")
    sets: list[tuple[Header, bytes]] = []
    icv = None
    while icv is None:
        if content.remaining == ICV_SIZE:
            icv = content.rest()
            break
        header, body = _read_set(content)
        if header.first == SetType.ICV_INDICATOR:
            if len(body) != ICV_SIZE or content.remaining:
                raise malformed(f"ICV indicator of {len(body)} octets")
            icv = body
        else:
            sets.append((header, body))
    end = ETHERNET_HEADER_SIZE + EAPOL_HEADER_SIZE + length - ICV_SIZE
    return Envelope(source=source, basic=basic, covered=frame[:end], icv=icv, raw_sets=tuple(sets))


def _read_set(reader: Reader) -> tuple[Header, bytes]:
    header = Header.read(reader)
    body = reader.octets(header.length)
    reader.octets(-header.length % ALIGNMENT)
    return header, body


def _padded(header: Header, body: bytes) -> bytes:
    assert header.length == len(body)
    return header.encode() + body + bytes(-len(body) % ALIGNMENT)
