"""NAT between the gateways: ports, ESP in UDP, keepalives, and a mapping that changes."""

from __future__ import annotations

import itertools
from ipaddress import ip_address

import pytest

from gateway.ike import limits
from gateway.ike.events import Dropped, PeerPortChanged
from gateway.ike.outbox import KEEPALIVE, Datagram
from gateway.ike.registry import ExchangeType as X
from gateway.model import SaId
from tests.support.hostile_peer import header_of, inject, newest
from tests.support.ike_pair import MOON, SUN, Pair, Side, no_fault

AN_HOUR = 3600


class Nat:
    """In front of moon. Its outside address is moon's own, which spares a second address.

    What comes to a port without a mapping is lost.
    """

    def __init__(self, pair: Pair) -> None:
        self.shift = 57000
        pair.nat = self

    def __call__(self, sender, source, destination):
        if sender == "moon":
            return (source[0], source[1] + self.shift), destination
        inside = destination[1] - self.shift
        if inside in (500, 4500):
            return source, (destination[0], inside)
        return source, (ip_address("203.0.113.1"), destination[1])

    def flush(self) -> None:
        """Every mapping gets another port."""
        self.shift += 1000

    @property
    def port(self) -> int:
        """moon's port 4500 as sun sees it."""
        return self.shift + 4500


def natted(**options) -> tuple[Pair, Nat]:
    pair = Pair(**options)
    nat = Nat(pair)
    pair.initiate()
    pair.check_mirrored()
    return pair, nat


def peer_ports(side: Side) -> set[int]:
    """The peer's ports in every SA the kernel of this side has."""
    return {spec.encap.source_port for spec in side.kernel.inbound()} | {
        spec.encap.destination_port for spec in side.kernel.outbounds()
    }


def esp_arrives(pair: Pair, nat: Nat) -> None:
    """A packet of moon's reaches sun's kernel, which tells of a port it does not expect."""
    for spec in pair.sun.kernel.inbound():
        if spec.encap is not None and spec.encap.source_port != nat.port:
            pair.sun.endpoint.peer_moved(spec.sa_id, (MOON, nat.port), pair.now)
    pair.run()


# --- ports and encapsulation -----------------------------------------------------------------


def test_nat_moves_both_to_4500_and_wraps_esp_in_udp():
    pair, nat = natted()
    assert pair.moon.established[0].nat
    assert pair.sun.established[0].nat
    # IKE_SA_INIT on 500, everything after it on 4500 (RFC 7296 2.23)
    assert pair.moon.facts.ike[0].local == (MOON, 4500)
    assert pair.sun.facts.ike[0].remote == (MOON, nat.port)
    (inbound,) = pair.sun.kernel.inbound()
    (outbound,) = pair.sun.kernel.outbounds()
    assert (inbound.encap.source_port, inbound.encap.destination_port) == (nat.port, 4500)
    assert (outbound.encap.source_port, outbound.encap.destination_port) == (4500, nat.port)
    pair.rekey()
    assert len(pair.sun.ups) == 2
    pair.run(6)
    pair.check_mirrored()
    assert peer_ports(pair.sun) == {nat.port}


def test_without_nat_no_encapsulation_and_no_keepalive():
    pair = Pair().initiate()
    assert all(spec.encap is None for side in pair.sides for spec in side.kernel.sas.values())
    pair.run(AN_HOUR)
    assert not any(side.keepalives for side in pair.sides)


@pytest.mark.parametrize("nat_port_first", [False, True])
@pytest.mark.parametrize("forced", [(), ("moon",), ("sun",), ("moon", "sun")])
def test_encapsulation_by_force(forced, nat_port_first):
    """Both ends wrap ESP in UDP where one says so; without a NAT nobody needs keepalives."""
    pair = Pair(
        moon={"force_encap": "moon" in forced}, sun={"force_encap": "sun" in forced},
        nat_port_first=nat_port_first,
    )  # fmt: skip
    pair.initiate()
    pair.check_mirrored()
    for side in pair.sides:
        wrapped = {spec.encap is not None for spec in side.kernel.sas.values()}
        assert wrapped == {bool(forced)}
        port = 4500 if forced or nat_port_first else 500
        ike = side.facts.ike[0]
        assert (ike.local[1], ike.remote[1], ike.nat) == (port, port, bool(forced))
    pair.run(AN_HOUR)
    assert not any(side.keepalives for side in pair.sides)


