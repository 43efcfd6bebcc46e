"""Parameter sets and MKPDUs for hypothesis: everything that can be encoded."""

from __future__ import annotations

from hypothesis import strategies as st

from gateway.mka.announcement import Tlv
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.mkpdu import Mkpdu
from gateway.mka.registry import CipherSuite, SetType
from gateway.mka.sets import (
    Announcement,
    Basic,
    DistributedCak,
    DistributedSak,
    KeyUse,
    Kmd,
    ListedPeer,
    PeerList,
    SakUse,
    UnknownSet,
    Xpn,
)


def of(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


u8, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF_FFFF)
mis = of(12).map(MemberId)
scis = st.builds(Sci, of(6), st.integers(0, 0xFFFF))
basics = st.builds(
    Basic,
    version=st.integers(1, 255),
    priority=u8,
    key_server=st.booleans(),
    macsec_desired=st.booleans(),
    capability=st.integers(0, 3),
    sci=scis,
    mi=mis,
    mn=u32,
    ckn=st.binary(min_size=1, max_size=32),
)
peer_lists = st.builds(
    PeerList,
    live=st.booleans(),
    peers=st.lists(st.builds(ListedPeer, mis, u32), max_size=5).map(tuple),
    ks_ssci=u8,
)
key_uses = st.builds(
    KeyUse,
    ki=st.builds(KeyIdentifier, mis, st.integers(1, 0xFFFF_FFFF)),
    an=st.integers(0, 3),
    transmits=st.booleans(),
    receives=st.booleans(),
    lowest_pn=u32,
)
sak_uses = st.builds(
    SakUse,
    latest=st.none() | key_uses,
    old=st.none() | key_uses,
    plain_transmit=st.booleans(),
    plain_receive=st.booleans(),
    delay_protect=st.booleans(),
)


def _distributed(suite: int, wrapped: bytes, an: int, level: int, kn: int) -> DistributedSak:
    return DistributedSak(an=an, confidentiality=level, kn=kn, suite=suite, wrapped=wrapped)


two_bits = st.integers(0, 3)
distributed_saks = st.one_of(
    st.builds(DistributedSak, an=two_bits, confidentiality=two_bits),
    st.sampled_from(list(CipherSuite)).flatmap(
        lambda suite: st.builds(
            _distributed, st.just(suite), of(suite.key_size + 8), two_bits, two_bits, u32
        )
    ),
)
distributed_caks = st.builds(DistributedCak, body=st.binary(min_size=25, max_size=72))
kmds = st.builds(Kmd, domain=st.binary(max_size=253))
tlvs = st.builds(Tlv, st.integers(0, 127), st.binary(max_size=40))
announcements = st.builds(Announcement, tlvs=st.lists(tlvs, max_size=4).map(tuple))
xpns = st.builds(Xpn, latest_high=u32, old_high=u32, suspension_time=u8)
unknown_sets = st.builds(
    UnknownSet,
    set_type=u8.filter(lambda number: number not in set(SetType)),
    second=u8,
    flags=st.integers(0, 15).map(lambda number: number << 4),
    body=st.binary(max_size=40),
)
known_sets = st.one_of(
    peer_lists,
    sak_uses,
    distributed_saks,
    distributed_caks,
    kmds,
    announcements,
    xpns,
)
sets = known_sets | unknown_sets


def _kind(item: object) -> object:
    return object() if isinstance(item, UnknownSet) else item.set_type


mkpdus = st.builds(Mkpdu, basic=basics, sets=st.lists(sets, max_size=6, unique_by=_kind).map(tuple))
