"""CREATE_CHILD_SA and IKE_FOLLOWUP_KE: a child in place of another, without losing a packet."""

from __future__ import annotations

import pytest

from gateway.ike.config import PpkMode
from gateway.ike.events import PpkNotUsed
from gateway.ike.flow import ExchangeError
from gateway.ike.flows import followup_ke
from gateway.ike.registry import ExchangeType as X
from gateway.model import PpkMethod, Protection, Role
from tests.support.ike_pair import Flight, Pair

NEW_CHILD = [X.CREATE_CHILD_SA, X.IKE_FOLLOWUP_KE, X.INFORMATIONAL]


def new_exchanges(pair: Pair, sender: str = "moon") -> list[int]:
    return list(pair.exchanges(sender))[4 if sender == "moon" else 0 :]


def test_rekey_with_fresh_ppk_and_ml_kem():
    pair = Pair().initiate()
    pair.watch_traffic()
    old = {side.name: side.ups[0].spi_in for side in pair.sides}
    # CREATE_CHILD_SA  SK{N(REKEY_SA), SA, Ni, KE(X25519), N(PPK_IDENTITY_KEY), TSi, TSr} -->
    #     <-- SK{SA, Nr, KE(X25519), N(PPK_IDENTITY), TSi, TSr, N(ADDITIONAL_KEY_EXCHANGE)}
    # IKE_FOLLOWUP_KE  SK{KE(ML-KEM-768), N(ADDITIONAL_KEY_EXCHANGE)} -->
    #                                                            <-- SK{KE(ML-KEM-768)}
    # INFORMATIONAL    SK{D(old)} -->                            <-- SK{D(old)}
    pair.rekey()
    assert new_exchanges(pair) == NEW_CHILD
    for side in pair.sides:
        first, second = side.ups
        assert second.replaces == first.spi_in == old[side.name]
        assert second.mixed.protection is Protection.HYBRID
        assert second.mixed.ppk_method is PpkMethod.CREATE_CHILD
        assert second.mixed.key_id == pair.moon.handed[1]
        (down,) = [event for event in side.events if type(event).__name__ == "ChildDown"]
        assert down.rekeyed
        assert down.spi_in == old[side.name]
    # the old inbound halves linger for packets in flight
    assert all(len(side.kernel.inbound()) == 2 for side in pair.sides)
    assert all(len(side.kernel.outbounds()) == 1 for side in pair.sides)
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_the_fresh_key_is_for_this_child_only():
    """SK_d stays: a rekey without a key after one with a key still fits on both sides."""
    pair = Pair().initiate().rekey().rekey(ppk=False).rekey()
    kinds = [up.mixed.protection for up in pair.sun.ups]
    assert kinds == [
        Protection.HYBRID,
        Protection.HYBRID,
        Protection.PQC_ONLY,
        Protection.HYBRID,
    ]
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_rekey_by_the_original_responder():
    pair = Pair().initiate()
    pair.watch_traffic()
    pair.rekey(side=pair.sun)
    assert list(pair.exchanges("sun")) == NEW_CHILD
    assert pair.sun.ups[1].role is Role.INITIATOR
    assert pair.moon.ups[1].role is Role.RESPONDER
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


@pytest.mark.parametrize("esp", ["aes256gcm16-esn", "aes256gcm16-x25519-esn"])
def test_rekey_without_additional_key_exchange(esp):
    pair = Pair(esp=(esp,)).initiate()
    pair.watch_traffic()
    pair.rekey()
    assert new_exchanges(pair) == [X.CREATE_CHILD_SA, X.INFORMATIONAL]
    # The IKE SA's ML-KEM reaches the child through SK_d.
    assert "ML-KEM-768" in pair.sun.ups[1].mixed.key_exchanges
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_rekey_with_two_additional_key_exchanges():
    pair = Pair(esp=("aes256gcm16-x25519-ke1_mlkem768-ke2_mlkem1024-esn",)).initiate()
    pair.watch_traffic()
    pair.rekey()
    assert new_exchanges(pair) == [
        X.CREATE_CHILD_SA,
        X.IKE_FOLLOWUP_KE,
        X.IKE_FOLLOWUP_KE,
        X.INFORMATIONAL,
    ]
    assert pair.sun.ups[1].mixed.key_exchanges == ("X25519", "ML-KEM-768", "ML-KEM-1024")
    pair.run(6)
    pair.check_mirrored()