def test_all_on_4500_from_the_first_message_on():
    pair, nat = natted(nat_port_first=True)
    assert pair.sun.facts.ike[0].remote == (MOON, nat.port)
    assert peer_ports(pair.sun) == {nat.port}


def test_only_ports_move():
    """A peer that proves who it is cannot point our ESP at somebody else's address."""
    pair = Pair()
    elsewhere = ip_address("203.0.113.9")

    def nat(sender, source, destination):
        # moon's messages after the first come from an address that is not the tunnel's
        if sender == "moon" and len(pair.sent) > 2:
            return (elsewhere, source[1]), destination
        return source, (MOON if destination[0] == elsewhere else destination[0], destination[1])

    pair.nat = nat
    pair.initiate()
    assert pair.sun.established
    assert pair.sun.facts.ike[0].remote == (MOON, 500)
    assert {spec.destination for spec in pair.sun.kernel.outbounds()} == {MOON}
    pair.rekey(side=pair.sun)
    assert len(pair.sun.ups) == 2
    assert {spec.destination for spec in pair.sun.kernel.outbounds()} == {MOON}


# --- keepalives ------------------------------------------------------------------------------


def test_keepalives_only_from_behind_the_nat_and_only_in_silence():
    pair, _ = natted()
    begin = pair.now
    pair.run(limits.LIVENESS_INTERVAL - 1)
    (first,) = pair.moon.keepalives
    assert first[0] - begin == pytest.approx(limits.NAT_KEEPALIVE_INTERVAL)
    assert (first[1].local, first[1].remote) == ((MOON, 4500), (SUN, 4500))
    pair.run(AN_HOUR)
    sent = sorted(
        [when for when, _ in pair.moon.keepalives]
        # liveness checks are IKE messages, and serve as well
        + [begin + n * limits.LIVENESS_INTERVAL for n in range(1, 121)]
    )
    gaps = [after - before for before, after in itertools.pairwise(sent)]
    assert max(gaps) <= limits.NAT_KEEPALIVE_INTERVAL + 1
    assert not pair.sun.keepalives


def test_a_received_keepalive_says_nothing():
    pair, nat = natted()
    pair.fault = lambda flight: []  # liveness fails: keepalives are no sign of life
    before = len(pair.sun.events)
    pair.inject(Datagram(data=KEEPALIVE, local=(MOON, 4500), remote=(SUN, 4500)))
    nat.flush()
    pair.inject(Datagram(data=KEEPALIVE, local=(MOON, 4500), remote=(SUN, 4500)))
    pair.run()
    assert len(pair.sun.events) == before
    assert pair.sun.facts.ike[0].remote == (MOON, nat.port - 1000)
    pair.run(200)
    assert pair.sun.closed[0].peer_lost
    assert not [event for event in pair.sun.events if isinstance(event, Dropped)]


def test_keepalives_end_with_the_ike_sa():
    pair, _ = natted()
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(5)
    assert pair.moon.closed
    pair.moon.keepalives.clear()
    pair.run(AN_HOUR)
    assert not pair.moon.keepalives


def test_a_responder_behind_a_nat_spares_strangers():
    """An address that only claims to begin gets an answer and no keepalives."""
    pair = Pair()
    pair.nat = lambda sender, source, destination: (
        (source, (SUN, destination[1])) if sender == "moon" else ((SUN, 4500), destination)
    )
    pair.fault = lambda flight: no_fault(flight) if flight.header.exchange == X.IKE_SA_INIT else []
    pair.initiate()
    pair.run(limits.HALF_OPEN_TIMEOUT - 1)
    assert pair.sun.facts.ike
    assert not pair.sun.keepalives


# --- a mapping that changes ------------------------------------------------------------------


@pytest.mark.parametrize("by", ["esp", "ike"])
def test_a_peer_is_followed_to_its_new_port(by):
    pair, nat = natted()
    nat.flush()
    if by == "esp":
        esp_arrives(pair, nat)
    else:
        pair.run(limits.LIVENESS_INTERVAL + 1)
    assert pair.sun.facts.ike[0].remote == (MOON, nat.port)
    assert peer_ports(pair.sun) == {nat.port}
    assert [e.port for e in pair.sun.events if isinstance(e, PeerPortChanged)] == [nat.port]
    assert peer_ports(pair.moon) == {4500}
    pair.rekey(side=pair.sun)
    assert len(pair.moon.ups) == 2
    assert not pair.sun.closed


