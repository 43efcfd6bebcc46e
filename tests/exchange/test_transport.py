"""USE_TRANSPORT_MODE (RFC 7296 1.3.1): asked for, agreed to, declined, and not through a NAT."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.ike.events import PeerPortChanged
from gateway.model import EspMode
from tests.support.ike_pair import MOON, SUN, Pair

HOSTS = {"moon": ip_network(f"{MOON}/32"), "sun": ip_network(f"{SUN}/32")}
TRANSPORT, TUNNEL = EspMode.TRANSPORT, EspMode.TUNNEL


def pair(moon: EspMode = TRANSPORT, sun: EspMode = TRANSPORT) -> Pair:
    ours = {"local_networks": (HOSTS["moon"],), "remote_networks": (HOSTS["sun"],)}
    theirs = {"local_networks": (HOSTS["sun"],), "remote_networks": (HOSTS["moon"],)}
    return Pair(moon={**ours, "esp_mode": moon}, sun={**theirs, "esp_mode": sun})


def modes(both: Pair) -> set[EspMode]:
    """Of what is in the kernels and of what the cores believe."""
    installed = {sa.mode for side in both.sides for sa in side.kernel.sas.values()}
    believed = {child.mode for side in both.sides for child in side.endpoint.views()[0].children}
    assert installed == believed
    return believed


def test_both_want_it():
    both = pair().initiate()
    assert modes(both) == {TRANSPORT}
    both.check_mirrored()


def test_a_rekey_stays_in_the_mode():
    both = pair().initiate()
    both.run(1)
    both.rekey()
    both.run(30)
    assert modes(both) == {TRANSPORT}
    both.check_mirrored()


@pytest.mark.parametrize(("moon", "sun"), [(TRANSPORT, TUNNEL), (TUNNEL, TRANSPORT)])
def test_where_one_does_not_it_is_tunnel_mode(moon: EspMode, sun: EspMode):
    both = pair(moon, sun).initiate()
    assert modes(both) == {TUNNEL}
    both.check_mirrored()
    both.rekey()
    both.run(30)
    assert modes(both) == {TUNNEL}


@pytest.mark.parametrize(("moon", "refuses"), [(TRANSPORT, "moon"), (TUNNEL, "sun")])
def test_neither_end_takes_it_through_a_nat(moon: EspMode, refuses: str):
    both = pair(moon)

    def nat(sender, source, destination):
        # moon sits behind a NAT that keeps its address and changes its ports
        if sender == "moon":
            return (source[0], source[1] + 60000), destination
        return source, (destination[0], destination[1] % 60000)

    both.nat = nat
    both.initiate()
    both.run(60)
    assert not both.moon.kernel.sas
    assert not both.sun.kernel.sas
    failures = getattr(both, refuses).failures
    assert "there is a NAT on the path" in failures[0].reason


def test_a_nat_that_appears_later_changes_nothing_in_the_sas():
    """A NAT is looked for in IKE_SA_INIT alone (RFC 7296 2.23); after that nobody is followed."""
    both = pair().initiate()
    both.run(1)
    before = [dict(side.kernel.sas) for side in both.sides]

    def nat(sender, source, destination):
        if sender == "moon":
            return (source[0], source[1] + 60000), destination
        return source, (destination[0], destination[1] % 60000)

    both.nat = nat
    for side in both.sides:
        for sa_id in before[both.sides.index(side)]:
            side.endpoint.peer_moved(sa_id, (side.connection.remote_address, 60500), both.now)
    both.run(40)  # liveness checks go through, with answers to where they came from
    assert not any(side.closed or side.of(PeerPortChanged) for side in both.sides)
    assert [side.kernel.sas for side in both.sides] == before
    # but the next IKE SA is told of it
    both.moon.endpoint.close("net", reason="operator", now=both.now)
    both.run(5)
    both.initiate()
    both.run(30)
    assert "there is a NAT on the path" in both.moon.failures[0].reason
    both.check_empty()
