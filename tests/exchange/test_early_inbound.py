"""The responder may send through the new SA as soon as it has answered IKE_AUTH.

Its packets overtake the answer. With a QKD key in the SA the initiator can receive them: the
inbound SA is in its kernel before the request goes out, by a guess.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.ike import attempt
from gateway.ike.commands import InstallInbound
from gateway.ike.config import PpkMode
from gateway.ike.flows import ike_auth
from gateway.ike.registry import ExchangeType as X
from gateway.ike.tunnel import Tunnel
from gateway.model import PpkMethod, Protection
from tests.support.ike_pair import Flight, Pair, no_fault

HANDSHAKE = 8  # datagrams: four exchanges
ESP_TWO = ("aes256gcm16-esn", "aes256gcm16-noesn")


@pytest.fixture
def hasty_peer(monkeypatch, foreign_peer):
    """Another vendor's: as responder it moves its traffic before its answer is on the way."""
    original = Tunnel.stand_in
    monkeypatch.setattr(
        Tunnel, "stand_in", lambda self, *leaving: None if leaving else original(self)
    )


def running(**options) -> Pair:
    """A tunnel that carries traffic both ways, and everything takes 50 ms."""
    pair = Pair(toy_kex=True, **options).initiate()
    pair.fault = lambda flight: [(0.05, flight.data)]
    pair.moon.kernel.guesses = pair.moon.kernel.replaced = 0
    return pair


def test_packets_that_overtake_the_answer_find_an_sa(hasty_peer, rfc8784_only):
    pair = running()
    pair.watch_traffic()
    pair.rekey()
    pair.run(10)
    assert pair.moon.ups[1].mixed.ppk_method is PpkMethod.AUTH
    assert (pair.moon.kernel.guesses, pair.moon.kernel.replaced) == (1, 0)
    pair.check_mirrored()
    pair.check_settled()


def test_the_same_with_the_key_in_ike_intermediate(hasty_peer):
    pair = running(ppk=PpkMode.REQUIRE)
    pair.watch_traffic()
    pair.rekey()
    pair.run(10)
    assert pair.moon.ups[1].mixed.ppk_method is PpkMethod.INTERMEDIATE
    assert (pair.moon.kernel.guesses, pair.moon.kernel.replaced) == (1, 0)
    pair.check_mirrored()


def test_without_it_they_would_be_lost(hasty_peer, rfc8784_only, monkeypatch):
    """The negative twin."""
    monkeypatch.setattr(ike_auth, "_receives_early", lambda *_: False)
    pair = running()
    pair.watch_traffic()
    pair.rekey()
    with pytest.raises(AssertionError, match="sun's packets are lost"):
        pair.run(10)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("number", range(HANDSHAKE + 2))
def test_loss_and_delay_of_every_flight(number, late, hasty_peer, rfc8784_only):
    pair = Pair(toy_kex=True).initiate()
    first = len(pair.sent)

    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        if flight.number != first + number:
            return [(0.05, flight.data)]
        return [(3.0, flight.data)] if late else []

    pair.fault = fault
    pair.watch_traffic()
    pair.rekey()
    pair.run(60)
    assert [up.mixed.protection for up in pair.moon.ups] == [Protection.HYBRID] * 2
    assert pair.moon.kernel.replaced == 0
    pair.check_mirrored()
    pair.check_settled()


# --- a wrong guess ---------------------------------------------------------------------------


def test_peer_that_declines_the_key(hasty_peer, rfc8784_only):
    pair = running()
    key = pair.key(at_peer=None)
    pair.moon.endpoint.rekey_child("net", ppk=key, now=pair.now)
    pair.run(10)
    assert pair.moon.ups[1].mixed.protection is Protection.PQC_ONLY
    assert (pair.moon.kernel.guesses, pair.moon.kernel.replaced) == (1, 1)
    pair.check_mirrored()
    pair.check_settled()


def test_peer_that_takes_the_second_proposal_and_is_known_for_it_then(hasty_peer):
    """Without ESN: the key is the same, the SA is not."""
    pair = Pair(toy_kex=True, moon={"esp": ESP_TWO}, sun={"esp": ESP_TWO[1:]}).initiate()
    assert not pair.moon.ups[0].esn
    assert (pair.moon.kernel.guesses, pair.moon.kernel.replaced) == (1, 1)
    pair.check_mirrored()
    pair.watch_traffic()
    pair.rekey()
    pair.run(10)
    assert (pair.moon.kernel.guesses, pair.moon.kernel.replaced) == (2, 1)
    pair.check_mirrored()