def test_responder_wants_another_key_exchange():
    both = "aes256gcm16-x25519-ecp384-esn"
    pair = Pair(moon={"esp": (both,)}, sun={"esp": ("aes256gcm16-ecp384-esn",)}).initiate()
    pair.watch_traffic()
    # CREATE_CHILD_SA SK{..., KE(X25519)} --> <-- SK{N(INVALID_KE_PAYLOAD)}
    # CREATE_CHILD_SA SK{..., KE(P-384)}  --> <-- SK{..., KE(P-384)}
    pair.rekey()
    assert new_exchanges(pair)[:2] == [X.CREATE_CHILD_SA, X.CREATE_CHILD_SA]
    assert len(pair.moon.ups) == 2
    assert len(pair.sun.fetches) == 2  # the key is asked for once per use, not per try
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_traffic_moves_at_the_first_packet_if_the_delete_is_slow():
    def slow_delete(flight: Flight) -> list[tuple[float, bytes]]:
        late = flight.header.exchange == X.INFORMATIONAL and flight.number > 8
        return [(0.7 if late else 0.0, flight.data)]

    pair = Pair(report_inbound=True).initiate()
    pair.fault = slow_delete
    pair.watch_traffic()
    pair.rekey()
    assert len(pair.sun.ups) == 2  # before the Delete is there
    assert len(pair.sun.kernel.outbounds()) == 2
    pair.run(6)
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


# --- keys that one side lacks ----------------------------------------------------------------


def rekey_with(pair: Pair, key: object) -> None:
    pair.moon.endpoint.rekey_child("net", ppk=key, now=pair.now)
    pair.run()


@pytest.mark.parametrize("at_peer", [None, bytes(32)], ids=["missing", "differs"])
def test_key_not_at_responder_preferred(at_peer):
    pair = Pair().initiate()
    pair.watch_traffic()
    rekey_with(pair, pair.key(at_peer=at_peer))
    assert pair.moon.ups[1].mixed.protection is Protection.PQC_ONLY
    assert any(isinstance(event, PpkNotUsed) for event in pair.sun.events)
    assert not pair.moon.settled[1].used
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


@pytest.mark.parametrize("esp", ["aes256gcm16-x25519-esn", "aes256gcm16-x25519-ke1_mlkem768-esn"])
@pytest.mark.parametrize("strict", ["moon", "sun"])
@pytest.mark.parametrize("at_peer", [None, bytes(32)], ids=["missing", "differs"])
def test_key_not_at_responder_required(at_peer, strict, esp):
    pair = Pair(esp=(esp,), **{strict: {"ppk": PpkMode.REQUIRE}}).initiate()
    pair.watch_traffic()
    rekey_with(pair, pair.key(at_peer=at_peer))
    (failure,) = pair.moon.failures
    assert failure.what == "rekey"
    assert failure.ppk_missing
    assert len(pair.moon.ups) == len(pair.sun.ups) == 1
    pair.run(40)
    pair.check_mirrored()  # what ran keeps running
    pair.check_settled()


def test_responder_requires_and_initiator_offers_none():
    pair = Pair(sun={"ppk": PpkMode.REQUIRE}).initiate()
    pair.rekey(ppk=False)
    assert pair.sun.failures[0].ppk_missing
    assert pair.moon.failures[0].ppk_missing
    pair.check_mirrored()


def test_initiator_requires_and_has_none():
    pair = Pair(moon={"ppk": PpkMode.REQUIRE}).initiate()
    before = len(pair.sent)
    pair.rekey(ppk=False)
    assert pair.moon.failures[0].ppk_missing
    assert len(pair.sent) == before


def test_responder_switched_off():
    pair = Pair().initiate()
    pair.sun.endpoint.set_ppk_mode("net", PpkMode.OFF, pair.now)
    pair.rekey()
    assert pair.moon.ups[1].mixed.protection is Protection.PQC_ONLY
    assert len(pair.sun.fetches) == 1
    pair.check_settled()
    pair.sun.kme.clear()
    pair.sun.endpoint.set_ppk_mode("net", PpkMode.PREFER, pair.now)
    pair.rekey()
    assert pair.moon.ups[2].mixed.protection is Protection.HYBRID


