"""No SAK is installed twice by one station: each rule that sees to it, by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.mka.events import SakMade
from gateway.mka.identifiers import KeyIdentifier, MemberId
from gateway.mka.keys import MkaKeys
from gateway.mka.mkpdu import Mkpdu, encode_mkpdu, parse_frame
from gateway.mka.outbox import Outbox
from gateway.mka.participant import Participant, Saying
from gateway.mka.registry import CipherSuite
from gateway.mka.sets import DistributedSak, KeyUse, ListedPeer, PeerList, SakUse
from tests.support.mka_lan import CKN, Lan, SeededRng, cak, lan, sci_of, settings_of
from tests.unit.mka.test_mkpdu import BASIC

KEYS = MkaKeys(cak())
SERVER = MemberId(b"S" * 12)


class Foreign:
    """A key server of another make, which does as it is told, and one participant of ours."""

    def __init__(self) -> None:
        self.ours = Participant(cak(), settings_of(1), SeededRng(1), Outbox(), 0.0)
        self.mn = 0

    def says(self, *sets, live: bool, mn: int | None = None, now: float = 1.0) -> None:
        """An MKPDU that lists us, as live or as potential, with our last MN or another."""
        self.mn += 1
        mn = self.ours.mn if mn is None else mn
        listed = PeerList(live=live, peers=(ListedPeer(self.ours.mi, mn),))
        basic = replace(BASIC, sci=sci_of(0), mi=SERVER, mn=self.mn, ckn=CKN)
        frame = encode_mkpdu(Mkpdu(basic=basic, sets=(listed, *sets)), sci_of(0).mac, KEYS)
        self.ours.receive(parse_frame(frame), now)

    def offers(self, kn: int) -> bool:
        """Whether a SAK with this number is taken."""
        server = self.ours.server
        assert server is not None
        return self.ours.take_sak(offer(kn), server) is not None


def offer(kn: int) -> DistributedSak:
    wrapped = KEYS.wrap(cak(7).key)
    return DistributedSak(confidentiality=1, kn=kn, suite=CipherSuite.GCM_AES_256, wrapped=wrapped)


@pytest.fixture
def foreign() -> Foreign:
    one = Foreign()
    one.ours.send(Saying(), 0.5)
    return one


@pytest.mark.parametrize(
    ("mn", "now", "live"),
    [(1, 1.0, True), (1, 6.5, True), (1, 6.6, False), (0, 1.0, False), (2, 1.0, False)],
)
def test_only_a_number_of_a_moment_ago_proves_that_somebody_lives(foreign, mn, now, live):
    """9.4.3. What was recorded long ago lists other MIs, or ours with an old MN."""
    foreign.says(live=True, mn=mn, now=now)
    assert (foreign.ours.server is not None) is live


def test_one_that_is_for_us_is_taken_once(foreign):
    foreign.says(live=True)
    assert foreign.offers(3)
    assert not foreign.offers(3)
    assert not foreign.offers(2)
    assert foreign.offers(4)


def test_one_that_was_never_sent_under_may_be_offered_again(foreign):
    foreign.says(live=True)
    assert foreign.offers(3)
    foreign.ours.may_take_again(KeyIdentifier(SERVER, 3))
    assert foreign.offers(3)
    foreign.ours.may_take_again(KeyIdentifier(SERVER, 2))  # not the last one
    assert not foreign.offers(2)


def test_nothing_from_a_key_server_that_does_not_list_us_as_live(foreign):
    foreign.says(live=False)
    assert foreign.ours.server is not None  # it proved to us that it lives; not we to it
    assert not foreign.offers(3)


@pytest.mark.parametrize("shown", ["latest", "old", "distributed"])
def test_nothing_that_was_there_before_we_were_a_member(foreign, shown):
    ki = KeyIdentifier(SERVER, 3)
    use = KeyUse(ki=ki, an=0, transmits=True, receives=True, lowest_pn=1)
    said = {
        "latest": SakUse(latest=use, old=None),
        "old": SakUse(latest=None, old=use),
        "distributed": offer(3),
    }
    foreign.says(said[shown], live=False)
    foreign.says(live=True)
    assert not foreign.offers(3)
    assert foreign.offers(4)


def test_what_others_show_does_not_count(foreign):
    """They may have had it first: only the key server's own words are in order."""
    ki = KeyIdentifier(MemberId(b"other member"), 3)
    use = KeyUse(ki=ki, an=0, transmits=False, receives=True, lowest_pn=1)
    foreign.says(SakUse(latest=use, old=None), live=False)
    assert not foreign.ours._spent


