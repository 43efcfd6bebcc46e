"""A port among others: what it does, and what it does not let happen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.mka import limits
from gateway.mka.commands import (
    DeleteSas,
    InstallReceiveSa,
    InstallSas,
    RaiseLowestPn,
    SetPort,
)
from gateway.mka.errors import DropReason
from gateway.mka.events import (
    Dropped,
    KeyServerChanged,
    PeerLost,
    PortChanged,
    SakFailed,
    SakInUse,
    SakMade,
)
from gateway.mka.keys import MkaKeys
from gateway.mka.mkpdu import parse_frame
from gateway.mka.port import Port
from gateway.mka.registry import Capability, CipherSuite, Confidentiality
from gateway.model import PortSecurity, PortState
from tests.support.mka_lan import (
    CKN,
    Lan,
    Member,
    Secy,
    SeededRng,
    cak,
    inherited_from,
    lan,
    sci_of,
    settings_of,
)


def made(member: Member) -> list[str]:
    return [event.reason for event in member.saw(SakMade)]


def dropped(member: Member) -> set[DropReason]:
    return {event.reason for event in member.saw(Dropped)}


def opened(frame: bytes):
    return parse_frame(frame).open(MkaKeys(cak()))


# --- up ------------------------------------------------------------------------------------------


def test_two_members_are_secured_within_half_a_second():
    one = lan()
    assert [member.secy.port for member in one.members] == [PortState.BLOCKED] * 2
    one.run(0.5)
    assert one.one_sak()
    assert [member.secy.port for member in one.members] == [PortState.SECURED] * 2
    assert not dropped(one.members[0])
    assert [event.sci for event in one.members[1].saw(KeyServerChanged)] == [sci_of(0)]


def test_before_a_restart_a_whole_life_time_is_begun():
    one = lan()
    one.run(20.0)
    while one.frames:  # until a moment well after the last one
        one.frames.clear()
        one.run(0.5)
    one.act(0, lambda port: port.prove_life(one.now))
    assert [frame[6:12] for frame in one.frames] == [sci_of(0).mac]
    one.act(0, lambda port: port.prove_life(one.now))
    assert len(one.frames) == 1  # not more often than at other times
    one.stop(0)
    one.run(limits.LIFE_TIME - 0.1)
    assert not one.members[1].saw(PeerLost)
    one.run(0.2)
    assert one.members[1].saw(PeerLost)


def test_at_rest_there_is_one_frame_in_each_hello_time():
    one = lan()
    one.run(20.0)
    one.frames.clear()
    one.run(20.0)
    assert len(one.frames) == 2 * 10
    last = opened(one.frames[-1])
    assert last.distributed_sak is None
    # 12.4: at rest the SAK is the old one, in use both ways
    assert last.sak_use.latest is None
    assert (last.sak_use.old.transmits, last.sak_use.old.receives) == (True, True)


# --- who has no part -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "reason"),
    [((2, CKN), DropReason.BAD_ICV), ((1, b"other"), DropReason.UNKNOWN_CKN)],
)
def test_another_cak_or_ckn_gives_no_sa_and_says_why(key, reason):
    one = lan()
    one.members[1] = one._member(settings_of(1), [key])
    one._begin(1)
    one.run(20.0)
    assert one.no_sak()
    for member in one.members:
        assert reason in dropped(member)
        assert member.secy.port is PortState.BLOCKED
        assert not member.saw(SakMade)


def test_old_frames_make_nobody_live():
    one = lan()
    one.run(10.0)
    recorded = list(one.frames)
    fresh = Lan([settings_of(0)], seed=9)
    for frame in recorded:
        fresh.send(frame, 0)
        fresh.run(0.1)
    fresh.run(1.0)
    assert fresh.no_sak()
    assert DropReason.DUPLICATE_SCI in dropped(fresh.members[0])  # what it said itself, then
    assert not any(peer.live for peer in fresh.members[0].port.view().participants[0].peers)


def test_a_frame_twice_and_our_own():
    one = lan()
    one.run(1.0)
    for frame in one.frames[-2:]:
        for index in range(2):
            one.send(frame, index)
    assert dropped(one.members[0]) == {DropReason.REPLAYED, DropReason.LOOPED}
    assert one.one_sak()


def test_an_offset_is_for_those_who_have_it():
    able = {
        "confidentiality": Confidentiality.OFFSET_30,
        "capability": Capability.CONFIDENTIALITY_OFFSETS,
    }
    one = lan(change=able)
    one.run(5.0)
    assert one.members[1].saw(SakInUse)[0].confidentiality is Confidentiality.OFFSET_30
    mixed = Lan([replace(settings_of(0), **able), settings_of(1)])
    mixed.run(5.0)
    assert mixed.members[1].saw(SakInUse)[0].confidentiality is Confidentiality.OFFSET_0


# --- unprotected ---------------------------------------------------------------------------------


def test_should_secure_is_open_until_it_is_secured_and_says_so():
    one = lan(change={"security": PortSecurity.SHOULD_SECURE})
    assert {member.secy.port for member in one.members} == {PortState.CLEAR}
    one.run(5.0)
    assert {member.secy.port for member in one.members} == {PortState.SECURED}
    one.stop(1)
    one.run(10.0)
    assert one.members[0].secy.port is PortState.CLEAR
    shown = [event.state for event in one.members[0].saw(PortChanged)]
    assert shown == [PortState.CLEAR, PortState.SECURED, PortState.CLEAR]


def test_a_pair_with_the_same_mac_address_has_no_sak_and_says_why():
    """Same SCI, same priority: neither is taken for the other, nor pushed aside by it."""
    twin = replace(settings_of(0), interface="eth9")
    one = Lan([settings_of(0), twin])
    one.run(20.0)
    assert one.no_sak()
    for member in one.members:
        assert dropped(member) == {DropReason.DUPLICATE_SCI}
    one = Lan([settings_of(0), twin, settings_of(2)])  # with a third, one of the two has part
    one.run(30.0)
    assert [member.secy.sak is None for member in one.members].count(True) == 1
    assert one.members[2].secy.sak is not None


# --- new SAKs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [CipherSuite.GCM_AES_256, CipherSuite.GCM_AES_XPN_256])
@pytest.mark.parametrize("who", [0, 1])
def test_packet_numbers_that_run_out(suite, who):
    one = lan(change={"suite": suite, "accepted_suites": frozenset({suite})})
    one.run(10.0)
    xpn = limits.XPN_PENDING_EXHAUSTION
    limit = xpn if suite.xpn else limits.PN_PENDING_EXHAUSTION
    for number in (limit - 3, limit - 2, limit - 1):
        one.act(who, lambda port, number=number: port.transmit_pn(0, number, one.now))
        one.run(limits.HELLO_TIME)
    one.run(5.0)
    assert made(one.members[0]) == ["there is none"]
    for _ in range(2):  # at rest at the limit: told all the same
        one.act(who, lambda port: port.transmit_pn(0, limit, one.now))
        one.run(limits.HELLO_TIME)
    one.run(5.0)
    assert made(one.members[0])[1:] == ["packet numbers run out"]
    assert one.one_sak()


def test_a_sak_has_its_lifetime():
    one = lan(change={"sak_lifetime": 10.0})
    one.run(35.0)
    assert made(one.members[0])[1:] == ["the SAK's lifetime is over"] * 3
    assert one.one_sak()


def test_a_new_sak_is_asked_for():
    one = lan()
    one.run(10.0)
    one.act(1, lambda port: port.request_sak("operator", one.now))  # not key server
    one.run(5.0)
    assert len(made(one.members[0])) == 1
    one.act(0, lambda port: port.request_sak("operator", one.now))
    one.run(5.0)
    assert made(one.members[0])[1:] == ["operator"]


def test_not_more_often_than_the_life_time():
    one = lan()
    one.run(1.0)
    moments = []
    one.watch = lambda: moments.append((one.now, len(made(one.members[0]))))
    for _ in range(40):
        one.act(0, lambda port: port.request_sak("operator", one.now))
        one.run(1.0)
    assert 6 <= len(made(one.members[0])) - 1 <= 40 // limits.LIFE_TIME + 1


def test_a_restarted_member_gets_another_sak():
    one = lan()
    one.run(10.0)
    before = one.saks()
    one.restart(1)
    one.run(10.0)
    assert one.one_sak()
    assert one.saks() != before
    assert [event.reason for event in one.members[0].saw(PeerLost)] == [
        "it came back under another MI"
    ]


def test_a_restarted_key_server_avoids_the_numbers_that_are_taken():
    one = lan()
    one.run(10.0)
    one.restart(0)
    one.run(10.0)
    assert one.one_sak()
    assert one.members[0].saw(SakMade)[0].an == 1
    early = [item for item in one.members[1].secy.log if isinstance(item, DeleteSas)]
    assert [item.an for item in early] == [0]  # after the new one is in use


def test_inherited_sas_go_when_nobody_is_found():
    one = lan()
    one.run(10.0)
    one.stop(1)
    one.restart(0, keep=True)
    assert one.members[0].secy.port is PortState.SECURED
    one.run(limits.INHERITED_GRACE - 0.1)
    assert one.members[0].secy.sak is not None
    one.run(0.2)
    assert one.members[0].secy.sak is None
    assert one.members[0].secy.port is PortState.BLOCKED


def test_inherited_sas_wait_for_the_first_cak():
    one = lan()
    one.run(10.0)
    port = Port(settings_of(0), rng=SeededRng(1), inherited=inherited_from(one.members[0]))
    port.transmit_pn(0, 77, 1000.0)
    assert port.take_commands() == [SetPort(state=PortState.SECURED)]
    assert port.next_deadline() is None
    port.add_cak(cak(), 2000.0)
    assert port.view().saks[0].next_pn == 77


def test_inherited_sas_go_when_the_port_is_closed():
    one = lan()
    one.run(10.0)
    one.restart(0, keep=True)
    one.act(0, lambda port: port.close("stopped", one.now))
    assert not one.members[0].secy.transmit
    assert not one.members[0].secy.receive
    assert one.members[0].port.next_deadline() is None


def test_a_sak_from_before_our_time_is_not_taken():
    """A key server that gives a newcomer the SAK in use: we may have used it before."""
    one = lan()
    one.run(10.0)
    server = one.members[0].port
    one.restart(1)
    # As some do: whoever is live gets what there is.
    sak = server._cp.old
    server._distribution = lambda principal: (principal.distribute(sak), None)
    server._need = lambda principal: None
    one.run(10.0)
    offered = [opened(frame).distributed_sak for frame in one.frames[-2:]]
    assert sak.ki.kn in {item.kn for item in offered if item is not None}
    assert one.members[1].secy.sak is None
    assert not one.members[1].saw(SakInUse)


# --- the SecY ------------------------------------------------------------------------------------


def test_a_secy_that_refuses_at_the_member():
    one = lan()
    one.members[1].secy.fail = 1
    one.run(5.0)
    assert [event.reason for event in one.members[1].saw(SakFailed)] == ["device or resource busy"]
    assert one.one_sak()  # the key server said it again


def test_a_secy_that_refuses_at_the_key_server():
    one = lan()
    one.members[0].secy.fail = 1
    one.run(limits.LIFE_TIME - 0.5)
    assert one.no_sak()
    assert len(made(one.members[0])) == 1  # no hurry
    one.run(5.0)
    assert made(one.members[0])[1:] == ["the SecY refused the last SAK"]
    assert one.one_sak()


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("trouble", ["fail", "mute"])
def test_a_secy_that_does_not_move_on_goes_on_as_before(who, trouble):
    """It may have moved, and the answer was lost: then it is told to go back."""
    one = lan()
    one.run(10.0)
    before = one.saks()
    secy = one.members[who].secy
    one.watch = lambda: fails_at_enabling(secy, trouble)
    one.act(0, lambda port: port.request_sak("asked", one.now))
    while not one.members[who].saw(SakFailed):
        one.run(0.05)
    assert secy.sak == before[who]
    one.watch = lambda: None
    one.run(12.0)
    assert one.one_sak()
    assert one.saks() != before


def fails_at_enabling(secy: Secy, trouble: str) -> None:
    if len(secy.transmit) == 2 and not any(isinstance(item, DeleteSas) for item in secy.log):
        setattr(secy, trouble, 1)


def test_every_secure_channel_has_an_ssci_of_its_own():
    suite = CipherSuite.GCM_AES_XPN_256
    one = lan(4, change={"suite": suite, "accepted_suites": frozenset({suite})})
    one.run(10.0)
    assert one.one_sak()
    views = []
    for member in one.members:
        installed = [item for item in member.secy.log if isinstance(item, InstallSas)][-1]
        assert len(installed.key.salt) == 12
        an = installed.key.an
        views.append(
            {sci: ssci for (sci, number), ssci in member.secy.sscis.items() if number == an}
        )
    assert views == [{sci_of(index): 4 - index for index in range(4)}] * 4


def test_delay_protection_raises_what_is_accepted():
    one = lan(change={"delay_protect": True})
    one.run(1.0)
    an = one.members[1].secy.encoding
    for number in (100, 200, 300):
        one.act(1, lambda port, number=number: port.transmit_pn(an, number, one.now))
        one.run(0.5)
    # Not what was just sent, which may be on the way: one report before.
    assert one.members[0].secy.lowest[sci_of(1), an] == 200
    assert any(isinstance(item, RaiseLowestPn) for item in one.members[0].secy.log)


@pytest.mark.parametrize("late", [1.2, 3.1])
def test_a_report_of_packet_numbers_that_lags_lets_no_frame_on_the_way_be_dropped(late):
    """What is reported twice in a moment, or late, is advertised when it is a Hello Time old."""
    one = lan(change={"delay_protect": True})
    one.run(1.0)
    an = one.members[1].secy.encoding

    def lowest() -> int:
        return one.members[0].secy.lowest[sci_of(1), an]

    for number in (100, 150):
        one.act(1, lambda port, number=number: port.transmit_pn(an, number, one.now))
    one.run(limits.BOUNDED_HELLO_TIME)
    assert lowest() == 1
    one.run(late)
    one.act(1, lambda port: port.transmit_pn(an, 900, one.now))
    one.run(limits.BOUNDED_HELLO_TIME)
    assert lowest() == 100  # the first that is old enough
    one.act(1, lambda port: port.transmit_pn(an, 900, one.now))
    one.run(limits.BOUNDED_HELLO_TIME)
    assert lowest() == 900


def test_without_delay_protection_nothing_is_raised():
    one = lan()
    one.run(1.0)
    for number in (100, 200, 300):
        one.act(1, lambda port, number=number: port.transmit_pn(0, number, one.now))
        one.run(2.0)
    assert not any(isinstance(item, RaiseLowestPn) for item in one.members[0].secy.log)


def test_a_member_that_comes_back_into_sight_is_not_heard_from_the_beginning():
    """Its receive SA begins where it said it is: recorded frames are no use."""
    one = lan(3)
    one.run(10.0)
    an = one.members[2].secy.encoding
    one.cut = lambda source, target: (source, target) == (2, 1)  # not the key server
    one.run(8.0)
    assert not any(sci == sci_of(2) for sci, _ in one.members[1].secy.receive)
    for number in (500, 600):
        one.act(2, lambda port, number=number: port.transmit_pn(an, number, one.now))
        one.run(limits.HELLO_TIME)
    one.cut = lambda source, target: False
    one.run(3.0)
    again = [item for item in one.members[1].secy.log if isinstance(item, InstallReceiveSa)]
    assert [item.receive.lowest_pn for item in again] == [500]
    assert one.one_sak()


# --- views ---------------------------------------------------------------------------------------


def test_a_view_shows_no_key():
    one = lan()
    one.run(5.0)
    view = one.members[1].port.view()
    assert view.saks[0].transmits
    assert view.participants[0].key_server == sci_of(0)
    assert view.participants[0].principal
    shown = repr(view) + repr(one.members[1].events)
    assert one.members[1].secy.sak.hex() not in shown