@pytest.mark.parametrize("what", ["fail_early", "fail_install"])
def test_kernel_that_refuses(what, hasty_peer):
    pair = running()
    setattr(pair.moon.kernel, what, "no memory")
    pair.rekey()
    pair.run(2)
    setattr(pair.moon.kernel, what, "")
    pair.run(60)
    assert "no memory" in pair.moon.failures[0].reason
    assert not pair.moon.kernel.early
    assert not pair.moon.facts.early
    pair.check_settled()


# --- nothing is left -------------------------------------------------------------------------


def test_peer_that_lacks_the_key_we_insist_on(foreign_peer, rfc8784_only):
    pair = running(ppk=PpkMode.REQUIRE)
    pair.watch_traffic()
    key = pair.key(at_peer=None)
    pair.moon.endpoint.rekey_child("net", ppk=key, now=pair.now)
    pair.run(60)
    assert pair.moon.kernel.guesses == 1
    assert pair.moon.failures
    pair.check_mirrored()
    pair.check_settled()


def test_answer_that_never_comes(foreign_peer):
    pair = running()
    first = len(pair.sent)
    pair.fault = lambda flight: (
        [] if flight.number > first and flight.header.exchange == X.IKE_AUTH else no_fault(flight)
    )
    pair.watch_traffic()
    pair.rekey()
    pair.run(0.5)
    assert pair.moon.facts.early == tuple(pair.moon.kernel.early)
    assert len(pair.moon.kernel.early) == 1
    pair.run(100)
    assert not pair.moon.facts.early
    assert pair.moon.failures
    pair.check_mirrored()
    pair.check_settled()


def test_closed_while_the_kernel_is_at_work(foreign_peer, monkeypatch):
    """Its late answer finds nobody: what it put in is taken out."""
    pair = running()
    held: list[InstallInbound] = []
    original = pair.moon.carry_out

    def carry_out(command, now):
        if isinstance(command, InstallInbound):
            held.append(command)
        else:
            original(command, now)

    monkeypatch.setattr(pair.moon, "carry_out", carry_out)
    pair.rekey()
    pair.run(0.5)
    (command,) = held
    pair.moon.kernel.reserved.add(command.inbound.sa_id)
    pair.moon.endpoint.close("net", reason="enough", now=pair.now)
    pair.run(1)
    pair.moon.kernel.reserved.add(command.inbound.sa_id)
    original(command, pair.now)
    pair.run(60)
    pair.check_empty()
    assert not pair.moon.facts.early


# --- where it is not done --------------------------------------------------------------------


def test_not_without_a_qkd_key(foreign_peer):
    """Somebody in the middle has all other keys until AUTH is checked."""
    pair = running()
    pair.initiate(ppk=False)
    pair.run(10)
    assert len(pair.moon.ups) == 2
    assert pair.moon.kernel.guesses == 0


def test_not_with_a_qsgw_gateway():
    """It waits for our word before it moves its traffic."""
    pair = running()
    pair.watch_traffic()
    pair.initiate()
    pair.run(10)
    assert len(pair.moon.ups) == 2
    assert pair.moon.kernel.guesses == 0


def test_not_where_something_is_missing_on_the_way(monkeypatch, foreign_peer):
    pair = running()
    monkeypatch.setattr(
        type(pair.moon.endpoint._peerings["net"].watch), "missing", lambda *_: ("Vendor ID",)
    )
    pair.initiate()
    pair.run(10)
    assert len(pair.moon.ups) == 2
    assert pair.moon.kernel.guesses == 0


def test_peer_that_moves_to_another_port_is_no_other_sa(foreign_peer):
    """Only the UDP ports differ then: the SA that is there stays, and its replay window."""
    pair = running(sun={"force_encap": True})
    seen = []
    original = attempt.ChildAttempt._guessed_wrong

    def moved(self, inbound):
        ports = replace(inbound.encap, source_port=4711)
        seen.append(original(self, replace(inbound, encap=ports)))
        return original(self, inbound)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt.ChildAttempt, "_guessed_wrong", moved)
        pair.initiate()
        pair.run(10)
    assert seen[0] is False
    pair.check_mirrored()
