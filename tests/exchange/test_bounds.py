"""What a peer, hostile or a stranger, can cost us at most; and that nothing it sends throws."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from gateway.ike import limits
from gateway.ike.commands import Done
from gateway.ike.config import PpkMode
from gateway.ike.events import DropReason, IkeRekeyed
from gateway.ike.flows import create_child, ike_auth
from gateway.ike.identity import Identity
from gateway.ike.message import encode_message, parse_header
from gateway.ike.outbox import Datagram
from gateway.ike.payloads import (
    DeletePayload,
    KePayload,
    NotifyPayload,
    TsPayload,
)
from gateway.ike.registry import ExchangeType as X
from gateway.ike.registry import KeMethod, NotifyType, ProtocolId
from gateway.ike.selectors import TrafficSelector
from gateway.model import Role
from tests.support.hostile_peer import (
    ESP_PLAIN,
    TO_SUN,
    child_request,
    drops,
    header_of,
    newest,
    send_as_moon,
)
from tests.support.ike_pair import MOON, SUN, Flight, Pair, no_fault

CHILD = X.CREATE_CHILD_SA


def answers(pair: Pair) -> list:
    """What sun answered last, opened with moon's keys."""
    data = [flight.data for flight in pair.sent if flight.sender == "sun"][-1]
    return list(newest(pair.moon).channel.open(data, parse_header(data)).payloads())


def notify_of(pair: Pair) -> int:
    return next(one.type for one in answers(pair) if isinstance(one, NotifyPayload))


# --- strangers -------------------------------------------------------------------------------


def test_a_wanted_method_of_any_length_is_only_refused():
    """Python refuses to print an integer of that size; the datagram must not throw."""

    def forge(flight: Flight) -> list[tuple[float, bytes]]:
        if flight.number != 1:
            return [(0.0, flight.data)]
        header = replace(flight.header, spi_r=bytes(8))
        notify = NotifyPayload(type=NotifyType.INVALID_KE_PAYLOAD, data=b"\xff" * 4000)
        return [(0.0, encode_message(header, [notify]))]

    pair = Pair(fault=forge).initiate()
    assert len(pair.moon.failures) == 1
    assert len(pair.moon.failures[0].reason) < 200


def spoofed(pair: Pair, count: int) -> None:
    """IKE_SA_INIT requests in moon's name from somebody who does not get the answers."""
    request = Pair(seed="stranger").initiate().sent[0].data
    pair.fault = lambda flight: []
    for number in range(count):
        data = b"spoofed" + bytes([number]) + request[8:]
        pair.inject(Datagram(data=data, **TO_SUN))
    pair.run()


def test_a_stranger_in_the_peers_name_does_not_lock_it_out():
    """Before an address has used up its half-open IKE SAs it must prove itself by a cookie."""
    pair = Pair()
    spoofed(pair, 40)
    pair.fault = lambda flight: [(0.0, flight.data)]
    pair.initiate()
    assert pair.moon.ups
    pair.run(40)
    pair.check_mirrored()
    pair.check_settled()


def test_a_flood_in_the_peers_name_leaves_it_its_cookie():
    """Cookies are not rationed: the answer is smaller than the question and keeps no state."""
    pair = Pair(cookie_threshold=0)
    spoofed(pair, 200)
    assert len(pair.sent) == 200
    pair.fault = lambda flight: [(0.0, flight.data)]
    pair.initiate()
    assert pair.moon.ups


def test_an_outdated_cookie_brings_a_new_one():
    """RFC 7296 2.6: a cookie that does not fit counts as none."""
    pair = Pair(cookie_threshold=0)

    def restart_sun(flight: Flight) -> list[tuple[float, bytes]]:
        if flight.number == 1:  # the cookie is on its way; sun forgets its secret
            pair.now += 0.1
            pair.crash(pair.sun)
        return [(0.0, flight.data)]

    pair.fault = restart_sun
    pair.initiate()
    assert drops(pair.sun)[DropReason.BAD_COOKIE] == 1
    assert pair.moon.ups
    pair.check_mirrored()