def distributed(one: Lan, since: int) -> list[tuple[int, set[MemberId]]]:
    """KN and live list of each frame with a SAK."""
    found = []
    for frame in one.frames[since:]:
        mkpdu = parse_frame(frame).open(KEYS)
        if mkpdu.distributed_sak is not None:
            live = {item.mi for item in mkpdu.live_peers.peers}
            found.append((mkpdu.distributed_sak.kn, live))
    return found


def test_who_joins_is_not_given_the_sak_of_those_before():
    one = lan(3)
    one.stop(2)
    one.run(10.0)
    before = len(one.members[0].saw(SakMade))
    one.act(0, lambda port: port.request_sak("asked", one.now))
    one.members[1].secy.fail = 1000  # the SAK is distributed again and again
    somebody_unheard(one)
    one.restart(2)
    since = len(one.frames)
    one.run(3.0)
    mi = one.members[2].port.view().participants[0].mi
    assert mi in live_at_key_server(one)
    assert len(one.members[0].saw(SakMade)) == before + 1  # whoever may become live is waited for
    assert not any(mi in live for _, live in distributed(one, since))
    one.members[1].secy.fail = 0
    one.run(20.0)
    assert one.one_sak()


def somebody_unheard(one: Lan) -> None:
    """A potential peer at the key server, for some seconds."""
    basic = replace(BASIC, sci=sci_of(9), mi=MemberId(b"old and gone"), mn=1, ckn=CKN)
    one.send(encode_mkpdu(Mkpdu(basic=basic), sci_of(9).mac, KEYS), 0)


def live_at_key_server(one: Lan) -> set[MemberId]:
    peers = one.members[0].port.view().participants[0].peers
    return {peer.mi for peer in peers if peer.live}


def test_who_lost_the_sak_is_not_given_the_same():
    one = lan()
    one.run(10.0)
    one.act(0, lambda port: port.request_sak("asked", one.now))
    one.run(3.2)  # the next one is more than a hello time away
    since = len(one.frames)
    kn = one.members[0].saw(SakMade)[-1].ki.kn
    somebody_unheard(one)
    one.members[1].port._cp.lose("as a foreign one might", one.now)
    one.act(1, lambda port: port.handle_timer(one.now))
    one.run(10.0)
    assert one.one_sak()
    assert one.members[0].saw(SakMade)[-1].reason == "a member lost the SAK"
    assert {number for number, _ in distributed(one, since)} == {kn + 1}


def test_who_comes_back_under_the_same_mi_is_not_given_the_same():
    """It was out of sight when the SAK was made that it would have had part in."""
    one = lan(3)
    one.run(10.0)
    mi = one.members[1].port.view().participants[0].mi
    one.cut = lambda source, target: {source, target} == {0, 1}
    one.run(4.0)
    one.act(0, lambda port: port.request_sak("asked", one.now))
    one.run(0.5)
    kn = one.members[0].saw(SakMade)[-1].ki.kn
    while mi in live_at_key_server(one):
        one.run(0.1)
    one.cut = lambda source, target: False
    since = len(one.frames)
    one.run(12.0)
    assert one.members[1].port.view().participants[0].mi == mi
    assert one.one_sak()
    assert {number for number, live in distributed(one, since) if mi in live} == {kn + 1}


def test_whoever_gave_up_a_sak_goes_on_as_another():
    one = lan()
    one.run(10.0)
    before = [member.port.view().participants[0].mi for member in one.members]
    one.cut = lambda source, target: True
    one.run(7.0)
    after = [member.port.view().participants[0].mi for member in one.members]
    assert not set(before) & set(after)
