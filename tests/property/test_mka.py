"""Members of one LAN, whatever happens to frames and members: one SAK in the end, or none.

What must hold all the while (no AN taken twice, no packet numbers begun anew under a SAK, no
storm) is asserted by the LAN itself.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mka.events import PortChanged
from gateway.mka.participant import Participant
from gateway.mka.peers import Peers
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.mka.settings import PortSettings
from gateway.model import PortState
from tests.support.mka_lan import CKN, Lan, lan, settings_of
from tests.support.mka_schedules import QUIET, Schedule

FEW = settings(max_examples=15, deadline=None, derandomize=True)


ONCE_FAILED = ("b/1360", "c/531", "c/1141", "c/1172", "d/977")


@pytest.mark.parametrize("seed", [*(f"fixed/{number}" for number in range(25)), *ONCE_FAILED])
def test_members_end_with_one_sak(seed):
    """More of them, and fresh ones: python -m tests.support.mka_schedules 1000."""
    Schedule.draw(seed).play()


@pytest.mark.parametrize(
    ("owner", "name", "fault", "found"),
    [
        (Participant, "used_up", property(lambda self: False), "too big to convert"),
        (Participant, "renew", lambda self, reason, now: None, "too big to convert"),
        (Peers, "expire", lambda self, now: [], "a storm"),
    ],
)
def test_a_fault_put_in_is_found(monkeypatch, owner, name, fault, found):
    """The negative twin."""
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises((AssertionError, OverflowError), match=found):
        play(30)


def play(count: int) -> None:
    for number in range(count):
        Schedule.draw(f"fixed/{number}").play()


@FEW
@given(count=st.integers(2, 4), seed=st.integers(0, 2**32), loss=st.sampled_from([0.0, 0.3]))
def test_nobody_who_can_hear_nobody_keeps_a_sak(count, seed, loss):
    one = lan(count, seed=seed, loss=loss)
    one.run(20.0)
    one.cut = lambda source, target: True
    one.run(QUIET)
    assert one.no_sak()
    assert {member.secy.port for member in one.members} == {PortState.BLOCKED}


@FEW
@given(count=st.integers(2, 4), seed=st.integers(0, 2**32), staggered=st.floats(0.0, 8.0))
def test_a_cak_rollover_ends_with_one_sak_under_the_new_one(count, seed, staggered):
    one = lan(count, seed=seed)
    one.run(10.0)
    assert one.one_sak()
    broken = []
    one.watch = lambda: None if one.hears_all() else broken.append(one.now)
    for index in range(count):
        one.at(index * staggered, lambda index=index: one.add_cak(index, 2, b"second"))
    one.run(count * staggered + QUIET)
    assert one.one_sak()
    assert not broken  # every frame on the way found its SA
    for member in one.members:
        assert [item.ckn for item in member.port.view().participants] == [b"second"]


@FEW
@given(count=st.integers(2, 4), seed=st.integers(0, 2**32), rekeys=st.integers(1, 4))
def test_no_frame_is_lost_in_a_sak_rollover(count, seed, rekeys):
    one = lan(count, seed=seed)
    one.run(10.0)
    first, broken = one.saks(), []
    one.watch = lambda: None if one.hears_all() else broken.append(one.now)
    for number in range(rekeys):
        one.at(12.0 * number, lambda: one.act(0, lambda port: port.request_sak("asked", one.now)))
    one.run(12.0 * rekeys + QUIET)
    assert not broken
    assert one.one_sak()
    assert one.saks() != first


@FEW
@given(count=st.integers(2, 4), seed=st.integers(0, 2**32), who=st.integers(0, 3))
def test_no_frame_is_lost_where_a_daemon_is_restarted_and_its_kernel_is_not(count, seed, who):
    one = lan(count, seed=seed)
    one.run(12.0)
    first, broken = one.saks(), []
    one.watch = lambda: None if one.hears_all() else broken.append(one.now)
    one.restart(who % count, keep=True)
    one.run(QUIET)
    assert not broken
    assert [event.state for event in one.members[who % count].saw(PortChanged)] == [
        PortState.SECURED  # all the time
    ]
    assert one.one_sak()
    assert one.saks() != first


@pytest.mark.parametrize("other", ["cak", "ckn"])
@given(count=st.integers(2, 4), seed=st.integers(0, 2**32), loss=st.sampled_from([0.0, 0.3]))
@settings(max_examples=5, deadline=None, derandomize=True)
def test_who_has_another_key_has_no_part(other, count, seed, loss):
    """The negative twin: the last member's CAK, or only its name, is another."""
    one = lan(count, seed=seed, loss=loss)
    stranger = settings_of(count)
    key = (2, CKN) if other == "cak" else (1, b"other")
    one.members.append(one._member(stranger, [key]))
    one._begin(count)
    one.run(25.0)
    assert one.members[count].secy.sak is None
    one.stop(count)
    one.loss = 0.0
    one.run(QUIET)
    assert one.one_sak()
    assert not any(stranger.sci == sci for member in one.members for sci, _ in member.secy.receive)


@FEW
@given(seed=st.integers(0, 2**32), levels=st.permutations(list(Confidentiality)))
def test_no_member_is_given_less_than_it_wants(seed, levels):
    """Each wants another level: whoever has a SAK has one at least as good."""
    members = []
    for index, level in enumerate(levels[:3]):
        one = settings_of(index)
        suite = CipherSuite.GCM_AES_256
        members.append(strict(one, level, suite))
    one = Lan(members, seed=seed)
    one.run(QUIET)
    for member in one.members:
        for sak in member.port.view().saks:
            wanted = member.settings.confidentiality
            assert wanted is Confidentiality.NONE or (
                sak.confidentiality is not Confidentiality.NONE and sak.confidentiality <= wanted
            )


def strict(one: PortSettings, level: Confidentiality, suite: CipherSuite) -> PortSettings:
    return replace(one, confidentiality=level, capability=level.needs, suite=suite)
