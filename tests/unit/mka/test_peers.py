"""Live and potential peers, recent and replayed numbers (9.4.2, 9.4.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.mka.errors import DropReason, MkpduError
from gateway.mka.identifiers import MemberId, Sci
from gateway.mka.limits import LIFE_TIME, PEERS_MAX, SCI_SILENCE
from gateway.mka.mkpdu import Mkpdu
from gateway.mka.peers import Peers, SentNumbers
from tests.support.mka_lan import sci_of
from tests.unit.mka.test_mkpdu import BASIC


def said(number: int, mn: int, sci: Sci | None = None) -> Mkpdu:
    mi = MemberId(number.to_bytes(12, "big"))
    return Mkpdu(basic=replace(BASIC, mi=mi, mn=mn, sci=sci or sci_of(number)))


def refused(peers: Peers, mkpdu: Mkpdu, now: float, *, proven: bool) -> DropReason:
    before = peers.all()
    with pytest.raises(MkpduError) as caught:
        peers.hear(mkpdu, proven=proven, now=now)
    assert peers.all() == before
    return caught.value.reason


def test_recent_numbers_are_those_of_the_life_time():
    sent = SentNumbers()
    assert not sent.recent(0, 0.0)
    for mn in range(1, 6):
        sent.sent(mn, 2.0 * mn)
    assert [mn for mn in range(8) if sent.recent(mn, 10.0)] == [2, 3, 4, 5]
    assert [mn for mn in range(8) if sent.recent(mn, 10.0 + LIFE_TIME)] == [5]
    assert not any(sent.recent(mn, 10.1 + LIFE_TIME) for mn in range(8))


def test_who_proves_it_is_live_and_the_others_are_potential():
    peers = Peers()
    peers.hear(said(1, 1), proven=False, now=0.0)
    peers.hear(said(2, 1), proven=True, now=0.0)
    assert [peer.sci for peer in peers.live] == [sci_of(2)]
    assert [peer.sci for peer in peers.potential] == [sci_of(1)]
    peers.hear(said(1, 2), proven=True, now=1.0)
    assert not peers.potential


@pytest.mark.parametrize("mn", [5, 4, 0])
def test_numbers_only_increase(mn):
    peers = Peers()
    peers.hear(said(1, 5), proven=True, now=0.0)
    assert refused(peers, said(1, mn), 1.0, proven=True) is DropReason.REPLAYED


def test_a_live_peer_is_kept_by_proofs_only():
    peers = Peers()
    peers.hear(said(1, 1), proven=True, now=0.0)
    peers.hear(said(1, 2), proven=False, now=5.0)
    assert not peers.expire(5.9)
    assert [peer.sci for peer in peers.expire(6.0)] == [sci_of(1)]
    assert not peers.all()


def test_a_live_station_is_not_pushed_aside_and_a_silent_one_is():
    peers = Peers()
    peers.hear(said(1, 1, sci_of(1)), proven=True, now=0.0)
    twin = said(2, 1, sci_of(1))
    peers.hear(twin, proven=False, now=0.5)  # maybe an old frame: it proves nothing
    again = said(2, 2, sci_of(1))
    early = SCI_SILENCE - 0.1
    assert refused(peers, again, early, proven=True) is DropReason.DUPLICATE_SCI
    peer, gone = peers.hear(again, proven=True, now=SCI_SILENCE)
    assert peer.live
    assert [other.mi for other in gone] == [said(1, 1).basic.mi]
    assert peers.live == [peer]


def test_there_is_room_for_so_many():
    peers = Peers()
    for number in range(1, PEERS_MAX + 1):
        peers.hear(said(number, 1), proven=False, now=float(number) / 100)
    late = said(200, 1)
    assert refused(peers, late, 1.0, proven=False) is DropReason.TOO_MANY_PEERS
    peer, gone = peers.hear(late, proven=True, now=1.0)  # a real one takes the oldest's place
    assert peer.live
    assert [other.sci for other in gone] == [sci_of(1)]
    for number in range(2, PEERS_MAX + 1):
        peers.hear(said(number, 2), proven=True, now=1.0)
    assert refused(peers, said(201, 1), 1.0, proven=True) is DropReason.TOO_MANY_PEERS
