"""How often: an authentic peer that never stops, strangers that fail on purpose, keys burned."""

from __future__ import annotations

import pytest

from gateway.ike import limits
from gateway.ike.environment import FetchLimit
from gateway.ike.events import DropReason
from gateway.ike.fragments import FragmentMemory
from gateway.ike.payloads import UnknownPayload
from gateway.ike.registry import ExchangeType as X
from gateway.ike.registry import NotifyType
from tests.support.hostile_peer import child_request, drops, newest, send_as_moon
from tests.support.ike_pair import MOON, SUN, Pair, no_fault


def answered(pair: Pair) -> list[int]:
    """The notifies in sun's last answer, opened by moon."""
    flight = pair.sent[-1]
    inner = newest(pair.moon).channel.open(flight.data, flight.header)
    return [one.type for one in inner.payloads() if hasattr(one, "type")]


def test_create_child_sa_has_a_rate_of_its_own():
    """Each costs a key exchange; too many get TEMPORARY_FAILURE, and no work is done for them."""
    pair = Pair().initiate()
    refused = 0
    for number in range(int(limits.CHILD_REQUESTS_BURST) + 10):
        send_as_moon(pair, child_request(0xC1000000 + number), X.CREATE_CHILD_SA)
        refused += answered(pair) == [NotifyType.TEMPORARY_FAILURE]
    assert refused == 10
    pair.run(1)
    send_as_moon(pair, child_request(0xC2000000), X.CREATE_CHILD_SA)
    assert answered(pair) == [NotifyType.NO_ADDITIONAL_SAS]  # looked at again
    pair.check_mirrored()


def test_the_rate_is_the_ike_sas_own():
    pair = Pair().initiate()
    for _ in range(int(limits.PEER_REQUESTS_BURST) + 50):
        send_as_moon(pair, [])
    assert drops(pair.sun)[DropReason.RATE_LIMIT]
    pair.initiate()  # another IKE SA of the same tunnel
    assert len(pair.sun.established) == 2


def test_a_tunnel_that_rekeys_at_its_floor_never_meets_the_limit():
    pair = Pair(toy_kex=True, report_inbound=True).initiate()
    pair.watch_traffic()
    for number in range(60):
        pair.rekey(side=pair.sides[number % 2])
        pair.run(1)
    assert not any(drops(side) for side in pair.sides)
    assert all(len(side.ups) == 61 for side in pair.sides)


def test_strangers_that_fail_on_purpose_are_counted_and_not_all_told():
    pair = Pair(moon={"psk": b"not the pre-shared key at all"})
    for _ in range(40):
        pair.initiate(ppk=False)
        pair.run(0.5)
    told = [one for one in pair.sun.failures if one.what == "respond"]
    assert len(told) <= limits.STRANGER_FAILURES_BURST + 20 * limits.STRANGER_FAILURES_PER_SECOND
    assert len(told) + drops(pair.sun)[DropReason.RATE_LIMIT] == 40


def test_key_look_ups_for_strangers_have_a_rate():
    fetches = FetchLimit()
    granted = 0
    for _ in range(100):
        if fetches.admit(MOON, "net", 1000.0):
            granted += 1
            fetches.release(MOON, "net")
    assert granted == limits.PPK_FETCHES_BURST
    assert fetches.admit(MOON, "other", 1000.0)
    assert fetches.admit(MOON, "net", 1000.0 + 1 / limits.PPK_FETCHES_PER_SECOND)


def test_a_man_in_the_middle_who_replays_and_alters_intermediate_burns_no_second_key():
    """Every copy of the request is absorbed; a changed one never gets as far as the KME."""

    def fault(flight):
        if flight.header.exchange != X.IKE_INTERMEDIATE or flight.header.response:
            return no_fault(flight)
        changed = bytearray(flight.data)
        changed[-1] ^= 1
        copies = [(0.01 * n, flight.data) for n in range(20)]
        return [(0.0, bytes(changed)), *copies, (0.3, bytes(changed))]

    pair = Pair(fault=fault).initiate()
    pair.run(5)
    assert len(pair.sun.fetches) == 1
    pair.check_mirrored()
    pair.check_settled()


def test_fragments_share_one_memory():
    memory = FragmentMemory()
    share, other = memory.share(MOON), memory.share(SUN)
    half = limits.REASSEMBLY_PER_SOURCE_MAX // 2
    assert share.take(half)
    assert share.take(half)
    assert not share.take(1)
    assert other.take(1)  # another address has its own
    share.give_back(half)
    assert share.take(1)


@pytest.mark.parametrize("end", ["rest", "close", "next"])
def test_fragments_are_given_back(end):
    pair = Pair().initiate()
    memory = pair.sun.endpoint._env.fragments
    sa = newest(pair.moon)
    payload = UnknownPayload(type=200, data=bytes(3000))
    before = pair.fault
    send = []
    pair.inject = lambda datagram, delay=0.0, real=pair.inject: (
        send.append(datagram) if len(send) < 1 and datagram.local[0] == MOON
        else real(datagram, delay)
    )  # fmt: skip
    send_as_moon(pair, [payload], fragment_size=576)
    assert memory.total > 0
    pair.fault = before
    match end:
        case "rest":
            pair.inject(send[0])
            pair.run()
        case "close":
            pair.sun.endpoint.close("net", reason="terminated by the operator", now=pair.now)
            pair.run(60)
        case "next":
            send_as_moon(pair, [], fragment_size=576)
            send_as_moon(pair, [UnknownPayload(type=200, data=bytes(600))], fragment_size=576)
    assert memory.total == 0
    assert sa.channel is not None
