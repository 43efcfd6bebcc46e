"""Somebody on the way takes an offer out of IKE_SA_INIT: AUTH covers it, so nothing comes up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.ike.config import PpkMode
from gateway.ike.message import decode_message, encode_message
from gateway.ike.payloads import NotifyPayload, Payload, SaPayload, VendorIdPayload
from gateway.ike.registry import ADDITIONAL_KE_TYPES, NotifyType
from gateway.ike.registry import ExchangeType as X
from tests.support.ike_pair import IKE_HYBRID, Flight, Pair

Strip = Callable[[Payload], list[Payload]]


def without(kind: NotifyType) -> Strip:
    return lambda one: [] if isinstance(one, NotifyPayload) and one.type == kind else [one]


def without_vendor_id(one: Payload) -> list[Payload]:
    return [] if isinstance(one, VendorIdPayload) else [one]


def without_ml_kem(one: Payload) -> list[Payload]:
    if not isinstance(one, SaPayload):
        return [one]
    left = tuple(
        replace(
            each,
            transforms=tuple(t for t in each.transforms if t.type not in ADDITIONAL_KE_TYPES),
        )
        for each in one.proposals
    )
    return [SaPayload(proposals=left)]


OFFERS = {
    "use-ppk-int": without(NotifyType.USE_PPK_INT),
    "use-ppk": without(NotifyType.USE_PPK),
    "intermediate": without(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED),
    "fragmentation": without(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
    "vendor-id": without_vendor_id,
    "ml-kem": without_ml_kem,
}


def strip(what: Strip, *, response: bool) -> Callable[[Flight], list[tuple[float, bytes]]]:
    def fault(flight: Flight) -> list[tuple[float, bytes]]:
        if flight.header.exchange != X.IKE_SA_INIT or flight.header.response is not response:
            return [(0.0, flight.data)]
        payloads = [left for one in decode_message(flight.data).payloads for left in what(one)]
        return [(0.0, encode_message(flight.header, payloads))]

    return fault


@pytest.mark.parametrize("response", [False, True], ids=["request", "response"])
@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("mode", [PpkMode.PREFER, PpkMode.REQUIRE])
@pytest.mark.parametrize("classical", [False, True])
def test_stripped_offer(offer, response, mode, classical):
    """Even where policy would be content with what is left."""
    ike = (IKE_HYBRID, "aes256gcm16-prfsha512-x25519-ke1_mlkem768-ke1_none")
    pair = Pair(ppk=mode, ike=ike, allow_classical=classical)
    pair.fault = strip(OFFERS[offer], response=response)
    pair.initiate()
    pair.run(150)
    if (offer, response) == ("use-ppk", True):  # RFC 9867 was agreed: there is none to take out
        assert pair.moon.ups
        return
    assert not pair.moon.ups
    assert not pair.sun.ups or response  # the responder learns of it last
    assert not any(side.facts.ike for side in pair.sides)
    pair.check_empty()
    pair.check_settled()


def test_nothing_stripped():
    """The same message taken apart and put together again does no harm."""
    pair = Pair()
    pair.fault = strip(lambda one: [one], response=False)
    pair.initiate()
    pair.check_mirrored()
