"""Replacing a Child SA without losing a packet, as initiator (RFC 7296 2.8).

CREATE_CHILD_SA, IKE_FOLLOWUP_KE for every additional key exchange, then
1. both new SAs go into the kernel: we can receive on them
2. our outbound traffic moves to the new one: the peer can receive on it since it answered
3. INFORMATIONAL with Delete for the old one: the peer moves its traffic
4. the old outbound SA goes; the old inbound one stays for packets in flight
"""

from __future__ import annotations

from gateway.errors import QsgwError
from gateway.ike.attempt import ChildAttempt, ChildSecrets
from gateway.ike.child import ChildSa
from gateway.ike.collision import OwnRekey
from gateway.ike.commands import TakePpk
from gateway.ike.config import PpkMode
from gateway.ike.errors import ProtocolError
from gateway.ike.flow import (
    CommandError,
    ExchangeError,
    Flow,
    Fulfilled,
    PpkMissingError,
    YieldedError,
    fetch_ppk,
)
from gateway.ike.flows import create_child, followup_ke, informational, ppk_choice
from gateway.ike.ppk import HeldPpk
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa
from gateway.ike.states import ChildInput, ChildState
from gateway.ike.steering import bring_up
from gateway.ike.wish import NO_KEY


def move(attempt: ChildAttempt) -> Flow[None]:
    """Make a child for a tunnel that has one in another IKE SA, which is about to go."""
    sa, tunnel = attempt.sa, attempt.tunnel
    ppk = None
    if sa.takes_fresh_ppk and tunnel.mode is not PpkMode.OFF:
        got = yield from fetch_ppk(TakePpk(token=sa.env.desk.token(), tunnel=tunnel.name))
        if not isinstance(got, str):
            ppk = HeldPpk(got, tunnel=tunnel.name, outbox=sa.env.outbox)
    if ppk is None and tunnel.mode is PpkMode.REQUIRE and not sa.shares_ppk:
        raise PpkMissingError(NotifyType.NO_PROPOSAL_CHOSEN, NO_KEY)
    yield from rekey(attempt, ppk)


def rekey(attempt: ChildAttempt, ppk: HeldPpk | None) -> Flow[None]:
    """Make a child, in place of ``attempt.replaces`` if that is one.

    ``ppk`` is settled when this ends.
    """
    sa, old = attempt.sa, attempt.replaces
    own = OwnRekey()
    if old is not None:
        old.happened(ChildInput.REKEY)
        old.own_rekey = own
    try:
        child = yield from _negotiate(sa, attempt, own, ppk)
        yield from _activate(sa, child)
        yield Fulfilled()
    except ExchangeError as error:
        if own.rival is None or isinstance(error, YieldedError):
            raise
        raise YieldedError("a Child SA") from error  # the peer was quicker
    finally:
        attempt.abandon()
        own.wipe()
        if ppk is not None:
            ppk.settle(used=False, reason="the Child SA did not come up")
        if old is not None:
            old.own_rekey = None
            if old.state is ChildState.REKEYING:
                old.happened(ChildInput.REKEY_END)
    if old is not None and old.state is ChildState.REPLACED:
        yield from informational.delete_child(sa, old, reason="rekeyed", rekeyed=True)


def _negotiate(
    sa: IkeSa, attempt: ChildAttempt, own: OwnRekey, ppk: HeldPpk | None
) -> Flow[ChildSa]:
    """From the first message to both SAs in the kernel."""
    yield from attempt.reserve()
    try:
        opened, traffic = yield from create_child.initiate(sa, attempt, own, ppk)
        if own.yields(opened.lowest_nonce):
            if not opened.chosen.additional:  # else it never comes into being
                yield from informational.delete_spis([attempt.spi_octets])
            raise YieldedError("a Child SA")
        sa.drop_pending(own.rival, "the peer's rekey of the same Child SA gives way")
        bare = opened.ppk is None and (attempt.replaces is not None or not sa.shares_ppk)
        if bare:
            ppk_choice.without(sa, attempt.tunnel, ppk, NotifyType.NO_PROPOSAL_CHOSEN)
        yield from followup_ke.initiate(sa, own, opened, attempt.tunnel.config.esp_proposals)
        if bare:  # policy may have changed meanwhile
            ppk_choice.without(sa, attempt.tunnel, None, NotifyType.NO_PROPOSAL_CHOSEN)
        secrets = ChildSecrets(nonces=opened.nonces, shared=own.secrets, ppk=opened.ppk)
        child = yield from attempt.install(opened.chosen, traffic, secrets)
    except (ProtocolError, CommandError):
        # We do not like the peer's answer: it may have the child in its kernel, we have not.
        yield from informational.delete_spis([attempt.spi_octets])
        raise
    if ppk is not None:
        ppk.settle(used=opened.ppk is not None, reason="mixed into a Child SA")
    return child


def _activate(sa: IkeSa, child: ChildSa) -> Flow[None]:
    try:
        yield from bring_up(sa, child)
    except QsgwError:
        reason = "outbound traffic could not be moved to it"
        yield from informational.delete_child(sa, child, reason=reason, rekeyed=False)
        raise
