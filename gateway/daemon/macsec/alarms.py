"""Which alarms stand for one link, as a function of what is so."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.mka.limits import LIFE_TIME
from gateway.model import PortState, Protection, Severity

START_GRACE = 2 * LIFE_TIME  # seconds a link may take to come up the first time

Alarms = dict[str, tuple[Severity, str]]

ALARMS = (
    "macsec-interface-missing",
    "macsec-interface-down",
    "macsec-device",
    "macsec-clear",
    "macsec-blocked",
    "macsec-down",
    "macsec-static-cak",
    "macsec-peer-foreign",
    "macsec-peer-refused",
    "macsec-parent-in-use",
    "cak-not-renewed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One link now. Times are monotonic seconds; texts are None where that is not so."""

    now: float
    interface: str
    protection: Protection
    reason: str
    since: float
    was_up: bool
    earlier_run: bool  # SAs of one carry traffic
    stopped: bool  # the operator terminated the connection
    port: PortState
    static: bool
    filtered: bool
    missing: str | None  # why there is no parent interface
    down: bool  # the parent is down or has no carrier
    refused: str | None  # what the kernel says to the device we want
    addressed: tuple[str, ...]  # the parent has these of its own
    foreign_peer: str | None  # who keeps no CAK with us
    refusal: str | None  # who is there with another key
    not_renewed: str | None


def standing(now: Situation) -> Alarms:
    """Alarm id -> severity and text."""
    alarms: Alarms = {}
    critical, warning = Severity.CRITICAL, Severity.WARNING
    if now.missing is not None:
        alarms["macsec-interface-missing"] = (critical, now.missing)
    elif now.down:
        text = f"{now.interface} is down or has no carrier"
        alarms["macsec-interface-down"] = (critical, text)
    if now.refused is not None:
        alarms["macsec-device"] = (critical, now.refused)
    if now.addressed:
        drops = "nothing passes" if now.filtered else "traffic passes unprotected"
        text = (
            f"{now.interface} has addresses of its own, where {drops}: {', '.join(now.addressed)}"
        )
        alarms["macsec-parent-in-use"] = (warning, text)
    if now.foreign_peer is not None:
        alarms["macsec-peer-foreign"] = (critical, now.foreign_peer)
    if now.refusal is not None:
        alarms["macsec-peer-refused"] = (warning, now.refusal)
    if now.not_renewed is not None:
        alarms["cak-not-renewed"] = (warning, now.not_renewed)
    if now.static and now.protection is Protection.CLASSICAL:
        text = "the CAK was agreed by hand: it is not known what protects it, and nothing renews it"
        alarms["macsec-static-cak"] = (warning, text)
    alarms |= _no_sak(now)
    return alarms


def _no_sak(now: Situation) -> Alarms:
    if now.port is PortState.CLEAR:
        return {"macsec-clear": (Severity.CRITICAL, f"traffic passes unprotected: {now.reason}")}
    text = f"traffic is dropped: {now.reason}"
    if now.protection is Protection.BLOCKED:
        return {"macsec-blocked": (Severity.CRITICAL, text)}
    late = now.was_up or now.now - now.since >= START_GRACE
    said = now.stopped or now.earlier_run or now.down or now.missing is not None
    if now.protection is Protection.DOWN and late and not said:
        return {"macsec-down": (Severity.CRITICAL, text)}
    return {}
