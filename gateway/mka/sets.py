"""Parameter sets: one frozen dataclass each (11.11, Figures 11-8 to 11-16).

Four octets of header each. What the second and the upper half of the third octet mean differs
from set to set; the lower half and the fourth are the length of the body, without its padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from gateway.mka.announcement import Tlv, decode_tlvs, encode_tlvs
from gateway.mka.errors import malformed
from gateway.mka.identifiers import NO_MEMBER, KeyIdentifier, MemberId, Sci
from gateway.mka.limits import (
    BASIC_BODY_MIN,
    CKN_SIZE_MAX,
    KEY_SIZES,
    KMD_SIZE_MAX,
    MI_SIZE,
    PEER_SIZE,
    SAK_USE_BODY,
    SCI_SIZE,
    WRAP_OVERHEAD,
    XPN_BODY,
)
from gateway.mka.registry import ALGORITHM_AGILITY, CipherSuite, SetType, cipher_suite
from gateway.mka.wire import Reader

_LENGTH_MAX: Final = 0x0FFF
_WRAPPED_SIZES: Final = tuple(size + WRAP_OVERHEAD for size in KEY_SIZES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Of any set: two octets of flags and the length of the body."""

    first: int  # the type; in the basic set the MKA version
    second: int
    flags: int  # upper half of the third octet, in place
    length: int

    def encode(self) -> bytes:
        if not 0 <= self.length <= _LENGTH_MAX:
            raise ValueError(f"a parameter set of {self.length} octets")
        third = self.flags | self.length >> 8
        return bytes((self.first, self.second, third, self.length & 0xFF))

    @classmethod
    def read(cls, reader: Reader) -> Header:
        first, second, third, fourth = reader.octets(4)
        return cls(
            first=first, second=second, flags=third & 0xF0, length=(third & 0x0F) << 8 | fourth
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """Who sends, and under which CAK (Figure 11-8)."""

    version: int
    priority: int
    key_server: bool
    macsec_desired: bool
    capability: int
    sci: Sci
    mi: MemberId
    mn: int
    agility: int = ALGORITHM_AGILITY
    ckn: bytes

    def encode(self) -> tuple[Header, bytes]:
        flags = 0x80 * self.key_server | 0x40 * self.macsec_desired | self.capability << 4
        body = self.sci.encode() + self.mi + self.mn.to_bytes(4, "big")
        body += self.agility.to_bytes(4, "big") + self.ckn
        header = Header(first=self.version, second=self.priority, flags=flags, length=len(body))
        return header, body

    @classmethod
    def decode(cls, header: Header, body: bytes) -> Basic:
        if not BASIC_BODY_MIN < len(body) <= BASIC_BODY_MIN + CKN_SIZE_MAX:
            raise malformed(f"basic parameter set of {len(body)} octets")
        reader = Reader(body, "basic parameter set")
        return cls(
            version=header.first,
            priority=header.second,
            key_server=bool(header.flags & 0x80),
            macsec_desired=bool(header.flags & 0x40),
            capability=header.flags >> 4 & 3,
            sci=Sci.decode(reader.octets(SCI_SIZE)),
            mi=MemberId(reader.octets(MI_SIZE)),
            mn=reader.u32(),
            agility=reader.u32(),
            ckn=reader.rest(),
        )


@dataclass(frozen=True, slots=True)
class ListedPeer:
    mi: MemberId
    mn: int  # the last one heard


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerList:
    """Figure 11-9. ``ks_ssci`` is the low octet of the key server's SSCI (802.1Xck)."""

    live: bool
    peers: tuple[ListedPeer, ...]
    ks_ssci: int = 0

    @property
    def set_type(self) -> SetType:
        return SetType.LIVE_PEER_LIST if self.live else SetType.POTENTIAL_PEER_LIST

    def encode(self) -> tuple[Header, bytes]:
        body = b"".join(peer.mi + peer.mn.to_bytes(4, "big") for peer in self.peers)
        return _header(self.set_type, body, second=self.ks_ssci), body

    @classmethod
    def decode(cls, header: Header, body: bytes) -> PeerList:
        if len(body) % PEER_SIZE:
            raise malformed(f"peer list of {len(body)} octets")
        reader = Reader(body, "peer list")
        peers: list[ListedPeer] = []
        while reader.remaining:
            peers.append(ListedPeer(MemberId(reader.octets(MI_SIZE)), reader.u32()))
        return cls(
            live=header.first == SetType.LIVE_PEER_LIST, peers=tuple(peers), ks_ssci=header.second
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """What a member does with one SAK. ``lowest_pn``: below that, frames are too old."""

    ki: KeyIdentifier
    an: int
    transmits: bool
    receives: bool
    lowest_pn: int  # 32 bits here; the upper ones are in the XPN set

    def encode(self) -> bytes:
        return self.ki.encode() + self.lowest_pn.to_bytes(4, "big")

    @property
    def flags(self) -> int:
        return self.an << 2 | 0x02 * self.transmits | 0x01 * self.receives


# Packet numbers begin at 1 (802.1AE 9.8). wpa_supplicant says 1 of a key that is not there, and
# takes a 0 beside the delay protection flag for so grave a fault that it starts over (new MI).
NO_KEY: Final = KeyUse(
    ki=KeyIdentifier(NO_MEMBER, 0), an=0, transmits=False, receives=False, lowest_pn=1
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SakUse:
    """MACsec SAK use (Figure 11-10): the newest SAK, and the one before it or at rest."""

    set_type: ClassVar[SetType] = SetType.SAK_USE
    latest: KeyUse | None
    old: KeyUse | None
    plain_transmit: bool = False
    plain_receive: bool = False
    delay_protect: bool = False

    def encode(self) -> tuple[Header, bytes]:
        latest, old = self.latest or NO_KEY, self.old or NO_KEY
        flags = 0x80 * self.plain_transmit | 0x40 * self.plain_receive | 0x10 * self.delay_protect
        body = latest.encode() + old.encode() if self.latest or self.old else b""
        return _header(
            SetType.SAK_USE, body, second=latest.flags << 4 | old.flags, flags=flags
        ), body

    @classmethod
    def decode(cls, header: Header, body: bytes) -> SakUse:
        latest = old = None
        if body:
            if len(body) != SAK_USE_BODY:
                raise malformed(f"MACsec SAK use of {len(body)} octets")
            reader = Reader(body, "MACsec SAK use")
            latest = _key_use(reader, header.second >> 4)
            old = _key_use(reader, header.second & 0x0F)
        return cls(
            latest=latest,
            old=old,
            plain_transmit=bool(header.flags & 0x80),
            plain_receive=bool(header.flags & 0x40),
            delay_protect=bool(header.flags & 0x10),
        )


def _key_use(reader: Reader, flags: int) -> KeyUse | None:
    ki = KeyIdentifier(MemberId(reader.octets(MI_SIZE)), reader.u32())
    lowest_pn = reader.u32()
    if ki == NO_KEY.ki:
        return None
    return KeyUse(
        ki=ki,
        an=flags >> 2,
        transmits=bool(flags & 0x02),
        receives=bool(flags & 0x01),
        lowest_pn=lowest_pn,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedSak:
    """Figures 11-11 to 11-13. Without ``wrapped`` the key server says: no MACsec."""

    set_type: ClassVar[SetType] = SetType.DISTRIBUTED_SAK
    an: int = 0
    confidentiality: int = 0
    kn: int = 0
    suite: int = CipherSuite.GCM_AES_128  # as it was sent, where it is not known here
    wrapped: bytes = b""

    def encode(self) -> tuple[Header, bytes]:
        body = b""
        if self.wrapped:
            named = self.suite != CipherSuite.GCM_AES_128  # Figure 11-11: that one goes without
            body = self.kn.to_bytes(4, "big")
            body += self.suite.to_bytes(8, "big") if named else b""
            body += self.wrapped
        second = self.an << 6 | self.confidentiality << 4
        return _header(SetType.DISTRIBUTED_SAK, body, second=second), body

    @classmethod
    def decode(cls, header: Header, body: bytes) -> DistributedSak:
        an, confidentiality = header.second >> 6, header.second >> 4 & 3
        if not body:
            return cls(an=an, confidentiality=confidentiality)
        reader = Reader(body, "distributed SAK")
        kn = reader.u32()
        short = reader.remaining == _WRAPPED_SIZES[0]
        suite = CipherSuite.GCM_AES_128 if short else reader.u64()
        wrapped = reader.rest()
        if len(wrapped) not in _WRAPPED_SIZES:
            raise malformed(f"distributed SAK of {len(body)} octets")
        known = cipher_suite(suite)
        if known is not None and len(wrapped) != known.key_size + WRAP_OVERHEAD:
            raise malformed(f"distributed SAK of {len(body)} octets for {known.name}")
        return cls(
            an=an,
            confidentiality=confidentiality,
            kn=kn,
            suite=suite if known is None else known,
            wrapped=wrapped,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedCak:
    """Figure 11-14: a group CAK, wrapped, and its CKN; where one ends the set does not say.

    Read for the record, never used.
    """

    set_type: ClassVar[SetType] = SetType.DISTRIBUTED_CAK
    body: bytes

    def encode(self) -> tuple[Header, bytes]:
        return _header(SetType.DISTRIBUTED_CAK, self.body), self.body

    @classmethod
    def decode(cls, header: Header, body: bytes) -> DistributedCak:
        del header
        if not _WRAPPED_SIZES[0] < len(body) <= _WRAPPED_SIZES[-1] + CKN_SIZE_MAX:
            raise malformed(f"distributed CAK of {len(body)} octets")
        return cls(body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kmd:
    """Key Management Domain (Figure 11-15)."""

    set_type: ClassVar[SetType] = SetType.KMD
    domain: bytes

    def encode(self) -> tuple[Header, bytes]:
        return _header(SetType.KMD, self.domain), self.domain

    @classmethod
    def decode(cls, header: Header, body: bytes) -> Kmd:
        del header
        if len(body) > KMD_SIZE_MAX:
            raise malformed(f"KMD of {len(body)} octets")
        return cls(domain=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    set_type: ClassVar[SetType] = SetType.ANNOUNCEMENT
    tlvs: tuple[Tlv, ...]

    def encode(self) -> tuple[Header, bytes]:
        body = encode_tlvs(self.tlvs)
        return _header(SetType.ANNOUNCEMENT, body), body

    @classmethod
    def decode(cls, header: Header, body: bytes) -> Announcement:
        del header
        return cls(tlvs=decode_tlvs(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Xpn:
    """Upper halves of the SAK use's packet numbers (802.1Xbx-2014)."""

    set_type: ClassVar[SetType] = SetType.XPN
    latest_high: int
    old_high: int
    suspension_time: int = 0

    def encode(self) -> tuple[Header, bytes]:
        body = self.latest_high.to_bytes(4, "big") + self.old_high.to_bytes(4, "big")
        return _header(SetType.XPN, body, second=self.suspension_time), body

    @classmethod
    def decode(cls, header: Header, body: bytes) -> Xpn:
        if len(body) != XPN_BODY:
            raise malformed(f"XPN set of {len(body)} octets")
        reader = Reader(body, "XPN set")
        return cls(latest_high=reader.u32(), old_high=reader.u32(), suspension_time=header.second)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownSet:
    """A set of a later version: skipped (11.11.4)."""

    set_type: int
    second: int
    flags: int
    body: bytes

    def encode(self) -> tuple[Header, bytes]:
        return _header(self.set_type, self.body, second=self.second, flags=self.flags), self.body


ParameterSet = (
    PeerList | SakUse | DistributedSak | DistributedCak | Kmd | Announcement | Xpn | UnknownSet
)

_DECODERS: Final[Mapping[int, Callable[[Header, bytes], ParameterSet]]] = {
    SetType.LIVE_PEER_LIST: PeerList.decode,
    SetType.POTENTIAL_PEER_LIST: PeerList.decode,
    SetType.SAK_USE: SakUse.decode,
    SetType.DISTRIBUTED_SAK: DistributedSak.decode,
    SetType.DISTRIBUTED_CAK: DistributedCak.decode,
    SetType.KMD: Kmd.decode,
    SetType.ANNOUNCEMENT: Announcement.decode,
    SetType.XPN: Xpn.decode,
}


def decode_set(header: Header, body: bytes) -> ParameterSet:
    """MkpduError where a known set is not as it must be."""
    decoder = _DECODERS.get(header.first)
    if decoder is None:
        return UnknownSet(
            set_type=header.first, second=header.second, flags=header.flags, body=body
        )
    return decoder(header, body)


def _header(set_type: int, body: bytes, *, second: int = 0, flags: int = 0) -> Header:
    return Header(first=set_type, second=second, flags=flags, length=len(body))