def test_failed_peers_are_not_remembered_without_end():
    pair = Pair(toy_kex=True, moon={"psk": b"guessed"})
    for _ in range(limits.ENDED_MAX + 20):
        pair.initiate(ppk=False)
    assert not pair.sun.facts.ike
    assert len(pair.sun.endpoint._sessions._by_spi) <= limits.ENDED_MAX
    assert len(pair.sun.endpoint._reception._known) <= limits.ENDED_MAX


def test_long_identity_makes_no_long_message():
    long = Identity(type=11, data=b"x" * 30000)
    pair = Pair(moon={"local_id": long}).initiate()
    assert len(pair.sun.failures[0].reason) < 400


# --- an authentic peer -----------------------------------------------------------------------


def many_selectors(third: int) -> tuple[TrafficSelector, ...]:
    """254 single addresses, none next to another, and a range that falls into 14 networks."""
    base = int(ip_address(f"10.{third}.0.0"))
    single = [
        TrafficSelector(start=ip_address(base + 2 * n), end=ip_address(base + 2 * n))
        for n in range(254)
    ]
    wide = TrafficSelector(
        start=ip_address(f"10.{third}.200.1"), end=ip_address(f"10.{third}.200.254")
    )
    return (*single, wide)


def test_traffic_in_many_pieces():
    wide = {"local_networks": (ip_network("10.2.0.0/16"),)}
    pair = Pair(sun={**wide, "remote_networks": (ip_network("10.1.0.0/16"),)}, esp=(ESP_PLAIN,))
    pair.initiate()
    child = pair.moon.ups[0].spi_in
    request = child_request(
        0xC1000000,
        child,
        tsi=TsPayload(initiator=True, selectors=many_selectors(1)),
        tsr=TsPayload(initiator=False, selectors=many_selectors(2)),
    )
    send_as_moon(pair, request, CHILD)
    made = newest(pair.sun).children[-1]
    assert made.spi_out == 0xC1000000
    assert len(made.local_networks) * len(made.remote_networks) <= 4096  # kernel policies


def test_initiator_takes_no_narrowing_to_a_protocol(monkeypatch):
    """Our policies are for whole networks: what the peer would drop we must not send."""
    original = ike_auth.traffic_payloads

    def tcp_only(traffic, role):
        payloads = original(traffic, role)
        if traffic.local != (ip_network("10.2.0.0/24"),):
            return payloads
        return [
            replace(one, selectors=tuple(replace(each, protocol=6) for each in one.selectors))
            for one in payloads
        ]

    monkeypatch.setattr(ike_auth, "traffic_payloads", tcp_only)
    pair = Pair().initiate()
    assert not pair.moon.ups
    assert pair.moon.failures[0].notify == "TS_UNACCEPTABLE"
    pair.run(60)
    pair.check_empty()


def test_child_after_child_without_a_delete():
    pair = Pair(esp=(ESP_PLAIN,)).initiate()
    last = pair.moon.ups[0].spi_in
    for number in range(20):
        send_as_moon(pair, child_request(0xC1000000 + number, last), CHILD)
        if newest(pair.sun).children[-1].spi_out == 0xC1000000 + number:
            last = 0xC1000000 + number
    assert len(newest(pair.sun).children) <= limits.CHILDREN_PER_TUNNEL_MAX
    assert notify_of(pair) == NotifyType.NO_ADDITIONAL_SAS
    assert not pair.sun.closed


def test_children_replaced_faster_than_they_linger():
    pair = Pair(toy_kex=True, report_inbound=True).initiate()
    pair.watch_traffic()
    for _ in range(40):
        pair.rekey()
    assert len(pair.sun.kernel.inbound()) <= limits.LINGERING_MAX + 1
    pair.run(6)
    pair.check_mirrored()


