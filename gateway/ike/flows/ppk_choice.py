"""Finding the PPK a peer offers by RFC 9867: in the last IKE_INTERMEDIATE, or for a child.

initiator                                        responder
..., N(PPK_IDENTITY_KEY)(ID | Confirmation)  -->
                                                 dec_keys(ID), compare Confirmation
                                             <-- ..., N(PPK_IDENTITY)(ID)     if it fits
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.crypto.secret import Secret
from gateway.ike.commands import FetchPpk
from gateway.ike.config import PpkMode
from gateway.ike.flow import Flow, PpkMissingError, fetch_ppk
from gateway.ike.limits import PPK_FETCHES_PER_EXCHANGE, PPK_OFFERS_READ_MAX
from gateway.ike.payloads import NotifyPayload
from gateway.ike.ppk import (
    HeldPpk,
    PpkOffer,
    confirms,
    decode_offer,
    encode_offer,
    encode_ppk_id,
    key_id_of,
)
from gateway.ike.received import Received
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa, KeyPolicy
from gateway.ike.states import IkeState
from gateway.model import KeyId

Confirm = Callable[[Secret], bytes]
"""PPK -> PPK Confirmation in this exchange."""


# --- initiator -------------------------------------------------------------------------------


def offer(ppk: HeldPpk, confirm: Confirm) -> NotifyPayload:
    data = encode_offer(ppk.key_id, confirm(ppk.key))
    return NotifyPayload(type=NotifyType.PPK_IDENTITY_KEY, data=data)


def accepted(received: Received, ppk: HeldPpk) -> bool:
    """Whether the responder took the key we offered. No other answer than ours counts."""
    answer = received.notify(NotifyType.PPK_IDENTITY)
    return answer is not None and answer.data == encode_ppk_id(ppk.key_id)


def without(sa: IkeSa, policy: KeyPolicy, ppk: HeldPpk | None, error: NotifyType) -> None:
    """No PPK is mixed in: end here, or note it, as policy has it now.

    ``ppk``: what we offered and the responder did not take. PpkMissingError(``error``).
    """
    reason = "no QKD key was offered"
    if ppk is not None:
        reason = "peer did not take the QKD key we offered"
        ppk.settle(used=False, reason=reason, refused=True)
    if policy.mode is PpkMode.REQUIRE:
        raise PpkMissingError(error, f"{reason}, and policy requires one")
    if ppk is not None:
        sa.ppk_not_used(policy, ppk.key_id, reason)


# --- responder -------------------------------------------------------------------------------


def choose(
    sa: IkeSa, policy: KeyPolicy, received: Received, confirm: Confirm, refusal: NotifyType
) -> Flow[HeldPpk | None]:
    """The first offered key we can get and that the peer really holds, as ``policy`` has it.

    PpkMissingError(``refusal``) where policy requires one and there is none.
    """
    held = yield from find(sa, policy, received, confirm)
    if not isinstance(held, str):
        return held
    if policy.mode is PpkMode.REQUIRE:
        raise PpkMissingError(refusal, f"{held}, and policy requires one")
    offers = _offers(received)
    if offers or policy.mode is not PpkMode.OFF:
        sa.ppk_not_used(policy, key_id_of(offers[0].ppk_id) if offers else None, held)
    return None


def find(sa: IkeSa, policy: KeyPolicy, received: Received, confirm: Confirm) -> Flow[HeldPpk | str]:
    """The first offered key we can get and that the peer really holds, or why there is none."""
    offers = _offers(received)
    if policy.mode is PpkMode.OFF:
        return "QKD keys are switched off here"
    if not offers:
        return "peer offered no QKD key"
    return (yield from _first_good(sa, policy, offers, confirm))


def _offers(received: Received) -> list[PpkOffer]:
    return [decode_offer(notify.data) for notify in received.notifies(NotifyType.PPK_IDENTITY_KEY)]


def answer(held: HeldPpk) -> NotifyPayload:
    return NotifyPayload(type=NotifyType.PPK_IDENTITY, data=encode_ppk_id(held.key_id))


def _first_good(
    sa: IkeSa, policy: KeyPolicy, offers: list[PpkOffer], confirm: Confirm
) -> Flow[HeldPpk | str]:
    reason = "peer offered no key_ID in the form of a UUID"
    fetches = 0
    for one in offers[:PPK_OFFERS_READ_MAX]:
        key_id = key_id_of(one.ppk_id)
        if key_id is None or encode_ppk_id(key_id) != one.ppk_id:
            continue
        fetches += 1
        if fetches > PPK_FETCHES_PER_EXCHANGE:
            break
        held = yield from fetch(sa, policy, key_id)
        if isinstance(held, str):
            reason = held
            continue
        if confirms(confirm(held.key), one.confirmation):
            return held
        reason = f"QKD key {key_id} differs from the peer's (PPK confirmation)"
        held.settle(used=False, reason=reason)
    return reason


def fetch(sa: IkeSa, policy: KeyPolicy, key_id: KeyId) -> Flow[HeldPpk | str]:
    """The key with this ID, or why there is none. Limited while the peer is a stranger."""
    stranger = sa.state is not IkeState.ESTABLISHED
    source = sa.remote[0]
    if stranger and not sa.env.fetches.admit(source, sa.peering.name, sa.now):
        return "too many key look-ups for peers that are not authenticated"
    tunnel = policy.key_source
    command = FetchPpk(token=sa.env.desk.token(), tunnel=tunnel, key_id=key_id)
    try:
        got = yield from fetch_ppk(command)
    finally:
        if stranger:
            sa.env.fetches.release(source, sa.peering.name)
    if isinstance(got, str):
        return f"no QKD key {key_id}: {got}"
    return HeldPpk(got, tunnel=tunnel, outbox=sa.env.outbox)
