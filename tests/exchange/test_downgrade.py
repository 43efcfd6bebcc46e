"""Somebody on the way takes something out of IKE_SA_INIT, or changes it.

AUTH covers both messages, so nothing comes up, or what was taken out was not needed. One table:
what is done x in which message x policy; what must come out, and what the operator is told.
docs/ikev2.md has the same table in words; tests/lab/test_downgrade.py does it on a real wire.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from gateway.ike import limits
from gateway.ike.config import PpkMode
from gateway.ike.events import DowngradeSuspected, DowngradeSuspicionOver
from gateway.ike.flows.sa_init import VENDOR_ID
from gateway.ike.message import decode_message, encode_message
from gateway.ike.payloads import KePayload, NotifyPayload, Payload, SaPayload, VendorIdPayload
from gateway.ike.registry import ADDITIONAL_KE_TYPES, KeMethod, NotifyType, TransformType
from gateway.ike.registry import ExchangeType as X
from tests.support.certificates import Pki, judge
from tests.support.ike_pair import IKE_HYBRID, Flight, Pair, no_fault

Change = Callable[[list[Payload]], list[Payload]]

# Two proposals, so that there is something weaker to be led to.
BOTH = (IKE_HYBRID, "aes128gcm16-prfsha256-ecp256-ke1_mlkem768")
WEAKER_TOO = (*BOTH, "aes256gcm16-prfsha512-x25519")


def without(*kinds: NotifyType) -> Change:
    return lambda payloads: [
        one for one in payloads if not (isinstance(one, NotifyPayload) and one.type in kinds)
    ]


def without_vendor_id(payloads: list[Payload]) -> list[Payload]:
    return [one for one in payloads if not isinstance(one, VendorIdPayload)]


def proposals(change: Callable[[SaPayload], SaPayload]) -> Change:
    return lambda payloads: [change(one) if isinstance(one, SaPayload) else one for one in payloads]


def no_additional(sa: SaPayload) -> SaPayload:
    return SaPayload(
        proposals=tuple(
            replace(
                each,
                transforms=tuple(t for t in each.transforms if t.type not in ADDITIONAL_KE_TYPES),
            )
            for each in sa.proposals
        )
    )


def only_last(sa: SaPayload) -> SaPayload:
    return SaPayload(proposals=(replace(sa.proposals[-1], number=1),))


def swapped(sa: SaPayload) -> SaPayload:
    """The proposals' contents change places under their numbers."""
    contents = [each.transforms for each in sa.proposals][::-1]
    return SaPayload(
        proposals=tuple(
            replace(each, transforms=inside)
            for each, inside in zip(sa.proposals, contents, strict=True)
        )
    )


def short_keys(sa: SaPayload) -> SaPayload:
    return SaPayload(
        proposals=tuple(
            replace(
                each,
                transforms=tuple(
                    replace(t, key_length=128) if t.type == TransformType.ENCR else t
                    for t in each.transforms
                ),
            )
            for each in sa.proposals
        )
    )


def other_ke(payloads: list[Payload]) -> list[Payload]:
    return [
        KePayload(method=KeMethod.SECP256R1, data=bytes(64)) if isinstance(one, KePayload) else one
        for one in payloads
    ]


def other_nat_hash(payloads: list[Payload]) -> list[Payload]:
    return [
        replace(one, data=bytes(20))
        if isinstance(one, NotifyPayload) and one.type == NotifyType.NAT_DETECTION_SOURCE_IP
        else one
        for one in payloads
    ]


def with_cookie(payloads: list[Payload]) -> list[Payload]:
    return [NotifyPayload(type=NotifyType.COOKIE, data=b"not asked for"), *payloads]


PPK = (NotifyType.USE_PPK_INT, NotifyType.USE_PPK)
NAT = (NotifyType.NAT_DETECTION_SOURCE_IP, NotifyType.NAT_DETECTION_DESTINATION_IP)
INTERMEDIATE = NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED
FRAGMENTATION = NotifyType.IKEV2_FRAGMENTATION_SUPPORTED


@dataclass(frozen=True)
class Row:
    """``named``: what the operator reads, with a peer that is known; empty: nothing is missing."""

    name: str
    change: Change
    named: tuple[str, ...]  # taken out of a request, read at the responder
    named_response: tuple[str, ...] | None = None  # out of a response; None: the same