def test_exchanges_begun_and_never_finished():
    """Each reserves an SPI: a new one takes the place of the one before."""
    pair = Pair().initiate()
    lost = pair.moon.kernel.inbound()[0].sa_id
    pair.moon.endpoint.sa_expired(lost, hard=True, now=pair.now)
    pair.run(6)
    esp = "aes256gcm16-x25519-ke1_mlkem768-esn"
    for number in range(10):
        request = child_request(0xC1000000 + number, esp=esp)
        request.insert(2, KePayload(method=KeMethod.X25519, data=bytes([9]) + bytes(31)))
        send_as_moon(pair, request, CHILD)
    assert len(newest(pair.sun).pending) == 1
    assert len(pair.sun.kernel.reserved) == 1


def test_ike_sas_without_end(monkeypatch):
    """A peer that sets up one IKE SA after the other, deletes none, says nothing about it."""
    original = ike_auth._request_payloads

    def no_initial_contact(*args):
        kept = (one for one in original(*args) if not isinstance(one, NotifyPayload))
        return list(kept)

    monkeypatch.setattr(ike_auth, "_request_payloads", no_initial_contact)
    pair = Pair(toy_kex=True)
    for number in range(20):
        fresh = Pair(toy_kex=True, seed=f"again {number}")
        pair.moon.endpoint = fresh.moon.endpoint
        pair.moon.endpoint.initiate("net", ppk=None, now=pair.now)
        pair.run(0.1)
        assert len(pair.sun.facts.ike) == min(number + 1, limits.IKE_SAS_PER_PEER_MAX)
    assert pair.carries(pair.sun)


def test_childless_ike_sas_without_end():
    """IKE_AUTH that proves the peer and asks for traffic we do not have."""
    strange = (ip_network("10.99.0.0/24"),)
    pair = Pair(toy_kex=True)
    for number in range(20):
        fresh = Pair(toy_kex=True, seed=f"again {number}", moon={"remote_networks": strange})
        pair.moon.endpoint = fresh.moon.endpoint
        pair.moon.endpoint.initiate("net", ppk=None, now=pair.now)
        pair.fault = lambda flight: [] if flight.header.exchange == 37 else [(0.0, flight.data)]
        pair.run(0.1)
    assert len(pair.sun.facts.ike) <= limits.IKE_SAS_PER_PEER_MAX


def rekey_without_end(pair: Pair, *, pause: float, times: int) -> None:
    """moon rekeys the IKE SA over and over. Each request is the first use of the newest one."""
    for _ in range(times):
        pair.moon.endpoint.rekey_ike("net", ppk=None, now=pair.now)
        pair.run(pause)


def test_an_ike_sa_rekeyed_without_end():
    """A peer that rekeys and deletes nothing: what it leaves behind goes only after a while."""
    pair = Pair(toy_kex=True).initiate()
    pair.fault = lambda flight: [] if flight.header.exchange == 37 else [(0.0, flight.data)]
    rekey_without_end(pair, pause=0.1, times=20)
    assert len(pair.sun.facts.ike) == limits.IKE_SAS_PER_PEER_MAX
    assert "deletes none of those it has rekeyed" in pair.sun.failures[-1].reason
    pair.fault = no_fault
    pair.run(limits.REPLACED_GRACE + 30)
    pair.moon.endpoint.rekey_ike("net", ppk=None, now=pair.now)
    pair.run(1)
    assert [len(side.facts.ike) for side in pair.sides] == [1, 1]
    pair.check_mirrored()


def test_a_rekeyed_ike_sa_has_no_new_allowance():
    pair = Pair(toy_kex=True).initiate()
    rekey_without_end(pair, pause=0.0, times=int(limits.CHILD_REQUESTS_BURST) + 20)
    rekeyed = [one for one in pair.sun.events if isinstance(one, IkeRekeyed)]
    assert len(rekeyed) <= limits.CHILD_REQUESTS_BURST + 1
    pair.run(1)
    rekey_without_end(pair, pause=1.0, times=5)
    assert pair.carries(pair.moon)