def test_back_to_hybrid_after_beginning_without_a_key():
    pair = Pair().initiate(ppk=False)
    pair.rekey()
    assert [up.mixed.protection for up in pair.sun.ups] == [
        Protection.PQC_ONLY,
        Protection.HYBRID,
    ]


def test_slow_key_is_waited_for_and_repetitions_absorbed():
    pair = Pair().initiate()
    pair.sun.hold_fetches = True
    pair.watch_traffic()
    pair.rekey()
    pair.run(4)
    assert len(pair.sun.fetches) == 2
    assert any(getattr(event, "reason", "") == "duplicate-pending" for event in pair.sun.events)
    pair.sun.deliver_key(pair.sun.fetches[1], pair.now)
    pair.run()
    assert pair.moon.ups[1].mixed.protection is Protection.HYBRID
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_key_that_comes_too_late_is_burned():
    pair = Pair().initiate()
    pair.sun.hold_fetches = True
    pair.rekey()
    pair.run(11)
    assert pair.moon.ups[1].mixed.protection is Protection.PQC_ONLY
    pair.sun.deliver_key(pair.sun.fetches[1], pair.now)
    pair.run()
    assert pair.sun.settled[-1].reason == "came too late"
    pair.check_settled()


def test_peer_of_another_vendor_gets_the_key_in_a_new_ike_sa(foreign_peer):
    pair = Pair().initiate()
    pair.watch_traffic()
    pair.rekey()
    assert new_exchanges(pair)[:3] == [X.IKE_SA_INIT, X.IKE_INTERMEDIATE, X.IKE_AUTH]
    assert pair.moon.ups[1].mixed.ppk_method is PpkMethod.INTERMEDIATE
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()
    assert all(len(side.facts.ike) == 1 for side in pair.sides)


def test_peer_of_another_vendor_that_lacks_the_key_fails_the_rekey_that_was_asked_for(
    foreign_peer,
):
    """By way of a new IKE SA, and still a rekey: policy waits for the end of one."""
    pair = Pair(ppk=PpkMode.REQUIRE).initiate()
    pair.watch_traffic()
    key = pair.key(at_peer=None)
    pair.moon.endpoint.rekey_child("net", ppk=key, now=pair.now)
    pair.run(3)
    assert [failure.what for failure in pair.moon.failures] == ["rekey"]
    assert len(pair.moon.ups) == 1
    pair.check_mirrored()


def test_peer_of_another_vendor_without_a_key(foreign_peer):
    pair = Pair().initiate()
    pair.rekey(ppk=False)
    assert new_exchanges(pair) == NEW_CHILD
    assert pair.moon.ups[1].mixed.key_id is None


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [0.02, 0.07, 0.12, 0.17, 0.22, 0.27])
def test_peer_deletes_the_child_we_are_rekeying(moment):
    """RFC 7296 2.25.1: the Delete is answered; the new child may still come up, or may not."""
    pair = Pair(fault=lambda flight: [(0.05, flight.data)]).initiate()
    pair.run(1)
    pair.rekey()
    pair.run(moment)
    lost = pair.sun.ups[0].spi_in
    sa_id = next(one.sa_id for one in pair.sun.kernel.inbound() if one.spi == lost)
    pair.sun.endpoint.sa_expired(sa_id, hard=True, now=pair.now)
    pair.run(60)
    pair.check_settled()
    assert not any(side.closed for side in pair.sides)
    if pair.moon.facts.children:
        pair.check_mirrored()
    else:
        pair.check_empty()
        assert pair.moon.failures


def test_peer_that_begins_its_rekey_anew_gives_up_the_first(monkeypatch):
    pair = Pair().initiate()
    original = followup_ke.initiate

    def lose_interest(sa, own, opened, specs):
        yield from ()
        raise ExchangeError("lost interest")

    monkeypatch.setattr(followup_ke, "initiate", lose_interest)
    pair.rekey()
    assert len(pair.sun.kernel.reserved) == 1
    monkeypatch.setattr(followup_ke, "initiate", original)
    pair.rekey()
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_rekey_under_way_is_not_doubled():
    pair = Pair(fault=lambda flight: [(0.05, flight.data)]).initiate()
    pair.run(1)
    pair.rekey()
    pair.rekey()
    pair.run(6)
    assert [one.reason for one in pair.moon.failures] == ["a rekey is under way already"]
    assert len(pair.moon.ups) == 2
    pair.check_mirrored()
    pair.check_settled()