ROWS = (
    Row("USE_PPK_INT", without(NotifyType.USE_PPK_INT), ("USE_PPK_INT",)),
    Row("USE_PPK", without(NotifyType.USE_PPK), ()),
    Row("both PPK notifies", without(*PPK), ("USE_PPK_INT",)),
    Row("INTERMEDIATE", without(INTERMEDIATE), ("INTERMEDIATE_EXCHANGE_SUPPORTED",)),
    Row("FRAGMENTATION", without(FRAGMENTATION), ("IKEV2_FRAGMENTATION_SUPPORTED",)),
    Row("Vendor ID", without_vendor_id, ("Vendor ID",)),
    Row("NAT_DETECTION", without(*NAT), tuple(sorted(kind.name for kind in NAT))),
    Row("NAT hash changed", other_nat_hash, ()),
    Row("ADDKE transforms", proposals(no_additional), ("ML-KEM-768",)),
    Row("proposals cut", proposals(only_last), ("AES_GCM_16-256",), ()),
    Row("proposals swapped", proposals(swapped), (), ()),
    Row("keys shortened", proposals(short_keys), ("AES_GCM_16-256",)),
    Row("KE method", other_ke, ()),
    Row("COOKIE put in", with_cookie, ()),
)
HARMLESS = {("USE_PPK", True), ("proposals cut", True), ("proposals swapped", True)}
"""Nothing there to change: with RFC 9867 no USE_PPK comes back, and one proposal is chosen."""


def meddle(change: Change, *, response: bool) -> Callable[[Flight], list[tuple[float, bytes]]]:
    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        if flight.header.exchange != X.IKE_SA_INIT or flight.header.response is not response:
            return no_fault(flight)
        payloads = change(list(decode_message(flight.data).payloads))
        return [(0.0, encode_message(flight.header, payloads))]

    return fault


def suspicions(pair: Pair) -> list[DowngradeSuspected]:
    return [e for side in pair.sides for e in side.events if isinstance(e, DowngradeSuspected)]


def known_pair(judge=None, **options) -> Pair:
    """Each side has seen the other in an authenticated IKE SA, which is gone again."""
    pair = Pair(ike=BOTH, toy_kex=True, **options)
    if judge is not None:
        pair.moon.judge = pair.sun.judge = judge
    pair.initiate()
    assert pair.moon.ups
    assert pair.sun.ups
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(60)
    for side in pair.sides:
        side.events.clear()
    return pair


@pytest.mark.parametrize("response", [False, True], ids=["request", "response"])
@pytest.mark.parametrize("mode", [PpkMode.PREFER, PpkMode.REQUIRE])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_table(row, mode, response):
    pair = known_pair(ppk=mode)
    pair.fault = meddle(row.change, response=response)
    pair.initiate()
    pair.run(150)
    if (row.name, response) in HARMLESS:
        assert pair.moon.ups
        assert not suspicions(pair)
        return
    assert not pair.moon.ups
    assert not pair.sun.ups or response  # the responder learns of it last
    assert not any(side.facts.ike for side in pair.sides)
    pair.check_empty()
    pair.check_settled()
    named = row.named if row.named_response is None or not response else row.named_response
    told = {name for suspicion in suspicions(pair) for name in suspicion.missing}
    assert set(named) <= told
    assert bool(named) == bool(told)