def test_child_sas_deleted_early_without_end():
    """Deletes of SPIs that may stand in a response still to come, and never do."""
    pair = Pair(toy_kex=True).initiate()
    pair.fault = lambda flight: [] if flight.sender == "sun" else [(0.0, flight.data)]
    pair.sun.endpoint.rekey_child("net", ppk=None, now=pair.now)
    for number in range(20):
        spis = tuple((number << 16 | low + 256).to_bytes(4, "big") for low in range(200))
        send_as_moon(pair, [DeletePayload(protocol=ProtocolId.ESP, spis=spis)])
    assert 0 < len(newest(pair.sun).deleted_early) <= limits.DELETED_EARLY_MAX


def test_delete_that_names_a_child_many_times_is_answered_once():
    pair = Pair().initiate()
    spi = pair.moon.ups[0].spi_in.to_bytes(4, "big")
    send_as_moon(
        pair, [DeletePayload(protocol=ProtocolId.ESP, spis=(spi,) * 5000)] * 2, X(37), 1280
    )
    (answer,) = answers(pair)
    assert answer == DeletePayload(
        protocol=ProtocolId.ESP, spis=(pair.sun.ups[0].spi_in.to_bytes(4, "big"),)
    )


def test_nonce_too_short_for_the_prf():
    """RFC 7296 2.10: at least half the key size of the PRF, for every nonce."""
    pair = Pair(esp=(ESP_PLAIN,)).initiate()
    child = pair.moon.ups[0].spi_in
    send_as_moon(pair, child_request(0xC1000000, child, nonce=bytes(31)), CHILD)
    assert notify_of(pair) == NotifyType.INVALID_SYNTAX
    assert len(pair.sun.ups) == 1


def test_spi_that_is_in_use_already():
    """Deletes could not tell them apart, and the kernel knows an SA by address and SPI."""
    pair = Pair(esp=(ESP_PLAIN,)).initiate()
    child = pair.moon.ups[0].spi_in
    pair.watch_traffic()
    send_as_moon(pair, child_request(child, child), CHILD)
    assert notify_of(pair) == NotifyType.NO_PROPOSAL_CHOSEN
    pair.check_mirrored()


def test_sa_the_kernel_refused_is_not_taken_out():
    """Where another SA is in the way, it belongs to somebody else."""
    pair = Pair(esp=(ESP_PLAIN,)).initiate()
    child = pair.moon.ups[0].spi_in
    pair.sun.kernel.fail_install = "File exists"
    removed = []
    original = pair.sun.kernel.remove
    pair.sun.kernel.remove = lambda command: (removed.append(command), original(command))
    send_as_moon(pair, child_request(0xC1000000, child), CHILD)
    assert not any(one.spi == 0xC1000000 for each in removed for one in each.sa_ids)
    assert not pair.sun.kernel.reserved


def test_answer_we_cannot_use_leaves_no_child_at_the_peer(monkeypatch):
    """Else the next rekey of the same child would be refused for ever."""
    original = create_child.traffic_payloads

    def cut(traffic, role):
        payloads = original(traffic, role)
        return payloads[:-1] if role is Role.RESPONDER else payloads

    monkeypatch.setattr(create_child, "traffic_payloads", cut)
    pair = Pair(esp=(ESP_PLAIN,)).initiate().rekey()
    assert pair.moon.failures[0].notify == "INVALID_SYNTAX"
    monkeypatch.setattr(create_child, "traffic_payloads", original)
    pair.run(6)
    pair.check_mirrored()
    pair.rekey()
    assert len(pair.moon.ups) == 2
    pair.check_settled()


