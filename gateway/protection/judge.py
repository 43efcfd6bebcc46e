"""Judges an input against the tunnel's policy: which trigger of the table it is, and why."""

from __future__ import annotations

from typing import assert_never

from gateway.model import Ended, Protection, QkdPolicy
from gateway.protection.facts import TunnelFacts
from gateway.protection.inputs import (
    AttemptFailed,
    Health,
    Input,
    KeyStock,
    OperatorInitiate,
    OperatorRekey,
    OperatorTerminate,
    PeerFailed,
    PeerLost,
    QuantumHealth,
    SaDown,
    SaExpiring,
    SaUp,
    TrafficCeased,
    TrafficWaiting,
)
from gateway.protection.table import State, Trigger

Judged = tuple[Trigger, str]


def judge(item: Input, facts: TunnelFacts, now: float) -> Judged | None:
    """The trigger and its reason; None when the input only changed what is known."""
    match item:
        case QuantumHealth():
            return _judge_health(item, facts, now)
        case KeyStock():
            facts.quantum.note_stock(item, now)
            return None
        case SaUp():
            return _judge_sa(item, facts)
        case SaDown():
            facts.ended = item.ended
            return Trigger.SA_GONE, item.reason
        case PeerLost():
            facts.ended = Ended.PEER_LOST
            return Trigger.SA_GONE, item.reason
        case AttemptFailed():
            return _judge_failure(item, facts)
        case PeerFailed():
            if facts.state is State.DOWN:
                facts.trouble, facts.troubled = item.reason, True
            return None
        case SaExpiring():
            return Trigger.EXPIRING, "the SA reached its soft limit"
        case TrafficWaiting():
            waits = facts.trapping and not facts.connecting and facts.attempt is None
            return (Trigger.TRAFFIC, item.reason) if waits else None
        case TrafficCeased():
            is_up = facts.state in (State.HYBRID, State.DEGRADED)
            return (Trigger.IDLE, item.reason) if is_up else None
        case OperatorInitiate():
            return Trigger.OPERATOR_INITIATE, item.reason
        case OperatorRekey():
            return Trigger.OPERATOR_REKEY, "the operator asked for it"
        case OperatorTerminate():
            return Trigger.OPERATOR_TERMINATE, "terminated by the operator"
        case _:
            assert_never(item)


def _judge_health(item: QuantumHealth, facts: TunnelFacts, now: float) -> Judged | None:
    if facts.settings.qkd is QkdPolicy.OFF:
        return None
    was_suspect = facts.quantum.suspect
    facts.quantum.note_health(item, now)
    if item.state is Health.SUSPECT and not was_suspect:
        trigger = Trigger.SUSPECTED_FATAL if facts.needs_key else Trigger.SUSPECTED_TOLERATED
        return trigger, item.reason
    if was_suspect and item.state is not Health.SUSPECT:
        # keys delivered while the link was suspect are no better than those just before
        return Trigger.CLEARED, "delivered while the quantum link was suspect"
    return None


def _judge_sa(item: SaUp, facts: TunnelFacts) -> Judged:
    facts.sa = item.protection
    facts.sa_initiated = item.initiated
    offered = item.offered_ppk
    if item.initiated and facts.attempt is not None:
        offered = facts.attempt.with_ppk  # only the initiator of an exchange offers
        facts.attempt = None
    classical = item.protection is Protection.CLASSICAL
    if classical and not facts.settings.allow_classical:
        return Trigger.SA_REFUSED, f"no {facts.settings.what} without ML-KEM is allowed"
    if item.keyed:
        if facts.quantum.suspect:
            trigger = Trigger.SA_REFUSED if facts.needs_key else Trigger.SA_TAINTED
            return trigger, "keyed from a suspect quantum link"
        if classical:
            return Trigger.SA_HYBRID, "keyed with QKD and ECDH, without ML-KEM"
        return Trigger.SA_HYBRID, "keyed with QKD, ML-KEM and ECDH"
    if facts.needs_key:
        return Trigger.SA_REFUSED, f"policy wants QKD, and the peer made it {item.protection}"
    if offered:
        return Trigger.SA_KEYLESS, "one end had no QKD key"
    return Trigger.SA_DEGRADED, _why_degraded(facts)


def _why_degraded(facts: TunnelFacts) -> str:
    if facts.settings.qkd is QkdPolicy.OFF:
        return f"QKD is off for this {facts.settings.what}"
    if facts.quantum.health is not Health.HEALTHY:
        return facts.quantum.reason
    if facts.quantum.ready == 0:
        return "no QKD key at hand"
    return "QKD is back but not yet for long enough"


def _judge_failure(item: AttemptFailed, facts: TunnelFacts) -> Judged | None:
    attempt = facts.attempt
    if attempt is None or item.rekey not in (None, attempt.rekey):
        return None  # of an attempt that was given up
    facts.attempt = None
    facts.key_spent_in_vain = attempt.with_ppk and item.auth_failed and not item.ppk_missing
    if item.ppk_missing and facts.needs_key:
        facts.peer_lacks_key = True
        if attempt.with_ppk:
            facts.quantum.ripen()
        return Trigger.KEY_MISSING_FATAL, item.reason
    if item.ppk_missing and attempt.with_ppk:
        return Trigger.KEY_MISSING_TOLERATED, item.reason
    return Trigger.FAILED, item.reason