def test_rekey_without_an_ike_sa():
    pair = Pair().rekey()
    assert pair.moon.failures[0].reason == "there is no IKE SA"
    pair.check_settled()


@pytest.mark.parametrize("fault", ["fail_allocate", "fail_install", "fail_activate"])
@pytest.mark.parametrize("name", ["moon", "sun"])
def test_kernel_that_refuses_a_new_child(name, fault):
    pair = Pair().initiate()
    pair.watch_traffic()
    kernel = (pair.moon if name == "moon" else pair.sun).kernel
    setattr(kernel, fault, "No buffer space available")
    if (name, fault) == ("sun", "fail_activate"):
        return  # see the next test
    pair.rekey()
    (failure,) = [one for one in pair.moon.failures if one.what == "rekey"]
    assert "No buffer" in failure.reason or failure.notify == "TEMPORARY_FAILURE"
    pair.run(40)
    pair.check_mirrored()
    pair.check_settled()
    setattr(kernel, fault, "")
    pair.rekey()
    pair.run(6)
    pair.check_mirrored()


def test_responder_that_cannot_move_its_traffic_says_so():
    pair = Pair().initiate()
    pair.sun.kernel.fail_activate = "No buffer space available"
    pair.rekey()
    assert "No buffer space" in pair.sun.failures[0].reason
    assert len(pair.moon.ups) == 2


def test_followup_that_does_not_come():
    def no_followup(flight: Flight) -> list[tuple[float, bytes]]:
        return [] if flight.header.exchange == X.IKE_FOLLOWUP_KE else [(0.0, flight.data)]

    pair = Pair(fault=no_followup).initiate()
    pair.rekey()
    assert pair.sun.kernel.reserved
    pair.run(31)
    assert not pair.sun.kernel.reserved
    pair.check_settled_at(pair.sun)


def test_followup_after_the_responder_forgot():
    def late(flight: Flight) -> list[tuple[float, bytes]]:
        followup = flight.header.exchange == X.IKE_FOLLOWUP_KE and not flight.header.response
        return [(0.0 if not followup or pair.now > 1031 else 40.0, flight.data)]

    from gateway.ike.config import Timing

    timing = Timing(retransmit_base=100, liveness_interval=1000)
    pair = Pair(timing=timing)
    pair.initiate()
    pair.fault = late
    pair.rekey()
    pair.run(41)
    (failure,) = pair.moon.failures
    assert failure.notify == "STATE_NOT_FOUND"
    pair.run(6)
    pair.check_mirrored()
    pair.check_settled()


def test_new_child_in_an_ike_sa_that_has_lost_its_own():
    pair = Pair().initiate()
    lost = pair.moon.kernel.inbound()[0].sa_id
    pair.moon.endpoint.sa_expired(lost, hard=True, now=pair.now)
    pair.run(6)
    pair.check_empty()
    assert not pair.moon.closed
    pair.rekey()
    assert len(pair.moon.ups) == 2
    assert pair.moon.ups[1].replaces is None
    pair.check_mirrored()
    pair.check_settled()


def test_soft_expiry_is_for_policy():
    pair = Pair().initiate()
    sa_id = pair.moon.kernel.inbound()[0].sa_id
    pair.moon.endpoint.sa_expired(sa_id, hard=False, now=pair.now)
    pair.run()
    pair.check_mirrored()


def test_rekey_of_a_child_the_peer_does_not_know():
    pair = Pair().initiate()
    pair.sun.endpoint._tunnels["net"].peering.sessions[0].sa.children[0].spi_out ^= 1
    pair.rekey()
    assert pair.moon.failures[0].notify == "CHILD_SA_NOT_FOUND"
    pair.check_settled()


def test_a_hundred_rekeys_from_both_sides():
    pair = Pair(toy_kex=True, report_inbound=True).initiate()
    pair.watch_traffic()
    for number in range(100):
        pair.rekey(side=pair.sides[number % 2], ppk=number % 3 > 0)
        pair.run(1)
    pair.run(6)
    assert all(len(side.ups) == 101 for side in pair.sides)
    pair.check_mirrored()
    pair.check_settled()