def test_response_of_another_exchange():
    pair = Pair().initiate()
    pair.rekey()
    pair.fault = lambda flight: []
    pair.rekey()
    sa = newest(pair.sun)
    header = replace(
        header_of(pair),
        initiator=False,
        response=True,
        message_id=newest(pair.moon).requests.next_id,
    )
    (data,) = sa.channel.seal(header, [], fragment_size=None, ip_version=4)
    pair.inject(Datagram(data=data, local=(SUN, 500), remote=(MOON, 500)))
    pair.run()
    assert drops(pair.moon)[DropReason.UNEXPECTED_EXCHANGE] == 1
    assert newest(pair.moon).requests.busy


# --- the end of an IKE SA --------------------------------------------------------------------


def test_no_child_comes_up_after_close():
    """The Delete and the peer's IKE_FOLLOWUP_KE cross: traffic stays stopped."""
    pair = Pair(fault=lambda flight: [(0.05, flight.data)]).initiate()
    pair.run(1)
    pair.rekey()
    pair.run(0.12)  # CREATE_CHILD_SA is answered
    assert newest(pair.sun).pending
    pair.sun.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    ups = len(pair.sun.ups)
    for _ in range(40):
        pair.run(0.01)
        assert not pair.sun.kernel.sas
        assert not pair.sun.kernel.reserved
    assert len(pair.sun.ups) == ups
    pair.run(60)
    pair.check_empty()
    pair.check_settled()


def test_a_half_open_ike_sa_goes_when_its_initiator_says_so():
    """Else five attempts that policy ends would lock the initiator out for half a minute."""
    pair = Pair(moon={"ppk": PpkMode.REQUIRE})
    for _ in range(8):
        pair.moon.endpoint.initiate("net", ppk=pair.key(at_peer=None), now=pair.now)
        pair.run()
        assert pair.moon.failures[-1].ppk_missing
        assert not pair.sun.facts.ike
    assert not drops(pair.sun)
    pair.check_settled()


def test_child_deleted_by_the_peer_while_the_kernel_refuses_it():
    pair = Pair().initiate()
    held = []
    original = pair.moon.carry_out

    def hold(command, now):
        if type(command).__name__ == "ActivateOutbound":
            held.append(command)
        else:
            original(command, now)

    pair.moon.carry_out = hold
    pair.rekey()
    new = newest(pair.sun).children[-1]
    pair.sun.endpoint.sa_expired(new.inbound, hard=True, now=pair.now)
    pair.run(20)  # the command is given up
    assert pair.moon.failures
    pair.check_settled()


def test_traffic_goes_back_where_its_new_child_went_away():
    """The peer deletes the child while the kernel moves our traffic to it."""
    pair = Pair().initiate()
    held = []
    original = pair.moon.carry_out

    def hold(command, now):
        if type(command).__name__ == "ActivateOutbound":
            held.append(command)
        else:
            original(command, now)

    pair.moon.carry_out = hold
    pair.rekey()
    new = newest(pair.sun).children[-1]
    pair.sun.endpoint.sa_expired(new.inbound, hard=True, now=pair.now)
    pair.run()
    pair.moon.carry_out = original
    pair.moon.kernel.leads["net"] = new.inbound  # where the kernel has moved it
    pair.moon.endpoint.answer(Done(token=held[0].token), pair.now)
    pair.run()
    assert pair.carries(pair.moon)


def test_traffic_goes_back_where_the_ike_sa_of_its_new_child_ends():
    """The IKE SA is over while the kernel, which keeps our order, has yet to move our traffic."""
    pair = Pair(toy_kex=True).initiate()
    held = []
    original = pair.moon.carry_out

    def hold(command, now):
        if held or type(command).__name__ == "ActivateOutbound":
            held.append(command)
        else:
            original(command, now)

    pair.moon.carry_out = hold
    pair.initiate()  # a second IKE SA, whose child is to take over
    pair.moon.endpoint._sessions.all()[-1].fail("cut short", pair.now)
    pair.run()
    pair.moon.carry_out = original
    for command in held:
        original(command, pair.now)
    pair.run()
    assert pair.carries(pair.moon)
