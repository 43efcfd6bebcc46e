"""Hypothesis strategies for everything that stands in an IKE message."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from gateway.ike.identity import Identity
from gateway.ike.message import Header
from gateway.ike.payloads import (
    AuthPayload,
    CertPayload,
    CertReqPayload,
    ConfigAttribute,
    ConfigPayload,
    DeletePayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    UnknownPayload,
    VendorIdPayload,
)
from gateway.ike.selectors import OpaqueSelector, Selector, TrafficSelector
from gateway.ike.transforms import Proposal, Transform

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
data = st.binary(max_size=80)

TV_UNKNOWN = bytes.fromhex("80010002")
TLV_UNKNOWN = bytes.fromhex("00020003616263")

transforms = st.one_of(
    st.builds(Transform, type=u8, id=u16),
    st.builds(Transform, type=u8, id=u16, key_length=u16),
    st.builds(
        Transform,
        type=u8,
        id=u16,
        unknown_attributes=st.sampled_from([TV_UNKNOWN, TLV_UNKNOWN, TV_UNKNOWN + TLV_UNKNOWN]),
    ),
)


@st.composite
def proposal_lists(draw: st.DrawFn) -> tuple[Proposal, ...]:
    first = draw(st.integers(1, 5))
    proposals = []
    for number in range(first, first + draw(st.integers(1, 3))):
        protocol, sizes = draw(st.sampled_from([(1, (0, 8)), (2, (4,)), (3, (4,)), (9, (0, 5))]))
        size = draw(st.sampled_from(sizes))
        proposals.append(
            Proposal(
                number=number,
                protocol=protocol,
                spi=draw(st.binary(min_size=size, max_size=size)),
                transforms=tuple(draw(st.lists(transforms, max_size=4))),
            )
        )
    return tuple(proposals)


@st.composite
def selectors(draw: st.DrawFn) -> Selector:
    protocol = draw(u8)
    if draw(st.integers(0, 4)) == 0:
        kind = draw(u8.filter(lambda number: number not in (7, 8)))
        return OpaqueSelector(type=kind, protocol=protocol, data=draw(data))
    if draw(st.booleans()):
        low, high = sorted((draw(u32), draw(u32)))
        start, end = IPv4Address(low), IPv4Address(high)
    else:
        wide = st.integers(0, 2**128 - 1)
        low, high = sorted((draw(wide), draw(wide)))
        start, end = IPv6Address(low), IPv6Address(high)
    return TrafficSelector(
        start=start, end=end, protocol=protocol, start_port=draw(u16), end_port=draw(u16)
    )


identities = st.one_of(
    st.builds(Identity, type=st.just(1), data=st.binary(min_size=4, max_size=4)),
    st.builds(Identity, type=st.just(5), data=st.binary(min_size=16, max_size=16)),
    st.builds(Identity, type=u8.filter(lambda kind: kind not in (1, 5)), data=data),
)
spis4 = st.binary(min_size=4, max_size=4)
known_types = frozenset((*range(33, 46), 47))

payloads: st.SearchStrategy[Payload] = st.one_of(
    st.builds(SaPayload, proposals=proposal_lists()),
    st.builds(KePayload, method=u16, data=data),
    st.builds(IdPayload, initiator=st.booleans(), identity=identities),
    st.builds(CertPayload, encoding=u8, data=data),
    st.builds(CertReqPayload, encoding=u8, data=data),
    st.builds(AuthPayload, method=u8, data=data),
    st.builds(NoncePayload, data=st.binary(min_size=16, max_size=256)),
    st.builds(NotifyPayload, type=u16, protocol=u8, spi=data, data=data),
    st.builds(
        DeletePayload,
        protocol=st.sampled_from([2, 3]),
        spis=st.lists(spis4, max_size=4).map(tuple),
    ),
    st.just(DeletePayload(protocol=1)),
    st.builds(VendorIdPayload, data=data),
    st.builds(
        TsPayload,
        initiator=st.booleans(),
        selectors=st.lists(selectors(), max_size=4).map(tuple),
    ),
    st.builds(
        ConfigPayload,
        type=u8,
        attributes=st.lists(
            st.builds(ConfigAttribute, type=st.integers(0, 0x7FFF), value=data), max_size=4
        ).map(tuple),
    ),
    st.builds(
        UnknownPayload,
        type=st.integers(1, 255).filter(lambda kind: kind not in (*known_types, 46, 53)),
        data=data,
    ),
)
chains = st.lists(payloads, max_size=6).map(tuple)

headers = st.builds(
    Header,
    spi_i=st.binary(min_size=8, max_size=8).filter(any),
    spi_r=st.binary(min_size=8, max_size=8),
    exchange=u8,
    message_id=u32,
    initiator=st.booleans(),
    response=st.booleans(),
)
