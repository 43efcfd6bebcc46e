"""Whatever arrives as a frame, a port lives on, soon, and its SAK stays."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mka.errors import MkpduError
from gateway.mka.keys import MkaKeys
from gateway.mka.limits import ICV_SIZE
from gateway.mka.mkpdu import Mkpdu, encode_mkpdu, parse_frame
from gateway.mka.sets import Basic
from tests.fuzz.test_datagram_fuzz_codec import changes, mutate
from tests.support.mka_lan import CKN, Lan, cak, lan, sci_of
from tests.support.mka_strategies import mkpdus

EXAMPLES = settings(max_examples=150, deadline=None)
KEYS = MkaKeys(cak())


@cache
def recorded() -> tuple[bytes, ...]:
    one = lan(3)
    one.run(8.0)
    return tuple(one.frames)


def secured() -> Lan:
    one = lan()
    one.run(1.0)
    return one


def parse_everything(frame: bytes) -> None:
    try:
        mkpdu = parse_frame(frame).open(KEYS)
    except MkpduError as error:
        assert str(error)  # noqa: PT017
        return
    assert parse_frame(encode_mkpdu(mkpdu, bytes(6), KEYS)).open(KEYS) == mkpdu


def sealed(frame: bytes) -> bytes:
    """As from somebody who has the CAK: lengths and ICV are right whatever else is not."""
    covered = frame[:-ICV_SIZE]
    covered = covered[:16] + (len(frame) - 18 & 0xFFFF).to_bytes(2, "big") + covered[18:]
    return covered + KEYS.icv(covered)


@EXAMPLES
@given(st.binary(max_size=200))
def test_noise(data: bytes) -> None:
    parse_everything(data)
    parse_everything(recorded()[0][:18] + data)


@EXAMPLES
@given(st.integers(0, 10), changes)
def test_damaged_frames(which: int, edits: list[tuple[float, int, int]]) -> None:
    damaged = mutate(recorded()[which], edits)
    parse_everything(damaged)
    if len(damaged) > 40:
        parse_everything(sealed(damaged))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10), changes), max_size=8))
def test_a_stranger_sends_damaged_frames(frames) -> None:
    """Without the CAK: whatever it is, it changes nothing."""
    one = secured()
    saks, views = one.saks(), [member.port.view() for member in one.members]
    for which, edits in frames:
        damaged = mutate(recorded()[which], edits)
        if damaged not in recorded():
            one.send(damaged, 0)
            one.send(damaged, 1)
    assert one.saks() == saks
    assert [member.port.view() for member in one.members] == views
    one.run(10.0)
    assert one.saks() == saks


@settings(max_examples=60, deadline=None)
@given(st.lists(mkpdus, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_a_member_sends_what_it_likes(said: list[Mkpdu], listing: bool, server: bool) -> None:
    """With the CAK, and in the worst case listing us as live: no exception, no storm, no reuse."""
    one = secured()
    for number, mkpdu in enumerate(said):
        view = one.members[0].port.view().participants[0]
        basic = mkpdu.basic
        sets = mkpdu.sets
        if listing:
            sets = tuple(item for item in sets if type(item).__name__ != "PeerList")
            sets = (*sets, listing_of(view.mi, view.mn))
        odd = Basic(
            version=basic.version,
            priority=0 if server else basic.priority,
            key_server=server or basic.key_server,
            macsec_desired=basic.macsec_desired,
            capability=basic.capability,
            sci=sci_of(7) if number % 2 else basic.sci,
            mi=said[0].basic.mi if number % 2 else basic.mi,
            mn=basic.mn,
            ckn=CKN,
        )
        one.send(encode_mkpdu(Mkpdu(basic=odd, sets=sets), bytes(6), KEYS), 0)
        one.run(0.3)
    one.run(20.0)
    assert one.one_sak()


def listing_of(mi, mn):
    from gateway.mka.sets import ListedPeer, PeerList

    return PeerList(live=True, peers=(ListedPeer(mi, mn),))
