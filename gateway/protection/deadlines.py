"""Every deadline of a tunnel, from what is known; nothing is remembered but the facts.

A deadline that depends on keys is there only while there are keys, so none can stand in the
past: what is due runs, and running it moves or removes it.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.model import QkdPolicy
from gateway.protection.facts import TunnelFacts
from gateway.protection.interval import rekey_interval
from gateway.protection.settings import (
    ATTEMPT_LIMIT,
    BACKUP_FACTOR,
    HARD_AGE_FACTOR,
    REKEY_SPREAD,
    REQUIRED_LEAD,
    REQUIRED_LEAD_SHARE,
)
from gateway.protection.table import State, Trigger

Deadline = tuple[float, Trigger, str]


def deadlines(facts: TunnelFacts) -> Iterator[Deadline]:
    """When, which trigger, and why; of two due at once the first given goes first."""
    if facts.attempt is not None:
        yield facts.attempt.since + ATTEMPT_LIMIT, Trigger.FAILED, "no outcome in time"
    match facts.state:
        case State.DOWN:
            yield from _while_down(facts)
        case State.BLOCKED:
            yield from _while_blocked(facts)
        case State.HYBRID | State.DEGRADED:
            yield from _while_up(facts)
        case State.STOPPED:
            pass


def _while_down(facts: TunnelFacts) -> Iterator[Deadline]:
    if facts.attempt is not None:
        return
    wait = facts.first_wait_until or facts.started_at
    if facts.needs_key:
        trusted_at = facts.trusted_at()
        if trusted_at is None or trusted_at > max(facts.retry_at, wait):
            yield wait, Trigger.NO_KEY, _why_no_key(facts)
            return
    if facts.connecting:
        yield max(facts.retry_at, wait), Trigger.CONNECT_DUE, facts.last_reason


def _while_blocked(facts: TunnelFacts) -> Iterator[Deadline]:
    trusted_at = facts.trusted_at()
    if facts.attempt is None and trusted_at is not None:
        yield max(facts.retry_at, trusted_at), Trigger.KEYS_BACK, "QKD keys are at hand again"


def _while_up(facts: TunnelFacts) -> Iterator[Deadline]:
    settings = facts.settings
    ceiling = settings.rekey_max if facts.leads else BACKUP_FACTOR * settings.rekey_max
    yield (
        facts.sa_since + HARD_AGE_FACTOR * settings.rekey_max,
        Trigger.AGE_OVER,
        f"no rekey succeeded: {facts.last_reason}",
    )
    falls_back = facts.state is State.DEGRADED and settings.qkd is QkdPolicy.PREFER
    if falls_back and settings.degraded_max is not None:
        left = settings.degraded_max - facts.degraded_before
        yield facts.degraded_since + left, Trigger.DEGRADED_OVER, "degraded_max is over"
    if facts.attempt is not None:
        return
    trusted_at = facts.trusted_at()
    if falls_back and facts.leads and trusted_at is not None:
        yield max(facts.retry_at, trusted_at), Trigger.RETURN_DUE, "QKD is healthy again"
    if not facts.needs_key:
        yield _rekey(facts)
    elif trusted_at is not None:
        at, trigger, reason = _rekey(facts)
        yield max(at, trusted_at), trigger, reason
    life_over = facts.sa_since + ceiling
    if facts.needs_key and (trusted_at is None or trusted_at > life_over or facts.peer_lacks_key):
        if facts.peer_lacks_key and facts.failures <= 1:  # the next key may be of another KME
            life_over = max(life_over, facts.retry_at)  # of the two the rekey goes first
        yield life_over, Trigger.LIFE_OVER, _why_no_key(facts)


def _rekey(facts: TunnelFacts) -> Deadline:
    due = facts.sa_since + _interval(facts)
    if facts.rekey_wanted_at is not None and facts.rekey_wanted_at <= due:
        return max(facts.retry_at, facts.rekey_wanted_at), Trigger.REKEY_DUE, facts.last_reason
    return max(facts.retry_at, due), Trigger.REKEY_DUE, "the rekey interval is over"


def _interval(facts: TunnelFacts) -> float:
    settings = facts.settings
    if not facts.leads:
        return BACKUP_FACTOR * settings.rekey_max
    ceiling = settings.rekey_max * (1.0 - REKEY_SPREAD * settings.jitter)
    if facts.needs_key:
        ceiling -= min(REQUIRED_LEAD, REQUIRED_LEAD_SHARE * settings.rekey_max)
    if facts.state is State.DEGRADED:
        return ceiling
    return rekey_interval(
        ready=facts.quantum.ready,
        rate=facts.quantum.rate,
        reserve=settings.key_reserve,
        floor=min(settings.rekey_min, ceiling),
        ceiling=ceiling,
    )


def _why_no_key(facts: TunnelFacts) -> str:
    if facts.peer_lacks_key:
        return f"policy requires QKD: {facts.last_reason}"
    if facts.quantum.held and facts.quantum.ready:
        return "policy requires QKD: keys are back but not yet for long enough"
    return f"policy requires QKD: {facts.quantum.reason or 'no key at hand'}"