def test_sun_speaks_first_after_a_flush():
    """Its request is lost; the first authentic packet of moon's tells where to repeat it."""
    pair, nat = natted()
    nat.flush()
    pair.sun.endpoint.rekey_child("net", ppk=pair.key(pair.sun), now=pair.now)
    pair.run()
    assert len(pair.sun.ups) == 1
    esp_arrives(pair, nat)
    pair.run(3)
    assert len(pair.sun.ups) == 2
    assert peer_ports(pair.sun) == {nat.port}


def test_every_child_follows_the_one_that_lingers_too():
    pair, nat = natted()
    pair.rekey()
    assert len(pair.sun.kernel.inbound()) == 2
    nat.flush()
    esp_arrives(pair, nat)
    assert peer_ports(pair.sun) == {nat.port}


def test_a_flush_in_the_middle_of_a_rekey():
    """The SAs were on their way into the kernel with the old port."""
    pair, nat = natted()

    def fault(flight):
        if flight.sender == "moon" and flight.header.exchange == X.IKE_FOLLOWUP_KE:
            nat.flush()
        return no_fault(flight)

    pair.fault = fault
    pair.rekey()
    assert len(pair.sun.ups) == 2
    assert peer_ports(pair.sun) == {nat.port}


def test_a_flush_before_the_new_ike_sa_is_used():
    """moon rekeys the IKE SA, its Delete of the old one is lost, then its NAT forgets."""
    pair, nat = natted()
    pair.fault = lambda flight: (
        [] if flight.header.exchange == X.INFORMATIONAL else no_fault(flight)
    )
    pair.moon.endpoint.rekey_ike("net", ppk=None, now=pair.now)
    pair.run()
    nat.flush()
    header = header_of(pair)
    (alive,) = newest(pair.moon).channel.seal(header, [], fragment_size=None, ip_version=4)
    pair.inject(Datagram(data=alive, local=(MOON, 4500), remote=(SUN, 4500)))
    pair.run()
    assert newest(pair.sun).remote == (MOON, nat.port)
    assert peer_ports(pair.sun) == {nat.port}


def test_who_is_not_followed():
    pair, nat = natted()
    (spec,) = pair.sun.kernel.inbound()
    before = pair.sun.facts.ike[0].remote
    # another address
    pair.sun.endpoint.peer_moved(spec.sa_id, (ip_address("203.0.113.9"), 4500), pair.now)
    # an SA that is not there
    pair.sun.endpoint.peer_moved(SaId(SUN, 1), (MOON, 1234), pair.now)
    # by a side that is behind the NAT itself
    (ours,) = pair.moon.kernel.inbound()
    pair.moon.endpoint.peer_moved(ours.sa_id, (SUN, 1234), pair.now)
    # a message that is not fresh, or not authentic
    old = [
        flight.data
        for flight in pair.sent
        if flight.sender == "moon" and flight.header.exchange != X.IKE_SA_INIT
    ]
    nat.flush()
    for data in old:
        for bad in (data, data[:-1] + bytes((data[-1] ^ 1,))):
            pair.inject(Datagram(data=bad, local=(MOON, 4500), remote=(SUN, 4500)))
    pair.run()
    assert pair.sun.facts.ike[0].remote == before
    assert pair.moon.facts.ike[0].remote == (SUN, 4500)
    assert peer_ports(pair.sun) == {before[1]}
    assert peer_ports(pair.moon) == {4500}


def test_without_nat_nobody_is_followed():
    pair = Pair().initiate()
    (spec,) = pair.sun.kernel.inbound()
    pair.sun.endpoint.peer_moved(spec.sa_id, (MOON, 1234), pair.now)
    inject(pair, b"")
    pair.run(limits.LIVENESS_INTERVAL + 1)
    assert pair.sun.facts.ike[0].remote == (MOON, 500)
    assert all(spec.encap is None for spec in pair.sun.kernel.sas.values())
