"""When a key server makes a new SAK (9.8.1), and how (9.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.mka.limits import LIFE_TIME
from gateway.mka.participant import Participant
from gateway.mka.peers import Peer
from gateway.mka.registry import Capability, Confidentiality
from gateway.mka.sak import Sak
from gateway.mka.settings import PortSettings

_AT_ONCE: Final = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Why there should be a new SAK, and from when on there may be one."""

    reason: str
    at: float  # minus infinity: at once
    urgent: bool  # does not wait until a rollover that is under way has come to its end


def agreed_confidentiality(settings: PortSettings, live: list[Peer]) -> Confidentiality | None:
    """9.6, 9.7: what all that want MACsec are capable of; None: no MACsec.

    Never less than what is configured but for an offset, which not everybody has: without one
    more is encrypted, not less.
    """
    capable = [peer.basic.capability for peer in live if peer.secures]
    if not capable or not settings.secures:
        return None
    common = min(capable)
    wanted = settings.confidentiality
    if wanted.needs <= common:
        return wanted
    return Confidentiality.OFFSET_0 if common >= Capability.CONFIDENTIALITY else None


def need_of(
    participant: Participant,
    newest: Sak | None,
    settings: PortSettings,
    *,
    requested: str | None,
    failed_at: float | None,
) -> Need | None:
    """``participant`` is principal and key server, ``newest`` the last SAK on the port."""
    live = participant.peers.securing
    made_at = participant.sak_made_at
    # 9.8.1: the MKA Life Time since the last one, or nobody who may be about to become live
    spaced = _AT_ONCE if made_at is None else made_at + LIFE_TIME
    urgent = _urgent(participant, newest, live)
    if failed_at is not None:  # the SecY refused the last one: no hurry to make another
        return Need(
            reason="the SecY refused the last SAK",
            at=max(spaced, failed_at + LIFE_TIME),
            urgent=False,
        )
    if urgent is not None:
        at = spaced if participant.peers.potential else _AT_ONCE
        return Need(reason=urgent, at=at, urgent=True)
    assert newest is not None
    reason = requested or _exhausted(newest, live)
    if reason is None and newest.departed:
        reason = "a member left"
    if reason is not None:
        return Need(reason=reason, at=spaced, urgent=False)
    if settings.sak_lifetime is not None and made_at is not None:
        at = made_at + settings.sak_lifetime
        return Need(reason="the SAK's lifetime is over", at=at, urgent=False)
    return None


def _urgent(participant: Participant, newest: Sak | None, live: list[Peer]) -> str | None:
    if newest is None:
        return "there is none"
    if newest.ckn != participant.ckn:
        return "another CAK"
    if newest.ki.mi != participant.mi:
        return "elected key server"
    if any(peer.mi not in newest.members for peer in live):
        return "a member joined"
    # It had the SAK and has it no more. It must not get the same one a second time.
    lapsed = (peer for peer in live if peer.mi in newest.received_by)
    if any(not peer.receives(newest.ki) for peer in lapsed):
        return "a member lost the SAK"
    return None


def _exhausted(newest: Sak, live: list[Peer]) -> str | None:
    """9.8: ours, or as a member's lowest acceptable PN shows it."""
    numbers = (newest.pn, *(peer.lowest_pn(newest.ki) for peer in live))
    return "packet numbers run out" if max(numbers) >= newest.pn_limit else None