@pytest.mark.parametrize("response", [False, True], ids=["request", "response"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_nothing_weaker_comes_up_even_where_policy_would_take_it(row, response):
    pair = Pair(ike=WEAKER_TOO, allow_classical=True)
    pair.fault = meddle(row.change, response=response)
    pair.initiate()
    pair.run(150)
    if pair.moon.ups:
        assert (row.name, response) in HARMLESS
        assert pair.moon.established[0].key_exchanges == ("X25519", "ML-KEM-768")
    else:
        pair.check_empty()


@pytest.mark.parametrize("response", [False, True], ids=["request", "response"])
def test_stripped_hash_algorithms_between_certificates(response):
    """Only who signs announces them (RFC 7427 4), so the table has no row for it."""
    pki = Pki()
    moon, sun = pki.issue("moon"), pki.issue("sun")
    pair = known_pair(
        moon={"local_auth": moon.auth, "remote_auth": pki.trusted},
        sun={"local_auth": sun.auth, "remote_auth": pki.trusted},
        judge=judge(pki.anchors()),
    )
    pair.fault = meddle(without(NotifyType.SIGNATURE_HASH_ALGORITHMS), response=response)
    attempt(pair)
    assert not pair.moon.ups
    assert not any(side.facts.ike for side in pair.sides)
    pair.check_empty()
    assert {one.missing for one in suspicions(pair)} == {("SIGNATURE_HASH_ALGORITHMS",)}


def test_nothing_changed():
    """The same message taken apart and put together again does no harm."""
    pair = known_pair()
    pair.fault = meddle(lambda payloads: payloads, response=False)
    pair.initiate()
    pair.check_mirrored()
    assert not suspicions(pair)


# --- what the operator is told ---------------------------------------------------------------


def told_by_sun(pair: Pair) -> list[tuple[str, ...]]:
    return [e.missing for e in pair.sun.events if isinstance(e, DowngradeSuspected)]


def attempt(pair: Pair) -> None:
    pair.initiate()
    pair.run(150)


def test_an_episode_is_told_once_and_ends_with_a_good_ike_sa():
    pair = known_pair()
    pair.fault = meddle(without_vendor_id, response=False)
    for _ in range(3):
        attempt(pair)
    assert told_by_sun(pair) == [("Vendor ID",)]
    pair.fault = meddle(without(FRAGMENTATION), response=False)  # more of it is news
    attempt(pair)
    assert told_by_sun(pair)[1:] == [("IKEV2_FRAGMENTATION_SUPPORTED", "Vendor ID")]
    pair.fault = no_fault
    pair.initiate()
    over = [e for e in pair.sun.events if isinstance(e, DowngradeSuspicionOver)]
    assert len(over) == 1


def test_a_suspicion_without_another_sign_ends_by_itself():
    pair = known_pair()
    pair.fault = meddle(without_vendor_id, response=False)
    attempt(pair)
    pair.run(limits.DOWNGRADE_EPISODE)
    assert [type(e) for e in pair.sun.events][-1] is DowngradeSuspicionOver


def test_a_peer_that_really_changed_is_believed():
    """Its AUTH covers that it no longer offers something; from then on nothing is missing."""
    pair = known_pair(ppk=PpkMode.PREFER)
    (child,) = pair.moon.connection.children
    conn = replace(pair.moon.connection, children=(replace(child, ppk=PpkMode.OFF),))
    pair.moon.endpoint.set_connections([conn], pair.now)
    pair.initiate(ppk=False)
    assert pair.moon.ups
    assert pair.sun.ups
    assert not suspicions(pair)
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(60)
    pair.fault = lambda flight: [] if flight.header.exchange == X.IKE_AUTH else no_fault(flight)
    pair.initiate(ppk=False)
    pair.run(200)
    assert not suspicions(pair)


def test_a_failure_with_nothing_missing_is_no_downgrade():
    pair = known_pair(sun={"psk": b"a pre-shared key of some length"})
    pair.fault = lambda flight: [] if flight.header.exchange == X.IKE_AUTH else no_fault(flight)
    attempt(pair)
    assert pair.moon.failures
    assert not suspicions(pair)


def test_a_request_alone_is_no_attempt():
    """Anybody can send one from the peer's address; no answer of ours comes back to him."""
    pair = known_pair()
    pair.fault = meddle(without_vendor_id, response=False)
    real = pair.fault
    pair.fault = lambda flight: (
        real(flight) if not flight.header.response and flight.number == len(pair.sent) - 1
        and flight.header.exchange == X.IKE_SA_INIT else []
    )  # fmt: skip
    attempt(pair)
    assert not told_by_sun(pair)


@pytest.mark.parametrize("method", [KeMethod.SECP256R1, KeMethod.X25519, 14])
def test_a_forged_invalid_ke_payload_leads_nowhere_weaker(method):
    """The responder chooses by the proposals, whatever KE payload it is sent."""
    pair = Pair(ike=BOTH)

    def forge(flight):
        if flight.number == 1:
            header = replace(flight.header, spi_r=bytes(8))
            data = int(method).to_bytes(2, "big")
            notify = NotifyPayload(type=NotifyType.INVALID_KE_PAYLOAD, data=data)
            return [(0.0, encode_message(header, [notify])), (0.1, flight.data)]
        return no_fault(flight)

    pair.fault = forge
    pair.initiate()
    pair.run(150)
    if pair.moon.ups:
        assert pair.moon.established[0].key_exchanges == ("X25519", "ML-KEM-768")
    else:
        pair.check_empty()


def test_forged_cookies_are_put_up_with_for_a_while():
    pair = Pair()
    count = 0

    def forge(flight):
        nonlocal count
        if flight.sender == "sun" and flight.header.exchange == X.IKE_SA_INIT:
            count += 1
            notify = NotifyPayload(type=NotifyType.COOKIE, data=b"%d" % count)
            header = replace(flight.header, spi_r=bytes(8))
            return [(0.0, encode_message(header, [notify]))]
        return no_fault(flight)

    pair.fault = forge
    attempt(pair)
    requests = [f for f in pair.sent if f.sender == "moon" and f.header.exchange == X.IKE_SA_INIT]
    assert len({f.data for f in requests}) == 1 + limits.COOKIE_ROUNDS_MAX
    pair.check_empty()


# --- policy that changes half-way ------------------------------------------------------------


@pytest.mark.parametrize("strict", ["moon", "sun"])
@pytest.mark.parametrize("response", [False, True])
def test_require_set_during_followup_is_obeyed(strict, response):
    pair = Pair().initiate()
    side = pair.moon if strict == "moon" else pair.sun

    def fault(flight):
        if (flight.header.exchange, flight.header.response) == (X.IKE_FOLLOWUP_KE, response):
            side.endpoint.set_ppk_mode("net", PpkMode.REQUIRE, pair.now)
        return no_fault(flight)

    pair.fault = fault
    pair.rekey(ppk=False)
    pair.run(10)
    if strict == "sun" and response:  # its SAs were in the kernel when it answered
        return
    assert len(side.ups) == 1
    assert any(one.ppk_missing for one in side.failures)
    pair.check_mirrored()


def test_vendor_id_is_what_we_say_it_is():
    pair = Pair().initiate()
    first = decode_message(pair.sent[0].data).payloads
    assert any(isinstance(one, VendorIdPayload) and one.data == VENDOR_ID for one in first)
