"""Key server election (9.5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.mka.election import elect
from gateway.mka.identifiers import MemberId, Sci
from gateway.mka.peers import Peer
from tests.support.mka_lan import sci_of
from tests.unit.mka.test_mkpdu import BASIC

OWN = MemberId(b"\xff" * 12)


def peer(number: int, priority: int, *, key_server: bool = True) -> Peer:
    mi = MemberId(bytes((number,)) * 12)
    basic = replace(BASIC, priority=priority, key_server=key_server, sci=sci_of(number), mi=mi)
    return Peer(basic=basic, live=True, heard_at=0.0, expires_at=6.0)


@pytest.mark.parametrize(
    ("own", "peers", "elected"),
    [
        (16, [], None),  # nobody to be key server for
        (16, [(1, 32)], "own"),
        (32, [(1, 16)], 1),
        (16, [(1, 16)], "own"),  # equal: our SCI is the lower
        (48, [(1, 32), (2, 16), (3, 32)], 2),
        (48, [(2, 16), (1, 16)], 1),
        (255, [(1, 255)], None),  # nobody wants to
        (255, [(1, 254)], 1),
        (254, [(1, 255)], "own"),
    ],
)
def test_lowest_priority_then_lowest_sci(own, peers, elected):
    live = [peer(number, priority) for number, priority in peers]
    expected = OWN if elected == "own" else elected and MemberId(bytes((elected,)) * 12)
    assert elect(OWN, own, sci_of(0), live) == expected
    assert elect(OWN, own, sci_of(0), live[::-1]) == expected


def test_a_peer_that_chose_another_is_no_candidate():
    assert elect(OWN, 32, sci_of(0), [peer(1, 16, key_server=False)]) == OWN


def test_the_port_number_is_part_of_the_sci():
    assert Sci(BASIC.sci.mac, 1) < Sci(BASIC.sci.mac, 2) < sci_of(1)
