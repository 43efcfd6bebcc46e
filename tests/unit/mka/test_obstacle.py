"""No SAK, although members hear each other: refused, unwilling, incapable. It is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.mka import limits
from gateway.mka.commands import InstallSas
from gateway.mka.events import KeyServerChanged, NoSakPossible, SakRefused
from gateway.mka.registry import Capability, CipherSuite, Confidentiality
from gateway.model import PortSecurity, PortState
from tests.support.mka_lan import Lan, Member, lan, settings_of


def obstacles(member: Member) -> list[str]:
    return [event.reason for event in member.saw(NoSakPossible)]


def test_nobody_wants_to_be_key_server():
    one = lan(change={"priority": limits.PRIORITY_NEVER})
    one.run(60.0)
    assert one.no_sak()
    assert not one.members[0].saw(KeyServerChanged)
    for member in one.members:
        assert obstacles(member) == ["nobody wants to be key server"]


@pytest.mark.parametrize("security", list(PortSecurity))
@pytest.mark.parametrize("unwilling", [0, 1])
def test_a_member_that_wants_no_macsec(security, unwilling):
    members = [replace(settings_of(index), security=security) for index in range(2)]
    members[unwilling] = replace(members[unwilling], macsec_desired=False)
    one = Lan(members)
    one.run(10.0)
    assert one.no_sak()
    must = security is PortSecurity.MUST_SECURE
    expected = PortState.BLOCKED if must else PortState.CLEAR
    assert {member.secy.port for member in one.members} == {expected}
    words = ["no member wants MACsec", "the key server wants no MACsec"]
    words[unwilling] = "this end does not want MACsec"
    assert [obstacles(member) for member in one.members] == [[word] for word in words]


def test_what_stands_in_the_way_is_told_once_and_again_after_it_was_gone():
    members = [settings_of(0), replace(settings_of(1), macsec_desired=False)]
    one = Lan(members)
    one.run(limits.LIFE_TIME - 0.1)
    assert not obstacles(one.members[0])  # it may pass
    one.run(100.0)
    assert obstacles(one.members[0]) == ["no member wants MACsec"]
    one.members[1].settings = settings_of(1)
    one.restart(1)
    one.run(10.0)
    assert one.one_sak()
    one.members[1].settings = members[1]
    one.restart(1)
    one.run(20.0)
    assert obstacles(one.members[0]) == ["no member wants MACsec"] * 2


def test_where_all_is_well_nothing_stands_in_the_way():
    for count in (1, 2, 4):
        one = lan(count, loss=0.2)
        one.run(60.0)
        assert not any(obstacles(member) for member in one.members)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({"confidentiality": Confidentiality.NONE}, "less than what is configured"),
        (
            {
                "suite": CipherSuite.GCM_AES_128,
                "accepted_suites": frozenset(CipherSuite),
            },
            "not accepted",
        ),
    ],
)
def test_a_key_server_that_offers_less_is_refused(server, words):
    one = Lan([replace(settings_of(0), **server), settings_of(1)])
    one.run(20.0)
    refused = one.members[1].saw(SakRefused)
    assert refused
    assert words in refused[0].reason
    assert one.members[1].secy.sak is None
    assert one.members[1].secy.port is PortState.BLOCKED
    assert obstacles(one.members[1]) == ["the key server gives no SAK that can be taken"]


@pytest.mark.parametrize("offset", [Confidentiality.OFFSET_30, Confidentiality.OFFSET_50])
def test_an_offset_that_the_secy_does_not_have_is_refused(offset):
    """Linux has none. A key server that passes over what we are capable of gets nowhere."""
    server = {"confidentiality": offset, "capability": Capability.CONFIDENTIALITY_OFFSETS}
    one = Lan([replace(settings_of(0), **server), settings_of(1)])
    one.members[0].port._agreed = lambda principal: offset
    one.run(20.0)
    refused = one.members[1].saw(SakRefused)
    assert {event.reason for event in refused} == {f"{offset.name} is beyond our capability"}
    assert one.members[1].secy.sak is None
    assert not any(isinstance(item, InstallSas) for item in one.members[1].secy.log)
    assert one.members[1].secy.port is PortState.BLOCKED
