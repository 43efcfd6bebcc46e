"""Several CAKs on one port: which is used, which goes."""

from __future__ import annotations

import pytest

from gateway.mka import limits
from gateway.mka.events import CakRetired, SakInUse, SakMade
from gateway.mka.port import Port
from gateway.model import PortState
from tests.support.mka_lan import CKN, SeededRng, cak, lan, settings_of


def test_a_new_cak_is_in_use_within_two_seconds():
    one = lan()
    one.run(15.0)
    for index in range(2):
        one.add_cak(index, 2, b"second")
    one.run(2.0)
    assert one.one_sak()
    for member in one.members:
        assert member.saw(SakInUse)[-1].ckn == b"second"
    one.run(5.0)
    for member in one.members:
        assert [event.ckn for event in member.saw(CakRetired)] == [CKN]
        assert member.secy.port is PortState.SECURED


@pytest.mark.parametrize("gap", [0.0, 0.1, 0.2, 0.25, 0.35, 0.5, 1.0, 2.0, 4.0])
def test_so_it_is_where_another_rollover_is_under_way(gap):
    """No frame is lost by the hurry."""
    one = lan(3)
    one.run(15.0)
    broken = []
    one.watch = lambda: None if one.hears_all() else broken.append(one.now)
    for number, wait in ((2, gap), (3, 2.0)):
        for index in range(3):
            one.add_cak(index, number, b"%d" % number)
        one.run(wait)
    assert {member.saw(SakInUse)[-1].ckn for member in one.members} == {b"3"}
    one.run(10.0)
    assert not broken
    assert one.one_sak()


def test_a_cak_that_one_member_lacks_does_not_cut_it_off():
    one = lan(3)
    one.run(15.0)
    for index in range(2):
        one.add_cak(index, 2, b"second")
    one.run(20.0)
    assert one.one_sak()
    assert one.members[0].saw(SakInUse)[-1].ckn == CKN
    one.add_cak(2, 2, b"second")
    one.run(3.0)
    assert one.one_sak()
    assert one.members[0].saw(SakInUse)[-1].ckn == b"second"


def test_association_numbers_are_those_of_the_port_not_of_the_cak():
    one = lan()
    one.run(15.0)
    for index in range(2):
        one.add_cak(index, 2, b"second")
    one.run(10.0)
    assert [event.an for event in one.members[0].saw(SakMade)] == [0, 1]


def test_caks_of_one_port():
    port = Port(settings_of(0), rng=SeededRng(1))
    for number in range(limits.PARTICIPANTS_MAX):
        port.add_cak(cak(number, bytes((number, 1))), 0.0)
    port.remove_cak(b"unknown", "no such", 0.0)
    with pytest.raises(ValueError, match="already"):
        port.add_cak(cak(1, bytes((1, 1))), 0.0)
    gone = port._participants[bytes((0, 1))]._cak.key
    port.add_cak(cak(9, b"x"), 0.0)  # one too many: the oldest goes
    assert [item.ckn for item in port.view().participants] == [b"\1\1", b"\2\1", b"\3\1", b"x"]
    assert gone.wiped
    port.remove_cak(b"\1\1", "old", 0.0)
    assert [event.ckn for event in port.take_events() if isinstance(event, CakRetired)] == [
        b"\0\1",
        b"\1\1",
    ]


@pytest.mark.parametrize("every", [0.3, 2.0, 4.0])
@pytest.mark.parametrize("behind", [0.0, 0.2])
def test_caks_that_come_faster_than_they_can_be_used(every, behind):
    """What is in use stays until a newer one takes its place, and no frame is lost."""
    one = lan()
    one.run(10.0)
    broken = []
    one.watch = lambda: None if one.hears_all() else broken.append(one.now)
    for number in range(2, 22):
        for index in range(2):
            one.at(
                number * every + index * behind,
                lambda index=index, number=number: one.add_cak(index, number, b"%d" % number),
            )
    one.run(22 * every)
    assert not broken
    assert len({event.ckn for event in one.members[0].saw(SakInUse)}) > 22 * every // 8
    one.run(10.0)
    assert one.one_sak()
    for member in one.members:
        assert [item.ckn for item in member.port.view().participants] == [b"21"]
        assert len(member.port.view().participants) <= limits.PARTICIPANTS_MAX


def test_one_end_gives_up_the_old_cak_before_the_other_has_the_new_one():
    """Blocked at once here, there when the peer is gone; secured when both have the new one."""
    one = lan()
    one.run(10.0)
    one.add_cak(0, 2, b"second")
    one.act(0, lambda port: port.remove_cak(CKN, "blocked", one.now))
    assert one.members[0].secy.port is PortState.BLOCKED
    assert not one.members[0].secy.transmit
    one.run(limits.LIFE_TIME + 0.1)
    assert one.members[1].secy.port is PortState.BLOCKED
    one.run(20.0)
    assert one.no_sak()
    one.add_cak(1, 2, b"second")
    one.run(3.0)
    assert one.one_sak()
    assert one.members[1].saw(SakInUse)[-1].ckn == b"second"
    one.run(5.0)
    assert [item.ckn for item in one.members[1].port.view().participants] == [b"second"]


def test_a_removed_cak_is_wiped_and_its_saks_go():
    one = lan()
    one.run(5.0)
    key = next(iter(one.members[0].port._participants.values()))._cak.key
    one.act(0, lambda port: port.close("stopped", one.now))
    assert key.wiped
    assert not one.members[0].secy.transmit
    assert one.members[0].secy.port is PortState.BLOCKED
    assert one.members[0].port.next_deadline() is None
